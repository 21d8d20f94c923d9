/*
 * cuda_kv.h: contexts of random KV in a GPU's memory for tests of its attention, with what
 * double precision gives. Only where the build has CUDA.
 */
#ifndef CUDA_KV_H
#define CUDA_KV_H

#include <stdbool.h>

#include "kernels/cuda_kernels.h"

typedef struct cuda_spec {
	kvt_element element;
	uint32_t head_dim, kv_heads, heads, n_queries, page_tokens, skip;
	uint64_t n_tokens, seen;
	float scale; /* of 1 / sqrt(head_dim); 0: 1 */
	uint64_t seed;
} cuda_spec;

/* Pages' bytes that hold no token of the window are NaN, and so is all that results are written
 * to. What fails is said and marks the test as failed; the test goes on. */
typedef struct cuda_context {
	cuda_spec spec;
	kvt_cuda_shape shape;
	uint32_t n_pages;
	size_t page_bytes, stride; /* stride: of a KV head's queries, floats */
	uint8_t *pages;            /* one after the other */
	float *queries;
	double *exact, *exact_lse; /* [kv_heads][n_queries][heads] rows */
	double most;               /* the largest value */
	double *reach; /* a row: the largest sum over dimensions of scale x |query x key| */

	uint8_t *device_pages;
	const void **device_table;
	float *device_queries;
	kvt_cuda_partial result, other; /* device memory */
	void *scratch;
	float *output, *lse; /* the result, fetched */
} cuda_context;

cuda_context cuda_context_new(const cuda_spec *spec);
void cuda_context_clear(cuda_context *c);
size_t cuda_row_count(const cuda_context *c);

/* Copies pages to the device, at places that `seed` scatters; the queries, too. */
void cuda_place(cuda_context *c, uint64_t seed);

/* Attention over tokens [first, first + n) of the window, of which query token i sees the first
 * seen + i, into one of the context's partial results. */
bool cuda_attend(const cuda_context *c, uint64_t first, uint64_t n, uint64_t seen,
	const kvt_cuda_partial *into);

/* Copies c->result to output and lse. */
bool cuda_fetch(cuda_context *c);

/* Fills exact, exact_lse and reach from pages and queries. */
void cuda_exact(cuda_context *c);

/* output and lse against exact and exact_lse: within what two halves of a number round off. */
void cuda_compare(const cuda_context *c, const char *what);

/* Place, attend, fetch, compare. */
void cuda_check(cuda_context *c, const char *what);

#endif
