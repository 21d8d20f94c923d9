/*
 * gpu_conformance.h: what every GPU of gpu.h must do, as GLib tests: memory and its cap, copies of
 * all ways, order within a stream and between streams, events, waits, attention and merges against
 * double precision. Not how fast.
 */
#ifndef GPU_CONFORMANCE_H
#define GPU_CONFORMANCE_H

#include "emu/gpu/gpu.h"

typedef struct gpu_conformance {
	const char *name; /* tests are /NAME/... */
	/* A GPU with a cap of bytes (0: its own); NULL where there is none, and tests are skipped,
	 * saying `missing`. */
	kvt_real_gpu *(*open)(uint64_t cap);
	const char *missing;
	/* how exactly it waits where nothing else runs, beyond what was asked for; 0: not looked at
	 */
	kvt_time wait_slack;
} gpu_conformance;

/* Registers the tests; stays the caller's. */
void gpu_conformance_add(const gpu_conformance *suite);

#endif
