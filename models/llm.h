/*
 * llm.h: a language model as kvtier sees it: the shapes and number formats that decide how many
 * bytes its weights and KV take and how much work a token is. Not its weights, tokenizer or
 * accuracy. Read from models/llm/NAME.ini; sizes and work are computed in llm_cost.h.
 *
 *   [llm]        title, hidden, vocabulary, context_limit, tied_embeddings, extra_parameters
 *   [layers]     count; attention and mlp patterns such as `chunked*3 global` and
 *                `dense*3 moe*58`, repeated from layer 0 until every layer has one; window
 *   [attention]  form = grouped (MHA, GQA, MQA) or latent (DeepSeek's MLA), heads, widths, biases
 *   [mlp]        width of dense layers
 *   [experts]    of MoE layers: count, per_token, width, shared ones
 *   [precision]  number format of each part's weights, and of their scales
 *   [kv]         number format of the KV cache, and of its scales
 */
#ifndef KVT_LLM_H
#define KVT_LLM_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "models/dtype.h"

enum { KVT_LLM_LAYERS_MAX = 4096 };

/* Which earlier tokens a layer attends to. */
typedef enum kvt_attention_kind {
	KVT_ATTENTION_GLOBAL,  /* all */
	KVT_ATTENTION_CHUNKED, /* those of its own chunk: token t sees floor(t / window) x window ..
				  t */
	KVT_ATTENTION_SLIDING, /* the last `window`, itself included */
} kvt_attention_kind;

typedef enum kvt_mlp_kind { KVT_MLP_DENSE, KVT_MLP_MOE } kvt_mlp_kind;

typedef enum kvt_attention_form {
	KVT_ATTENTION_GROUPED, /* K and V of kv_heads x head_dim a token */
	KVT_ATTENTION_LATENT,  /* one vector of kv_rank + rope_dim a token, shared by all heads */
} kvt_attention_form;

/* Tensors that can have a number format of their own. */
typedef enum kvt_llm_part {
	KVT_PART_EMBEDDING,
	KVT_PART_HEAD, /* the LM head; shares the embedding's bytes when they are tied */
	KVT_PART_ATTENTION,
	KVT_PART_MLP,
	KVT_PART_EXPERTS,
	KVT_PART_SHARED_EXPERTS,
	KVT_PART_ROUTER,
	KVT_PART_NORM,
	KVT_PART_EXTRA, /* loaded beside the decoder: a vision encoder and its projector */
	KVT_PARTS,
} kvt_llm_part;

/* "embedding", "head", ... in the order of kvt_llm_part, NULL-terminated. */
extern const char *const kvt_llm_part_names[KVT_PARTS + 1];

/* How many scales a quantised matrix of n outputs x k inputs carries. */
typedef enum kvt_weight_scale {
	KVT_SCALE_NONE,
	KVT_SCALE_TENSOR,  /* 1 */
	KVT_SCALE_CHANNEL, /* n */
	KVT_SCALE_BLOCK,   /* ceil(n / group) x ceil(k / group) */
	KVT_SCALE_GROUP,   /* n x ceil(k / group) */
} kvt_weight_scale;

/* How many scales a token's KV carries in one layer. */
typedef enum kvt_kv_scale {
	KVT_KV_SCALE_NONE,  /* none, or one a tensor */
	KVT_KV_SCALE_TOKEN, /* one for K, one for V (one for a latent) */
	KVT_KV_SCALE_HEAD,  /* the same for each KV head */
} kvt_kv_scale;

typedef struct kvt_layer {
	kvt_attention_kind attention;
	kvt_mlp_kind mlp;
} kvt_layer;

typedef struct kvt_llm {
	char *name;  /* what the file is called */
	char *title; /* what people call it */
	char *path;  /* of the file; in messages */

	int64_t hidden;        /* width of the residual stream, elements */
	int64_t vocabulary;    /* rows of the embedding */
	int64_t context_limit; /* tokens the model is made for */
	int64_t extra_parameters;
	bool tied_embeddings;

	unsigned n_layers;
	kvt_layer *layers; /* n_layers of them */
	int64_t window;    /* tokens, of chunked and sliding layers; 0 where there are none */
	int64_t norms;     /* RMS norms of `hidden` a layer: 2, or 4 in Gemma 2 and 3 */

	struct {
		int form; /* kvt_attention_form */
		int64_t query_heads, kv_heads, head_dim;
		bool qkv_bias, output_bias;
		bool qk_norm; /* learned norms of head_dim on q and k */
		/* of the latent form: ranks (0: q is not compressed) and widths a head */
		int64_t q_rank, kv_rank, rope_dim, nope_dim, value_dim;
	} attention;

	int64_t mlp_width; /* of dense layers; gate, up and down are hidden x width each */
	bool mlp_bias;

	struct {
		int64_t count, per_token, width; /* routed */
		int64_t shared, shared_width;    /* every token goes through these too */
		bool shared_gate;                /* a learned gate of `hidden` on the shared ones */
	} experts;

	struct {
		int format[KVT_PARTS]; /* kvt_dtype */
		int scale;             /* kvt_weight_scale, of parts of 8 bits and fewer */
		int scale_format;      /* kvt_dtype */
		int64_t group;
	} precision;

	struct {
		int format; /* kvt_dtype */
		int scale;  /* kvt_kv_scale */
		int scale_format;
	} kv;
} kvt_llm;

/* Reads a model by name (models/llm/NAME.ini) or path. NULL with an error when there is no such
 * file, when it is malformed or contradicts itself, or when a constant has no source. */
kvt_llm *kvt_llm_load(const char *name_or_path, GError **error);

/* The same from memory; `path` stands for the file in messages and gives the name. */
kvt_llm *kvt_llm_parse(const char *path, const char *text, GError **error);

void kvt_llm_free(kvt_llm *llm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_llm, kvt_llm_free)

/* Checks that the numbers make one model: heads that divide, widths above 0, experts where a layer
 * needs them. The message has no place in it; readers put theirs before it. */
gboolean kvt_llm_check(const kvt_llm *llm, GError **error);

/*
 * Fills llm->layers from two patterns of words with counts, such as "chunked*3 global" (kinds of
 * attention) and "dense*3 moe*58"; a pattern shorter than n_layers repeats, a longer one is an
 * error.
 */
gboolean kvt_llm_set_layers(
	kvt_llm *llm, unsigned n_layers, const char *attention, const char *mlp, GError **error);

/* The shortest such pattern of the model's layers; to be freed. */
char *kvt_llm_attention_pattern(const kvt_llm *llm);
char *kvt_llm_mlp_pattern(const kvt_llm *llm);

/* Layers of that kind of attention. */
unsigned kvt_llm_count_attention(const kvt_llm *llm, kvt_attention_kind kind);
unsigned kvt_llm_count_mlp(const kvt_llm *llm, kvt_mlp_kind kind);

/* The model as an .ini file that kvt_llm_parse reads back identical; every section says `source`. A
 * new string. */
char *kvt_llm_to_ini(const kvt_llm *llm, const char *source);

#endif
