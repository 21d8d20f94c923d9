/*
 * attention_model.h: how long an attention kernel takes on a GPU, prefill or decode, from a small
 * table fitted to measured kernel times: a time from first principles (attention_base.h) and the
 * measured times on a grid of shapes. It predicts one kernel alone on an idle GPU; layers, windows
 * and overlap are the caller's: for a sliding or chunked layer pass min(tokens, window).
 *
 * Times within the measured shapes never fall as batch or tokens grow. Between grid points a time
 * is interpolated linearly in what the base formula says lies between them (so linearly in KV
 * length where no cliff is); beyond the grid the base formula continues from its edge: linear in
 * the KV length for decode, quadratic for prefill. Such an answer is marked extrapolated.
 */
#ifndef KVT_ATTENTION_MODEL_H
#define KVT_ATTENTION_MODEL_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "models/attention_base.h"
#include "models/kernel_csv.h"

typedef enum kvt_attention_phase {
	KVT_ATTENTION_PREFILL,
	KVT_ATTENTION_DECODE
} kvt_attention_phase;

typedef struct kvt_attention_model kvt_attention_model;

/*
 * What one rank's kernel does in one layer. The measurements ran a kernel again and again on the
 * same KV, so that small KV stayed in L2; a model that reads its weights between two visits to a
 * layer finds it gone: set `cold`.
 */
typedef struct kvt_attention_query {
	kvt_attention_phase phase;
	const char *source;   /* kernel_source as measured, such as vllm_flash_attn_fa2; NULL: the
				 fastest that serves the formats and sizes */
	const char *dtype;    /* of queries: bfloat16, also bf16, fp16, float16; NULL: any */
	const char *kv_dtype; /* bfloat16, fp8, and names that mean as many bytes; NULL: any */
	int64_t batch;        /* sequences */
	int64_t heads, kv_heads; /* on this rank; heads >= kv_heads >= 1 */
	int64_t head_dim;
	int64_t tokens; /* decode: KV tokens read, the new one's included; prefill: new tokens */
	int64_t prefix; /* prefill: tokens before them that every new token attends to too */
	bool cold;      /* decode: no KV is in L2 */
} kvt_attention_query;

typedef struct kvt_attention_time {
	double seconds;
	double flops;       /* 4 x head_dim a (query, key) pair and query head */
	double bytes;       /* of KV, each element once */
	bool extrapolated;  /* outside of the measured shapes, or a format that was not measured */
	const char *source; /* the kernel meant; belongs to the model */
} kvt_attention_time;

/* Reads a table; NULL with an error at file:line when it is malformed. */
kvt_attention_model *kvt_attention_model_load(const char *path, GError **error);
kvt_attention_model *kvt_attention_model_parse(
	const char *name, const char *text, size_t length, GError **error);

/*
 * Fits a model to the attention rows among `rows` (others are skipped): a base formula for each
 * phase, kernel source, formats and head_dim, and the grid of its measured batches, head counts and
 * lengths. `name` names the GPU. The same rows in the same order give the same model. NULL with an
 * error when there are no attention rows or a format is unknown. Prefill rows with a prefix need
 * rows without one; they correct what is said of prefixes near theirs.
 */
kvt_attention_model *kvt_attention_model_fit(const char *name, const kvt_attention_gpu *gpu,
	const kvt_kernel_row *rows, size_t count, GError **error);

/* The table as text, to be freed; or into a file. */
char *kvt_attention_model_text(const kvt_attention_model *model);
gboolean kvt_attention_model_save(
	const kvt_attention_model *model, const char *path, GError **error);

void kvt_attention_model_free(kvt_attention_model *model);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_attention_model, kvt_attention_model_free)

/*
 * Fills `out`. 0, -EINVAL for a size below 1 (prefix: below 0) or fewer heads than KV heads,
 * -ENOENT when the table has no such kernel. Allocates nothing.
 */
int kvt_attention_predict(const kvt_attention_model *model, const kvt_attention_query *query,
	kvt_attention_time *out);

/* The prediction for a measured row's kernel, formats and shape. */
int kvt_attention_predict_row(
	const kvt_attention_model *model, const kvt_kernel_row *row, kvt_attention_time *out);

/* What a time means: FLOP/s of a prefill kernel, bytes/s of KV of a decode kernel. */
double kvt_attention_rate(kvt_attention_phase phase, const kvt_attention_time *time);

const char *kvt_attention_model_name(const kvt_attention_model *model);
const kvt_attention_gpu *kvt_attention_model_gpu(const kvt_attention_model *model);

/*
 * The size by which "a quarter of the largest" is told: the tokens that a sequence's last query
 * attends to, isl + step, for prefill and decode alike. A longer context is what one extrapolates
 * to; batches and heads are measured up to what memory holds at each length.
 */
double kvt_attention_row_size(const kvt_kernel_row *row);

#endif
