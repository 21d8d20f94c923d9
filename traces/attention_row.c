/* attention_row.c: checks one access row: causality, no page twice, masses that can be masses. */
#include "traces/attention_row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Above this many pages a stamp a page costs more memory than sorting a row costs time. */
enum { STAMPED_PAGES_MAX = 1 << 22 };

/* A half holds 11 bits: n masses that sum to 1 sum to at most 1 + 2^-11 (+ n x 2^-25 where they
 * are subnormal); beyond this it was no rounding. */
static const double MASS_SUM_MAX = 1.002;

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
