/*
 * gpu_attention.h: the GPU device's attention: queries and new tokens' keys and values on the
 * device before anything is timed, kernels over the windows that a work's tokens lie in, partial
 * results, and what somebody looks at on its way to the host. It knows no time.
 */
#ifndef KVT_GPU_ATTENTION_H
#define KVT_GPU_ATTENTION_H

#include "emu/device/turn_tokens.h"
#include "emu/gpu/gpu_pages.h"
#include "emu/gpu/gpu_watch.h"

typedef struct kvt_gpu_attention kvt_gpu_attention;

/* All pointers must outlive it. */
typedef struct kvt_gpu_attention_settings {
	const kvt_kv_source *source;
	kvt_cuda_precision precision;
	uint64_t tokens, first_new; /* tokens [first_new, tokens) are those of passes */
	uint64_t pass_tokens;       /* of a pass, at most */
	kvt_attended attended;      /* on the loop, when it is there; may be NULL */
	kvt_attended_wanted wanted; /* of what; NULL: of everything */
	void *attended_arg;
} kvt_gpu_attention_settings;

/* Waits for the stream. NULL with an error without memory, or when the GPU has no kernel for the
 * source's shape. */
kvt_gpu_attention *kvt_gpu_attention_new(kvt_gpu_stream *stream, kvt_gpu_watch *watch,
	kvt_gpu_pages *pages, const kvt_gpu_attention_settings *settings, GError **error);
void kvt_gpu_attention_free(kvt_gpu_attention *attention);

/*
 * Queue what a work is on the stream; 0 or a negative errno. Of QKV: the tokens' keys and values go
 * to where they stay, and their queries are known from now on. Of attention and merges: that. Of
 * the output projection: what is wanted of the layer's attention goes to the host, beside the
 * stream.
 */
int kvt_gpu_attention_take(kvt_gpu_attention *attention, const kvt_work *work);
int kvt_gpu_attention_attend(kvt_gpu_attention *attention, const kvt_work *work);
int kvt_gpu_attention_merge(kvt_gpu_attention *attention, const kvt_work *work);
int kvt_gpu_attention_show(kvt_gpu_attention *attention, const kvt_work *work);

#endif
