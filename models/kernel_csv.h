/*
 * kernel_csv.h: CSV files of measured GPU kernel times (the columns of the public AIConfigurator
 * data) as typed rows. It reads and splits rows; it knows nothing of what the times mean.
 *
 * The header decides the shape of a file, by the names of its columns, in any order; columns that
 * are not listed here are ignored. Lines that begin with # and empty lines are skipped.
 *   attention    kernel_source,batch_size,isl,num_heads,num_key_value_heads,head_dim,attn_dtype,
 *                kv_cache_dtype,step,op_name,latency_ms
 *   gemm         kernel_source,gemm_dtype,m,n,k,op_name,latency_ms
 *   collectives  kernel_source,nccl_dtype|allreduce_dtype,num_gpus,op_name,message_size,latency_ms
 */
#ifndef KVT_KERNEL_CSV_H
#define KVT_KERNEL_CSV_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum kvt_kernel_kind {
	KVT_KERNEL_PREFILL,    /* op_name context_attention: causal self-attention of isl tokens */
	KVT_KERNEL_DECODE,     /* op_name generation_attention: one query token a sequence */
	KVT_KERNEL_GEMM,       /* op_name gemm */
	KVT_KERNEL_COLLECTIVE, /* any other op_name of a collectives file: all_reduce, ... */
	KVT_KERNEL_KINDS,
} kvt_kernel_kind;

typedef struct kvt_kernel_attention {
	int64_t batch, heads, kv_heads, head_dim;
	int64_t isl;  /* query tokens a sequence: the prompt (prefill), 1 (decode) */
	int64_t step; /* tokens already in the cache */
} kvt_kernel_attention;

typedef struct kvt_kernel_gemm {
	int64_t m, n, k;
} kvt_kernel_gemm;

typedef struct kvt_kernel_collective {
	int64_t gpus;
	int64_t elements; /* message_size: elements of dtype, not bytes */
} kvt_kernel_collective;

/* One measured time. The strings belong to the table and are interned in it: equal texts of one
 * table are one pointer. */
typedef struct kvt_kernel_row {
	kvt_kernel_kind kind;
	unsigned line;        /* in the file, from 1 */
	double seconds;       /* > 0, finite */
	const char *source;   /* kernel_source */
	const char *op;       /* op_name */
	const char *dtype;    /* attn_dtype, gemm_dtype, nccl_dtype or allreduce_dtype */
	const char *kv_dtype; /* kv_cache_dtype of attention, else NULL */
	union {
		kvt_kernel_attention attention; /* PREFILL, DECODE */
		kvt_kernel_gemm gemm;
		kvt_kernel_collective collective;
	};
} kvt_kernel_row;

typedef struct kvt_kernel_csv {
	char *path; /* as given */
	kvt_kernel_row *rows;
	size_t count;
	GStringChunk *names; /* owns the strings of the rows */
} kvt_kernel_csv;

/*
 * Reads a file. NULL with a one-line "file:line: column: reason, expected what" when a column is
 * missing or given twice, a number is no whole number in range, a latency is not a positive finite
 * number, an op_name does not belong to the shape of the file, or there is no row at all.
 */
kvt_kernel_csv *kvt_kernel_csv_load(const char *path, GError **error);

/* The same from memory; `name` stands for the file in messages. `text` need not end in NUL. */
kvt_kernel_csv *kvt_kernel_csv_parse(
	const char *name, const char *text, size_t length, GError **error);

void kvt_kernel_csv_free(kvt_kernel_csv *csv);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_kernel_csv, kvt_kernel_csv_free)

/* KV length that a decode row reads, tokens: isl + step (the new token's own key is read too). */
static inline int64_t kvt_kernel_row_kv_tokens(const kvt_kernel_row *row)
{
	return row->attention.isl + row->attention.step;
}

/*
 * True for a share of all shapes that depends on nothing but the row's shape (everything except
 * its time and its line) and the seed, so that a row is left out or not whatever file it is in, and
 * rows of one shape always go together. `share` in [0, 1].
 */
bool kvt_kernel_row_left_out(const kvt_kernel_row *row, double share, uint64_t seed);

/* A name for messages, "decode attention" and so on. */
const char *kvt_kernel_kind_name(kvt_kernel_kind kind);

#endif
