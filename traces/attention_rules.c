/* attention_rules.c: checks a header, its steps, and single access rows: causality, no page twice,
 * masses that can be masses. */
#include "traces/attention_rules.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Above this many pages a stamp a page costs more memory than sorting a row costs time. */
enum { STAMPED_PAGES_MAX = 1 << 22 };

/* A half holds 11 bits: n masses that sum to 1 sum to at most 1 + 2^-11 (+ n x 2^-25 where they
 * are subnormal); beyond this it was no rounding. */
static const double MASS_SUM_MAX = 1.002;

static char *check_range(const char *name, uint64_t value, uint64_t low, uint64_t high)
{
	if (value >= low && value <= high)
		return NULL;
	return g_strdup_printf("attribute %s: %" G_GUINT64_FORMAT
			       ", expected an integer from %" G_GUINT64_FORMAT
			       " to %" G_GUINT64_FORMAT,
		name, value, low, high);
}

static char *check_layer_kinds(const kvt_attention_header *header)
{
	for (uint32_t i = 0; i < header->layers; i++) {
		if (header->layer_kind[i] > KVT_TRACE_LAYER_GLOBAL)
			return g_strdup_printf("layer_kind: layer %u is of kind %u, expected 0 "
					       "(chunked) or 1 (global)",
				i, header->layer_kind[i]);
		if (header->layer_kind[i] == KVT_TRACE_LAYER_CHUNKED &&
			header->local_chunk_tokens == 0)
			return g_strdup_printf("attribute local_chunk_tokens: 0, expected at least "
					       "1 because layer %u is chunked",
				i);
	}
	return NULL;
}

char *kvt_attention_header_check(const kvt_attention_header *header)
{
	const struct {
		const char *name;
		uint64_t value, low, high;
	} ranges[] = {
		{ "n_layers", header->layers, 1, KVT_ATTENTION_LAYERS_MAX },
		{ "n_q_heads", header->query_heads, 1, KVT_ATTENTION_HEADS_MAX },
		{ "n_kv_heads", header->kv_heads, 1, KVT_ATTENTION_HEADS_MAX },
		{ "head_dim", header->head_dim, 1, KVT_ATTENTION_HEAD_DIM_MAX },
		{ "block_tokens", header->block_tokens, 1, KVT_ATTENTION_BLOCK_TOKENS_MAX },
		{ "total_tokens", header->total_tokens, 1, KVT_ATTENTION_TOKENS_MAX },
		{ "context_tokens", header->context_tokens, 0, header->total_tokens },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(ranges); i++) {
		char *problem =
			check_range(ranges[i].name, ranges[i].value, ranges[i].low, ranges[i].high);
		if (problem != NULL)
			return problem;
	}
	if (header->query_heads % header->kv_heads != 0)
		return g_strdup_printf(
			"attribute n_q_heads: %u, expected a multiple of n_kv_heads (%u)",
			header->query_heads, header->kv_heads);
	if (!isfinite(header->softmax_scale) || header->softmax_scale <= 0)
		return g_strdup_printf("attribute softmax_scale: %g, expected a number above 0",
			header->softmax_scale);
	return check_layer_kinds(header);
}

char *kvt_attention_steps_check(
	const kvt_attention_header *header, const kvt_attention_step *steps, uint64_t count)
{
	if (count == 0)
		return g_strdup("steps/position: no steps, expected at least one");
	for (uint64_t i = 0; i < count; i++) {
		if (steps[i].position >= header->total_tokens)
			return g_strdup_printf(
				"steps/position: step %" G_GUINT64_FORMAT ": %" G_GUINT64_FORMAT
				", expected below total_tokens (%" G_GUINT64_FORMAT ")",
				i, steps[i].position, header->total_tokens);
		if (i > 0 && steps[i].position <= steps[i - 1].position)
			return g_strdup_printf("steps/position: step %" G_GUINT64_FORMAT
					       ": %" G_GUINT64_FORMAT " after %" G_GUINT64_FORMAT
					       ", expected rising positions",
				i, steps[i].position, steps[i - 1].position);
		if (steps[i].kind > KVT_TRACE_STEP_DECODE)
			return g_strdup_printf("steps/kind: step %" G_GUINT64_FORMAT
					       ": %u, expected 0 (prompt) or 1 (decode)",
				i, steps[i].kind);
	}
	return NULL;
}

struct kvt_attention_row_checker {
	kvt_attention_header header;
	kvt_attention_layer_kind kind;
	uint32_t *stamp; /* number of the last row that named the page; grown on demand */
	size_t stamps;
	uint32_t row;
};

kvt_attention_row_checker *kvt_attention_row_checker_new(
	const kvt_attention_header *header, kvt_attention_layer_kind kind)
{
	kvt_attention_row_checker *checker = g_new0(kvt_attention_row_checker, 1);
	checker->header = *header;
	checker->kind = kind;
	return checker;
}

void kvt_attention_row_checker_free(kvt_attention_row_checker *checker)
{
	if (checker == NULL)
		return;
	g_free(checker->stamp);
	g_free(checker);
}

static int compare_blocks(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static bool find_twice_sorted(const kvt_attention_row *row, uint32_t *block)
{
	g_autofree uint32_t *sorted = g_memdup2(row->block, row->count * sizeof *sorted);
	qsort(sorted, row->count, sizeof *sorted, compare_blocks);
	for (uint32_t i = 1; i < row->count; i++) {
		if (sorted[i] == sorted[i - 1]) {
			*block = sorted[i];
			return true;
		}
	}
	return false;
}

/* True when a block occurs twice; all blocks are known to be below first + pages. */
static bool find_twice(kvt_attention_row_checker *checker, const kvt_attention_row *row,
	uint64_t first, uint64_t pages, uint32_t *block)
{
	if (pages > STAMPED_PAGES_MAX)
		return find_twice_sorted(row, block);
	if (pages > checker->stamps) {
		size_t stamps = MAX(pages, checker->stamps * 2);
		checker->stamp = g_renew(uint32_t, checker->stamp, stamps);
		memset(checker->stamp + checker->stamps, 0,
			(stamps - checker->stamps) * sizeof *checker->stamp);
		checker->stamps = stamps;
	}
	if (++checker->row == 0) {
		memset(checker->stamp, 0, checker->stamps * sizeof *checker->stamp);
		checker->row = 1;
	}
	uint32_t *stamp = checker->stamp;
	for (uint32_t i = 0; i < row->count; i++) {
		uint64_t page = row->block[i] - first;
		if (stamp[page] == checker->row) {
			*block = row->block[i];
			return true;
		}
		stamp[page] = checker->row;
	}
	return false;
}

static char *check_masses(const kvt_attention_row *row)
{
	double sum = 0;
	float last = 1.0f;
	for (uint32_t i = 0; i < row->count; i++) {
		float mass = row->mass[i];
		/* Written so that NaN fails it. */
		if (!(mass >= 0 && mass <= 1))
			return g_strdup_printf("entry %u (block %u): mass %g, expected a number "
					       "from 0 to 1",
				i, row->block[i], mass);
		if (mass > last)
			return g_strdup_printf("entry %u (block %u): mass %g after %g, expected "
					       "falling masses",
				i, row->block[i], mass, last);
		last = mass;
		sum += mass;
	}
	if (sum > MASS_SUM_MAX)
		return g_strdup_printf("masses sum to %.4f, expected at most 1", sum);
	return NULL;
}

char *kvt_attention_row_check(
	kvt_attention_row_checker *checker, uint64_t position, const kvt_attention_row *row)
{
	uint64_t first;
	uint64_t pages =
		kvt_attention_pages_present(&checker->header, checker->kind, position, &first);
	for (uint32_t i = 0; i < row->count; i++)
		if (row->block[i] < first || row->block[i] - first >= pages)
			return g_strdup_printf("entry %u: block %u at position %" G_GUINT64_FORMAT
					       ", expected a page present, %" G_GUINT64_FORMAT
					       " to %" G_GUINT64_FORMAT,
				i, row->block[i], position, first, first + pages - 1);
	uint32_t twice;
	if (find_twice(checker, row, first, pages, &twice))
		return g_strdup_printf("block %u twice, expected every block once", twice);
	return check_masses(row);
}
