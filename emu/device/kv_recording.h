/*
 * kv_recording.h: keys, values and queries of a recorded attention trace, all of them in memory: a
 * model that ran, for the emulation to store, bring back and attend to. Not the trace's rows.
 */
#ifndef KVT_KV_RECORDING_H
#define KVT_KV_RECORDING_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct kvt_kv_recording {
	char *path, *model;              /* the file; the model's name and description */
	uint32_t n_layers, *layers;      /* recorded ones, by their numbers in the model */
	uint32_t kv_heads, heads;        /* heads: query heads that share a KV head */
	uint32_t head_dim, block_tokens; /* block_tokens: a page of the recording */
	float scale;                     /* a logit is scale x (query . key) */
	uint64_t n_tokens;               /* with keys and values, from token 0 on */
	uint64_t n_steps, *positions;    /* tokens with queries; rising, below n_tokens */
	uint16_t **keys, **values;       /* by layer: IEEE half [kv_heads][n_tokens][head_dim] */
	float **queries;                 /* by layer: [n_steps][kv_heads][heads][head_dim] */
} kvt_kv_recording;

/*
 * Reads a trace (traces/attention_trace.h). NULL with an error when it cannot be read, or a layer
 * in it is not global or lacks keys, values or queries.
 */
kvt_kv_recording *kvt_kv_recording_open(const char *path, GError **error);
void kvt_kv_recording_free(kvt_kv_recording *recording);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_kv_recording, kvt_kv_recording_free)

#endif
