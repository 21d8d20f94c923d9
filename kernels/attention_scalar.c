/* attention_scalar.c: attention of some rows to a tile of tokens in plain C, the reference. */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

enum { TILE = KVT_ATTENTION_TILE, DIM_MAX = KVT_CODE_HEAD_DIM_MAX, SUMS = 16 };

/* In 16 sums, which rounds less than one. */
static float product(const float *a, const float *b, uint32_t n)
{
	float sum[SUMS] = { 0 };
	for (uint32_t i = 0; i < n; i += SUMS)
		for (uint32_t k = 0; k < SUMS; k++)
			sum[k] += a[i + k] * b[i + k];
	for (uint32_t half = SUMS / 2; half > 0; half /= 2)
		for (uint32_t k = 0; k < half; k++)
			sum[k] += sum[k + half];
	return sum[0];
}

/* Logits of a row; returns the largest of them and `most`, and NaN is not larger. */
static float row_logits(const kvt_attention_tile *tile, uint32_t row, float most, float *logit)
{
	const float *query = tile->query + (size_t)row * tile->head_dim;
	float key[DIM_MAX];
	for (uint32_t token = 0; token < tile->n_tokens; token++) {
		kvt_elements_to_float(tile->element, tile->keys[token], tile->head_dim, key);
		logit[token] = product(query, key, tile->head_dim);
		most = logit[token] > most ? logit[token] : most;
	}
	return most;
}

void kvt_attention_tile_scalar(kvt_attention_tile *tile)
{
	const uint32_t head_dim = tile->head_dim;
	float logit[TILE], value[DIM_MAX], part[DIM_MAX];
	for (uint32_t row = 0; row < tile->n_rows; row++) {
		float *sum = tile->sum + (size_t)row * head_dim, weight = 0;
		float most = row_logits(tile, row, tile->max[row], logit);
		/* where all logits are minus infinity nothing has weight */
		float base = most == -INFINITY ? 0 : most;
		float keep = exp2f(tile->max[row] - base);
		memset(part, 0, head_dim * sizeof(float));
		for (uint32_t token = 0; token < tile->n_tokens; token++) {
			float share = exp2f(logit[token] - base);
			kvt_elements_to_float(tile->element, tile->values[token], head_dim, value);
			for (uint32_t i = 0; i < head_dim; i++)
				part[i] += share * value[i];
			weight += share;
		}
		/* a tile's sum first, which rounds less than adding each to the sum of all */
		for (uint32_t i = 0; i < head_dim; i++)
			sum[i] = sum[i] * keep + part[i];
		tile->weight[row] = tile->weight[row] * keep + weight;
		tile->max[row] = most;
	}
}
