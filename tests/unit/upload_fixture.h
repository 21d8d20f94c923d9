/*
 * upload_fixture.h: upload tiers over a GPU in memory and inner tiers of several kinds, and pages
 * whose content says who they are. Not a test itself.
 */
#ifndef UPLOAD_FIXTURE_H
#define UPLOAD_FIXTURE_H

#include "emu/gpu/upload_tier.h"
#include "tests/unit/memory_gpu.h"
#include "tests/unit/tier_conformance.h"
#include "tests/unit/tier_test_io.h"

typedef struct upload_shape {
	const char *name;
	/* memory is reached by way of staging where there is another tier around it: one that does
	 * nothing, one that holds I/Os back, one that refuses some for the moment, too */
	enum { INNER_MEMORY, INNER_STORE, INNER_WRAPPED, INNER_SLOW, INNER_BUSY } inner;
	const char *options; /* of it, lines "key = value" */
	kvt_upload_settings settings;
	enum { GPU_PROMPT, GPU_LATE, GPU_WITHOUT_SUMS } gpu;
} upload_shape;

typedef struct upload_rig {
	kvt_loop *loop;
	kvt_real_gpu *gpu;
	kvt_tier *inner, *tier; /* the latter is the upload tier */
	uint8_t *device;        /* its memory that reads may go to */
	uint64_t device_bytes;
	char *folder; /* of a store; or NULL */
} upload_rig;

/* Fails the test where the tier cannot be opened. */
upload_rig *upload_rig_new(const upload_shape *shape, uint64_t capacity, uint64_t device_bytes);

/* The same, before there is an upload tier, and its opening. */
upload_rig *upload_rig_begin(const upload_shape *shape, uint64_t capacity, uint64_t device_bytes);
void upload_rig_open(upload_rig *rig, const kvt_upload_settings *settings);

void upload_rig_free(upload_rig *rig);

/* Page numbers [first, first + n) of a layer in their `version`th version, page after page. */
void upload_fill(const kvt_extent *run, unsigned version, uint8_t *memory);

/* Writes the run from memory of the host. */
void upload_write(upload_rig *rig, const kvt_extent *run, unsigned version);

/* Whether device memory holds the run's pages so. */
bool upload_arrived(
	upload_rig *rig, const kvt_extent *run, unsigned version, const uint8_t *device);

/* A tier around the rig's that gives reads without memory some of the device's, for suites that
 * know nothing of memory. It takes the rig's tier over. */
kvt_tier *upload_to_device_new(upload_rig *rig);

#endif
