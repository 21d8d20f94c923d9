/*
 * upload_tier.h: brings pages of a tier of the host into a GPU's memory. Reads into device memory
 * are copied there by the GPU itself: straight from where pages lie, if the tier is this machine's
 * memory (pinned_tier.h), which can be pinned whole; else from a staging area of pinned memory that
 * the tier reads into, in pieces. What is read into memory of the host, or written from there, is
 * the tier's alone; pages in device memory that are written go there first. Pages that come
 * straight are verified by the GPU where they arrived, and a read is over when they were. It
 * computes nothing else, and who may have which device memory is the device's business.
 *
 * I/Os are served by priority class, in order of submission within one, and none is passed over for
 * ever. What is under way is bounded: by the staging area, and by what copies the GPU is given at
 * once. A read that a discard overtakes ends with -ENOENT; a GPU that fails ends them with -EIO.
 * Pages of one I/O that goes through staging may be of before and after a write that was under way
 * beside it.
 */
#ifndef KVT_UPLOAD_TIER_H
#define KVT_UPLOAD_TIER_H

#include "emu/gpu/gpu.h"
#include "sim/tier/tier.h"

/* Who verifies pages that are copied from where they lie. */
typedef enum kvt_upload_verify {
	/* The GPU, where they arrived; pages that have no checksum there, of 256 bytes or more and
	 * a multiple of 16, as by the host. */
	KVT_UPLOAD_VERIFY_DEVICE,
	KVT_UPLOAD_VERIFY_HOST, /* the inner tier, where they lie */
	KVT_UPLOAD_VERIFY_NO,
} kvt_upload_verify;

/* [emulation upload] of an experiment file. */
typedef struct kvt_upload_settings {
	uint64_t staging; /* bytes; a page that is larger is refused with -EINVAL */
	int64_t buffers;  /* I/Os are cut so that as many pieces fit into staging */
	int verify; /* kvt_upload_verify; pages by way of staging are verified by their tier */
	int way;    /* kvt_gpu_copy_way */
} kvt_upload_settings;

extern const kvt_option kvt_upload_options[];

/*
 * `inner` becomes the new tier's own, unless NULL is returned with an error: closing the one closes
 * the other. It has the inner tier's name and flags. The environment's loop is a real one; GPU and
 * loop must outlive the tier.
 */
kvt_tier *kvt_upload_tier_new(const kvt_tier_env *env, kvt_real_gpu *gpu, kvt_tier *inner,
	const kvt_upload_settings *settings, GError **error);

/* Device memory that I/Os will name: a read with a run in it is brought there by the GPU, a write
 * taken from there. Memory of
 * the host is made known by register_memory, as to any tier. */
void kvt_upload_tier_add_device_memory(kvt_tier *tier, void *memory, uint64_t bytes);

typedef struct kvt_upload_counts {
	bool direct;          /* pages are copied from where they lie */
	uint64_t copied;      /* bytes, by the GPU */
	uint64_t calls, runs; /* copies it was given */
	uint64_t verified;    /* pages whose checksums it was asked for */
	uint64_t peak_staged; /* bytes of staging in use at once */
} kvt_upload_counts;

kvt_upload_counts kvt_upload_tier_counts(const kvt_tier *tier);

#endif
