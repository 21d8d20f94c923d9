/* nearest_keys.c: nearest keys by brute force, on the arithmetic of attention_softmax.h. */
#include "traces/nearest_keys.h"

#include <glib.h>
#include <math.h>
#include <string.h>

#include "traces/attention_softmax.h"
#include "traces/half_float.h"

enum { QUERIES = KVT_SOFTMAX_QUERIES, LANES = KVT_SOFTMAX_LANES };

typedef struct nearest_list {
	float score[KVT_NEAREST];
	uint32_t key[KVT_NEAREST];
} nearest_list;

static void insert(nearest_list *list, float score, uint32_t key)
{
	int i = KVT_NEAREST - 1;
	for (; i > 0 && score > list->score[i - 1]; i--) {
		list->score[i] = list->score[i - 1];
		list->key[i] = list->key[i - 1];
	}
	list->score[i] = score;
	list->key[i] = key;
}

/* Up to four points, side by side as the arithmetic wants them. */
static void load_points(
	const kvt_nearest_set *set, const uint32_t *points, uint32_t n, float *interleaved)
{
	g_autofree float *one = g_new(float, set->dim);
	memset(interleaved, 0, (size_t)set->dim * QUERIES * sizeof *interleaved);
	for (uint32_t q = 0; q < n; q++) {
		kvt_half_to_float(set->halves + (size_t)points[q] * set->dim, one, set->dim);
		for (uint32_t d = 0; d < set->dim; d++)
			interleaved[d * QUERIES + q] = one[d];
	}
}

void kvt_nearest_keys(const kvt_nearest_set *set, const uint32_t *candidates,
	uint32_t candidate_count, const uint32_t *points, uint64_t count, uint32_t *found)
{
	size_t dim = set->dim, tiles = (candidate_count + LANES - 1) / LANES;
	g_autofree uint16_t *halves = g_new(uint16_t, candidate_count * dim);
	g_autofree float *tiled = g_new(float, tiles *LANES *dim);
	g_autofree float *half_square = g_new0(float, candidate_count);
	g_autofree float *dots = g_new(float, tiles *LANES *QUERIES);
	g_autofree float *queries = g_new(float, dim *QUERIES);
	g_autofree float *one = g_new(float, dim);
	for (uint32_t c = 0; c < candidate_count; c++) {
		const uint16_t *key = set->halves + candidates[c] * dim;
		memcpy(halves + c * dim, key, dim * sizeof *halves);
		kvt_half_to_float(key, one, dim);
		for (size_t d = 0; d < dim; d++)
			half_square[c] += one[d] * one[d] / 2;
	}
	kvt_softmax_tile(halves, candidate_count, dim, tiled);
	for (uint64_t at = 0; at < count; at += QUERIES) {
		uint32_t n = (uint32_t)MIN(count - at, QUERIES);
		load_points(set, points + at, n, queries);
		kvt_softmax_logits(tiled, tiles, dim, queries, dots, false);
		for (uint32_t q = 0; q < n; q++) {
			nearest_list list = { .score = { -INFINITY, -INFINITY, -INFINITY,
						      -INFINITY } };
			const float *dot = dots + q * tiles * LANES;
			uint32_t group = points[at + q] / set->group;
			for (uint32_t c = 0; c < candidate_count; c++) {
				/* The least distance: x.y - y.y / 2 is the largest. */
				float score = dot[c] - half_square[c];
				if (score > list.score[KVT_NEAREST - 1] &&
					candidates[c] / set->group != group)
					insert(&list, score, candidates[c]);
			}
			memcpy(found + (at + q) * KVT_NEAREST, list.key, sizeof list.key);
		}
	}
}
