/*
 * gpu_pages.h: where pages of keys and values lie in a GPU's memory: those that stay, of every
 * layer, and staging buffers; and the lists of pages that its kernels are given. It moves nothing
 * but the lists.
 */
#ifndef KVT_GPU_PAGES_H
#define KVT_GPU_PAGES_H

#include <glib.h>

#include "emu/device/kv_source.h"
#include "emu/gpu/gpu.h"
#include "sim/engine/device.h"

typedef struct kvt_gpu_pages kvt_gpu_pages;

/* What there is to be room for: of every layer tokens [0, resident) and the `newest` of `tokens`,
 * and staging buffers. */
typedef struct kvt_gpu_room {
	uint64_t tokens, resident, newest;
	uint64_t window_tokens; /* of a buffer */
	unsigned buffers;
} kvt_gpu_room;

/* The lists go to the device on the stream. NULL with an error when there is not as much memory. */
kvt_gpu_pages *kvt_gpu_pages_new(kvt_gpu_stream *stream, const kvt_kv_shape *shape,
	const kvt_gpu_room *room, GError **error);
void kvt_gpu_pages_free(kvt_gpu_pages *pages);

/* Calls `each` with the regions that pages lie in, now and whenever one is added. */
void kvt_gpu_pages_each(
	kvt_gpu_pages *pages, void (*each)(void *arg, void *memory, uint64_t bytes), void *arg);

/* Where the pages of a run lie at a place, one after another. Of KVT_PLACE_HOME memory is taken
 * where there was no room for the run: NULL when there is none. */
void *kvt_gpu_pages_memory(kvt_gpu_pages *pages, unsigned place, const kvt_extent *extent);

/* Where a page of a layer lies at home, and in *n how many lie behind it, itself included; NULL:
 * nowhere. */
uint8_t *kvt_gpu_pages_home(const kvt_gpu_pages *pages, unsigned layer, uint64_t page, uint64_t *n);

/* Appends the windows (kvt_cuda_window) that the tokens of a work (KVT_WORK_ATTENTION) lie in, as
 * few as there can be. False when some are nowhere. */
bool kvt_gpu_pages_windows(const kvt_gpu_pages *pages, const kvt_work *work, GArray *windows);

#endif
