/*
 * page_device.h: a device of sim/engine/replay_device.h whose memory is this machine's: every page
 * of a KV head has its place, threads attend to those that a step reads where they lie, and keys,
 * values and queries of new tokens are a recording's. A page that is not in HBM holds NaN, so that
 * nobody can attend to what was not brought back. It decides nothing.
 */
#ifndef KVT_PAGE_DEVICE_H
#define KVT_PAGE_DEVICE_H

#include "emu/loop/cores.h"
#include "emu/device/kv_recording.h"
#include "kernels/kernels.h"
#include "sim/engine/replay_device.h"

/* What a layer's attention came to, when it is over: output[kv_heads][heads][head_dim],
 * lse[kv_heads][heads]. */
typedef void (*kvt_pages_attended)(
	void *arg, const kvt_replay_call *call, const float *output, const float *lse);

typedef struct kvt_page_device_settings {
	kvt_loop *loop; /* a real one (real_loop.h) */
	const kvt_kv_recording *recording;
	uint64_t first_step; /* of the recording: the replay's step 0 */
	uint32_t n_pages, first_context;
	kvt_isa isa;
	unsigned threads;
	kvt_pages_attended attended; /* on the loop; may be NULL */
	void *attended_arg;
} kvt_page_device_settings;

/* All pointers must outlive the device, which holds every page of the recording's layers. NULL with
 * an error without memory or threads. */
kvt_replay_device *kvt_page_device_new(const kvt_page_device_settings *settings, GError **error);

/* Puts the threads where kvt_cores_place_compute() does. */
void kvt_page_device_place(kvt_replay_device *device, const kvt_cores *cores);

/* Calls `each` with every region of memory that pages are moved to and from. */
void kvt_page_device_regions(kvt_replay_device *device,
	void (*each)(void *arg, void *memory, uint64_t bytes), void *arg);

/* A page of one KV head: its keys [block_tokens][head_dim], then its values, half precision. */
uint64_t kvt_recorded_page_bytes(const kvt_kv_recording *recording);

/* Makes tokens [first, end) of the pages of a KV head from page first / block_tokens on, `pages`;
 * other tokens of them are left alone. layer: its index in the recording. */
void kvt_recorded_pages_fill(const kvt_kv_recording *recording, uint32_t layer, uint32_t kv_head,
	uint64_t first, uint64_t end, void *pages);

/* The kernel's shape of such pages, and of the recording's own rows of tokens. */
kvt_attention_shape kvt_recorded_shape(const kvt_kv_recording *recording);

#endif
