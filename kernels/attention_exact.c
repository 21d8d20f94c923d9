/* attention_exact.c: attention in double precision, what results are checked against. Slow. */
#include "kernels/kernels.h"

#include <math.h>

enum { DIM_MAX = KVT_CODE_HEAD_DIM_MAX };

/* One token more: sums so far are kept relative to the largest logit. */
static void add_token(const kvt_attention_shape *shape, const float *query, const void *key,
	const void *value, double *output, double *most, double *weight)
{
	float numbers[DIM_MAX];
	double logit = 0;
	kvt_elements_to_float(shape->element, key, shape->head_dim, numbers);
	for (uint32_t i = 0; i < shape->head_dim; i++)
		logit += (double)query[i] * (double)numbers[i];
	logit *= (double)shape->scale * (double)shape->key_scale;
	if (logit == -INFINITY)
		return;
	double keep = logit > *most ? exp(*most - logit) : 1;
	*most = logit > *most ? logit : *most;
	double share = exp(logit - *most);
	kvt_elements_to_float(shape->element, value, shape->head_dim, numbers);
	for (uint32_t i = 0; i < shape->head_dim; i++)
		output[i] = output[i] * keep + share * (double)numbers[i];
	*weight = *weight * keep + share;
}

void kvt_attention_exact(const kvt_attention_shape *shape, const float *queries, uint32_t n_queries,
	const kvt_attention_window *window, double *output, double *lse)
{
	for (size_t row = 0; row < (size_t)n_queries * shape->heads; row++) {
		double *out = output + row * shape->head_dim, most = -INFINITY, weight = 0;
		uint64_t end = window->seen + row / shape->heads;
		end = end < window->n_tokens ? end : window->n_tokens;
		for (uint32_t i = 0; i < shape->head_dim; i++)
			out[i] = 0;
		for (uint64_t token = 0; token < end; token++) {
			uint64_t at = token + window->skip, page = at / shape->page_tokens;
			size_t within = (size_t)(at % shape->page_tokens);
			add_token(shape, queries + row * shape->head_dim,
				(const char *)window->keys[page] + within * shape->key_stride,
				(const char *)window->values[page] + within * shape->value_stride,
				out, &most, &weight);
		}
		for (uint32_t i = 0; i < shape->head_dim && weight != 0; i++)
			out[i] *= (double)shape->value_scale / weight;
		lse[row] = weight == 0 ? -INFINITY : most + log(weight);
	}
}
