/*
 * cuda_kernels.h: kernels.h's attention on a CUDA device: query tokens over paged keys and values,
 * with the log-sum-exp, the exact merge of parts, and copies that the device makes itself. C ABI;
 * device pointers and a stream (cudaStream_t, as void *); nothing waits for the device. It knows no
 * cache and no tier. What it computes is kvt_attention's, which is its reference. Built where there
 * is nvcc.
 */
#ifndef KVT_CUDA_KERNELS_H
#define KVT_CUDA_KERNELS_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Queries and weights are FP32, and tensor cores multiply numbers of 16 bits. */
typedef enum kvt_cuda_precision {
	/* Each is the sum of two such numbers: errors are near those of FP32. */
	KVT_CUDA_TWO_HALVES,
	/* Each is rounded to one, as serving engines do: half the multiplications. It counts where
	 * many query tokens share what is read; few are as fast as memory is, and keep two. */
	KVT_CUDA_ROUNDED,
} kvt_cuda_precision;

/* How pages lie in device memory, and who attends to them. */
typedef struct kvt_cuda_shape {
	kvt_element element;  /* of keys and values: F16, BF16 or E4M3 */
	uint32_t head_dim;    /* 64 or 128 */
	uint32_t kv_heads;    /* of a page, all attended to */
	uint32_t heads;       /* query heads that share a KV head, 1 to 16 */
	uint32_t page_tokens; /* a power of two, 16 or more */
	/* bytes from a page's keys of one KV head to those of the next, and from a KV head's keys
	 * to its values: multiples of 16. Tokens of one follow each other. */
	size_t head_stride, value_offset;
	float scale;                  /* logit = scale x (query . key) */
	float key_scale, value_scale; /* a stored number counts so much: 1, but for FP8 */
	kvt_cuda_precision precision;
} kvt_cuda_shape;

/* Query tokens, FP32 in device memory, 16-byte aligned: KV head h's are queries + h * stride,
 * [n][heads][head_dim]. stride in floats, a multiple of 4. */
typedef struct kvt_cuda_queries {
	const float *queries;
	size_t stride;
	uint32_t n;
} kvt_cuda_queries;

/* Tokens [skip, skip + n_tokens), counted from page 0's first. */
typedef struct kvt_cuda_window {
	const void *const *pages; /* in memory that the device reads, best its own: where each page
				   * begins, 16-byte aligned device memory */
	uint64_t n_tokens;
	uint32_t skip; /* below page_tokens */
	/* Query token i sees the first seen + i tokens, n_tokens at most; n_tokens: all see all. */
	uint64_t seen;
	/* The first so many tokens, and the list of pages, were in memory before the stream began
	 * what it does just before this call, as those of earlier steps were: they may be read
	 * while that still runs. 0: it may write any. */
	uint64_t settled;
} kvt_cuda_window;

/* Results in device memory: of query tokens that saw nothing, zeros and -infinity. */
typedef struct kvt_cuda_partial {
	float *output; /* [kv_heads][n][heads][head_dim], normalised */
	float *lse;    /* [kv_heads][n][heads], the natural logarithm of the sum of e^logit */
} kvt_cuda_partial;

/* Bytes of scratch in device memory that a call takes, on the current device; 0: a shape that is
 * not allowed, or no device. */
size_t kvt_cuda_attention_scratch(const kvt_cuda_shape *shape, uint32_t n_queries);

/*
 * Attention of the query tokens over the window. scratch is the call's until the stream has passed
 * it. NaN, and an infinite key or value, that a query token sees makes its output NaN; in a value,
 * that of the call's other query tokens, too. 0, -EINVAL for a shape that is not allowed, -ENODEV
 * where the device has no kernel for it, -EIO when the launch was refused.
 */
int kvt_cuda_attention(const kvt_cuda_shape *shape, const kvt_cuda_queries *queries,
	const kvt_cuda_window *window, const kvt_cuda_partial *partial, void *scratch,
	void *stream);

/* kvt_attention_merge in device memory: n_rows = kv_heads x query tokens x heads. */
int kvt_cuda_merge(const kvt_cuda_partial *into, const kvt_cuda_partial *from, size_t n_rows,
	uint32_t head_dim, void *stream);

/* Bytes from one place to another, both of which the device reaches: addresses and bytes are
 * multiples of 16. */
typedef struct kvt_cuda_run {
	void *to;
	const void *from;
	uint64_t bytes;
} kvt_cuda_run;

/* How the device moves them. */
typedef enum kvt_cuda_gather_way {
	KVT_CUDA_GATHER_BEST,  /* of those below, for this device */
	KVT_CUDA_GATHER_LOADS, /* through registers */
	KVT_CUDA_GATHER_BULK,  /* bulk copies through shared memory; compute capability 9.0 */
} kvt_cuda_gather_way;

/*
 * Copies runs[n], fewer than 2^31, a list in device memory (or pinned, more slowly), by `blocks`
 * blocks of threads that share all bytes evenly, whatever the sizes; 0: as few as fill a PCIe link.
 * For runs that are too small for the copy engines: the device's processors read and write pinned
 * memory of the host 128 bytes a packet, which a PCIe link carries at 92% of the rate of an
 * engine's large copy, for runs of any size. 0, -ENODEV where the device does not know the way,
 * -EIO when the launch was refused.
 */
int kvt_cuda_gather(const kvt_cuda_run *runs, uint64_t n, unsigned blocks, kvt_cuda_gather_way way,
	void *stream);

/* A page of which there is a checksum: 16-byte aligned, KVT_CUDA_CHECKSUM_LEAST bytes or more, a
 * multiple of 16. */
typedef struct kvt_cuda_page {
	const void *page;
	uint64_t bytes;
} kvt_cuda_page;
enum { KVT_CUDA_CHECKSUM_LEAST = 256 };

/*
 * XXH3 of 64 bits of each of pages[n], fewer than 2^31, of any sizes, to sums[n]. Pages and their
 * list are in memory that the device reads, best its own; sums in memory that it writes, pinned
 * memory, too. About 0.1 ms for a page of 4 MiB; many pages are read about as fast as memory is. 0,
 * -EINVAL for too many, -ENODEV where the device has no kernel for it, -EIO when the launch was
 * refused.
 */
int kvt_cuda_page_checksums(const kvt_cuda_page *pages, uint32_t n, uint64_t *sums, void *stream);

/* The stream does nothing for so long, by the device's clock, which counts in about a microsecond;
 * a launch comes on top. 0, or -EIO when the launch was refused. */
int kvt_cuda_wait(uint64_t nanoseconds, void *stream);

/*
 * Page codes (kernels.h) on the device, to the bit what the reference makes of the same numbers: a
 * decision made from a score does not depend on where it was made. All memory is the device's, laid
 * out as kernels.h says; sizes out of range are -EINVAL, other results as above.
 */

/*
 * kvt_code_build of n pages of 16 tokens from page `first` on, of one KV head: the keys are where
 * the head's begin in pages[] as attention has them, 16 x first tokens on (shape: element,
 * head_dim, page_tokens, head_stride). *odd grows by the numbers that were not finite; NULL:
 * nobody asks.
 */
int kvt_cuda_code_build(const kvt_codes *codes, const kvt_cuda_shape *shape, uint32_t kv_head,
	const void *const *pages, uint32_t first, uint32_t n, const float *centre, uint32_t *odd,
	void *stream);

/* kvt_code_query_init and kvt_code_query_set: `query` then names places in `memory`, device memory
 * of kvt_code_query_bytes at a multiple of 16, and is for the functions below alone. */
int kvt_cuda_code_query(kvt_code_query *query, uint32_t head_dim, uint32_t n_heads,
	const float *queries, float scale, void *memory, void *stream);

/* kvt_code_score and kvt_code_score_means. */
int kvt_cuda_code_score(const kvt_codes *codes, const kvt_code_query *query,
	const kvt_page_list *pages, float *sums, size_t pitch, void *stream);
int kvt_cuda_code_score_means(const kvt_codes *codes, const kvt_code_query *query,
	const kvt_page_list *pages, float *sums, size_t pitch, void *stream);

/* kvt_group_shares; scratch: 8 bytes a head, the call's until the stream has passed it. */
int kvt_cuda_group_shares(const float *sums, size_t pitch, uint32_t n_heads, uint32_t n_pages,
	uint32_t *share, void *scratch, void *stream);

/* The k places of the largest of share[n], in ascending order; of equal ones the first. All of
 * them where k >= n. */
int kvt_cuda_top_pages(
	const uint32_t *share, uint32_t n, uint32_t k, uint32_t *places, void *stream);

#ifdef __cplusplus
}
#endif

#endif
