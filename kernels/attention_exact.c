/* attention_exact.c: attention in double precision, what results are checked against. Slow. */
#include "kernels/kernels.h"

#include <math.h>

enum { DIM_MAX = KVT_CODE_HEAD_DIM_MAX };

enum { ROWS = 64 }; /* that a token's numbers are read for once */

/* One token more for a row: sums so far are kept relative to the largest logit. */
static void add_token(const kvt_attention_shape *shape, const float *query, const float *key,
	const float *value, double *output, double *most, double *weight)
{
	double logit = 0;
	for (uint32_t i = 0; i < shape->head_dim; i++)
		logit += (double)query[i] * (double)key[i];
	logit *= (double)shape->scale * (double)shape->key_scale;
	if (logit == -INFINITY)
		return;
	double keep = logit > *most ? exp(*most - logit) : 1;
	*most = logit > *most ? logit : *most;
	double share = exp(logit - *most);
	for (uint32_t i = 0; i < shape->head_dim; i++)
		output[i] = output[i] * keep + share * (double)value[i];
	*weight = *weight * keep + share;
}

/* Tokens that a row sees. */
static uint64_t row_end(
	const kvt_attention_shape *shape, const kvt_attention_window *window, size_t row)
{
	uint64_t end = window->seen + row / shape->heads;
	return end < window->n_tokens ? end : window->n_tokens;
}

/* Rows [first, first + n), at most ROWS. */
static void attend(const kvt_attention_shape *shape, const float *queries,
	const kvt_attention_window *window, size_t first, size_t n, double *output, double *lse)
{
	const uint32_t dim = shape->head_dim;
	float key[DIM_MAX], value[DIM_MAX];
	double most[ROWS], weight[ROWS];
	size_t begun = 0; /* rows that are over see fewer tokens than those behind them */
	for (size_t i = 0; i < n; i++) {
		most[i] = -INFINITY;
		weight[i] = 0;
	}
	for (size_t i = 0; i < n * dim; i++)
		output[first * dim + i] = 0;
	for (uint64_t token = 0; token < row_end(shape, window, first + n - 1); token++) {
		uint64_t at = token + window->skip, page = at / shape->page_tokens;
		size_t within = (size_t)(at % shape->page_tokens);
		const char *keys = window->keys[page], *values = window->values[page];
		kvt_elements_to_float(shape->element, keys + within * shape->key_stride, dim, key);
		kvt_elements_to_float(
			shape->element, values + within * shape->value_stride, dim, value);
		while (row_end(shape, window, first + begun) <= token)
			begun++;
		for (size_t i = begun; i < n; i++)
			add_token(shape, queries + (first + i) * dim, key, value,
				output + (first + i) * dim, &most[i], &weight[i]);
	}
	for (size_t i = 0; i < n; i++) {
		double *out = output + (first + i) * dim;
		for (uint32_t d = 0; d < dim && weight[i] != 0; d++)
			out[d] *= (double)shape->value_scale / weight[i];
		lse[first + i] = weight[i] == 0 ? -INFINITY : most[i] + log(weight[i]);
	}
}

void kvt_attention_exact(const kvt_attention_shape *shape, const float *queries, uint32_t n_queries,
	const kvt_attention_window *window, double *output, double *lse)
{
	const size_t rows = (size_t)n_queries * shape->heads;
	for (size_t row = 0; row < rows; row += ROWS)
		attend(shape, queries, window, row, rows - row < ROWS ? rows - row : ROWS, output,
			lse);
}
