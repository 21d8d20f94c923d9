/* key_statistics.c: oracle, entropy, and what means and bounds of pages keep. */
#include "traces/key_statistics.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/attention_mass.h"

enum { RECENT_PAGES = 64 };

typedef struct measurement {
	kvt_attention_layer *layer;
	const kvt_attention_header *header;
	uint64_t pages, stride;
	float *mean, *least, *most; /* [pages][head_dim], of one KV head */
	float *queries;             /* [query_heads][head_dim] */
	float *logits, *score;      /* [pages] */
	uint32_t *order;            /* [pages] */
	double count;
	kvt_key_statistics sum;
} measurement;

static bool load_pages(measurement *m, uint32_t head, GError **error)
{
	uint32_t dim = m->header->head_dim, page_tokens = m->header->block_tokens;
	g_autofree float *keys = g_new(float, (size_t)page_tokens *dim);
	for (uint64_t page = 0; page < m->pages; page++) {
		uint64_t first = page * page_tokens;
		uint64_t n = MIN(page_tokens, m->header->total_tokens - first);
		float *mean = m->mean + page * dim, *least = m->least + page * dim;
		float *most = m->most + page * dim;
		if (!kvt_attention_layer_keys(m->layer, head, first, n, keys, error))
			return false;
		memcpy(least, keys, dim * sizeof *least);
		memcpy(most, keys, dim * sizeof *most);
		memset(mean, 0, dim * sizeof *mean);
		for (uint64_t v = 0; v < n * dim; v++) {
			mean[v % dim] += keys[v] / (float)n;
			least[v % dim] = MIN(least[v % dim], keys[v]);
			most[v % dim] = MAX(most[v % dim], keys[v]);
		}
	}
	return true;
}

/* Adds the softmax of one query's logits over the pages to the scores. */
static void add_softmax(measurement *m, uint64_t pages)
{
	double largest = -INFINITY, sum = 0;
	for (uint64_t p = 0; p < pages; p++)
		largest = MAX(largest, (double)m->logits[p]);
	for (uint64_t p = 0; p < pages; p++)
		sum += exp((double)m->logits[p] - largest);
	for (uint64_t p = 0; p < pages; p++)
		m->score[p] += (float)(exp((double)m->logits[p] - largest) / sum);
}

/* Scores by means, or by the largest product that the bounds allow. */
static void score_pages(measurement *m, uint32_t head, uint64_t pages, bool bounds)
{
	uint32_t dim = m->header->head_dim;
	uint32_t group = m->header->query_heads / m->header->kv_heads;
	memset(m->score, 0, pages * sizeof *m->score);
	for (uint32_t q = 0; q < group; q++) {
		const float *query = m->queries + (size_t)(head * group + q) * dim;
		for (uint64_t p = 0; p < pages; p++) {
			float sum = 0;
			for (uint32_t d = 0; d < dim; d++)
				sum += query[d] * (!bounds               ? m->mean[p * dim + d]
							  : query[d] > 0 ? m->most[p * dim + d]
									 : m->least[p * dim + d]);
			m->logits[p] = sum * m->header->softmax_scale;
		}
		add_softmax(m, pages);
	}
}

static int by_falling_score(const void *a, const void *b, void *scores)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	const float *score = scores;
	if (score[x] != score[y])
		return score[x] > score[y] ? -1 : 1;
	return (x > y) - (x < y);
}

/* Mass of the pages of largest score, those always kept among them. */
static double kept_by_score(measurement *m, const float *mass, uint64_t pages)
{
	uint64_t budget = kvt_attention_budget_pages(KVT_KEY_STATISTICS_BUDGET, pages);
	double kept = 0;
	for (uint64_t p = 0; p < pages; p++) {
		m->order[p] = (uint32_t)p;
		if (p < KVT_ATTENTION_BUDGET_FIRST || p + KVT_ATTENTION_BUDGET_LAST >= pages)
			m->score[p] = INFINITY;
	}
	g_qsort_with_data(m->order, (int)pages, sizeof *m->order, by_falling_score, m->score);
	for (uint64_t i = 0; i < budget; i++)
		kept += (double)mass[m->order[i]];
	return kept;
}

/* Share that the best of the pages in between hold of what all of them hold. */
static double far_oracle(measurement *m, const float *mass, uint64_t pages)
{
	uint64_t budget = kvt_attention_budget_pages(KVT_KEY_STATISTICS_BUDGET, pages);
	if (pages <= RECENT_PAGES + 1)
		return 1;
	uint64_t n = pages - RECENT_PAGES - 1;
	double all = 0, best = 0;
	for (uint64_t p = 0; p < n; p++) {
		m->order[p] = (uint32_t)p;
		all += (double)mass[p + 1];
	}
	g_qsort_with_data(m->order, (int)n, sizeof *m->order, by_falling_score, (void *)(mass + 1));
	for (uint64_t i = 0; i < MIN(budget, n); i++)
		best += (double)mass[m->order[i] + 1];
	return all > 0 ? best / all : 1;
}

static void add_step(measurement *m, uint32_t head, const float *mass, uint64_t pages)
{
	uint64_t budget = kvt_attention_budget_pages(KVT_KEY_STATISTICS_BUDGET, pages);
	double entropy = 0;
	for (uint64_t p = 0; p < pages; p++)
		entropy -= mass[p] > 0 ? (double)mass[p] * log((double)mass[p]) : 0;
	m->sum.entropy += pages > 1 ? entropy / log((double)pages) : 0;
	m->sum.oracle += kvt_attention_oracle_mass(mass, pages, budget, m->logits);
	m->sum.far += far_oracle(m, mass, pages);
	score_pages(m, head, pages, false);
	m->sum.means += kept_by_score(m, mass, pages);
	score_pages(m, head, pages, true);
	m->sum.bounds += kept_by_score(m, mass, pages);
	m->count++;
}

static bool measure_head(measurement *m, uint32_t head, GError **error)
{
	uint64_t steps;
	const kvt_attention_step *step =
		kvt_attention_trace_steps(kvt_attention_layer_trace(m->layer), &steps);
	g_autofree float *mass = g_new(float, m->pages);
	if (!load_pages(m, head, error))
		return false;
	for (uint64_t s = 0; s < steps; s += m->stride) {
		if (!kvt_attention_layer_queries(m->layer, s, m->queries, error) ||
			!kvt_attention_mass_recompute(
				m->layer, s, 1, 1, head, mass, m->pages, error))
			return false;
		add_step(m, head, mass, step[s].position / m->header->block_tokens + 1);
	}
	return true;
}

static void allocate(measurement *m)
{
	size_t values = m->pages * m->header->head_dim;
	m->mean = g_new(float, values);
	m->least = g_new(float, values);
	m->most = g_new(float, values);
	m->queries = g_new(float, (size_t)m->header->query_heads * m->header->head_dim);
	m->logits = g_new(float, m->pages);
	m->score = g_new(float, m->pages);
	m->order = g_new(uint32_t, m->pages);
}

static void clear(measurement *m)
{
	g_free(m->mean);
	g_free(m->least);
	g_free(m->most);
	g_free(m->queries);
	g_free(m->logits);
	g_free(m->score);
	g_free(m->order);
}

bool kvt_key_statistics_measure(
	kvt_attention_layer *layer, kvt_key_statistics *statistics, GError **error)
{
	const kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	uint64_t steps;
	measurement m = { .layer = layer, .header = kvt_attention_trace_header(trace) };
	kvt_attention_trace_steps(trace, &steps);
	m.stride = (steps + KVT_KEY_STATISTICS_STEPS - 1) / KVT_KEY_STATISTICS_STEPS;
	m.pages = (m.header->total_tokens - 1) / m.header->block_tokens + 1;
	if (!kvt_attention_layer_has_queries(layer) || !kvt_attention_layer_has_keys(layer) ||
		kvt_attention_layer_get_kind(layer) != KVT_TRACE_LAYER_GLOBAL ||
		m.pages > KVT_KEY_STATISTICS_PAGES_MAX)
		return kvt_error_usage(error,
			"%s: layers/%u: cannot be scored, expected a global layer with queries and "
			"keys of at most %d pages",
			kvt_attention_trace_path(trace), kvt_attention_layer_number(layer),
			KVT_KEY_STATISTICS_PAGES_MAX);
	allocate(&m);
	bool good = true;
	for (uint32_t head = 0; good && head < m.header->kv_heads; head++)
		good = measure_head(&m, head, error);
	clear(&m);
	if (good)
		*statistics = (kvt_key_statistics){
			.oracle = m.sum.oracle / m.count,
			.far = m.sum.far / m.count,
			.means = m.sum.means / m.count,
			.bounds = m.sum.bounds / m.count,
			.entropy = m.sum.entropy / m.count,
		};
	return good;
}
