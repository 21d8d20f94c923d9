/* page_hashes.c: buckets are lists, newest page first, linked through an array a table. */
#include "sim/prefetch/page_hashes.h"

#include <glib.h>
#include <math.h>

#include "sim/base/rng.h"

enum { PAGES_A_BUCKET = 16 };

#define NONE UINT32_MAX

struct kvt_page_hashes {
	uint32_t head_dim, max_pages, n_tables, n_bits, n_pages;
	float *planes;   /* [n_tables][n_bits][head_dim] */
	uint32_t *heads; /* [n_tables][2^n_bits], the newest page or NONE */
	uint32_t *next;  /* [n_tables][max_pages], an older one or NONE */
};

kvt_page_hashes *kvt_page_hashes_new(
	uint32_t head_dim, uint32_t max_pages, uint32_t n_tables, uint32_t n_bits, uint64_t seed)
{
	g_assert(n_tables > 0 && n_tables <= KVT_PAGE_HASHES_TABLES_MAX);
	g_assert(n_bits > 0 && n_bits <= KVT_PAGE_HASHES_BITS_MAX);
	kvt_page_hashes *hashes = g_new0(kvt_page_hashes, 1);
	hashes->head_dim = head_dim;
	hashes->max_pages = max_pages;
	hashes->n_tables = n_tables;
	hashes->n_bits = n_bits;
	size_t numbers = (size_t)n_tables * n_bits * head_dim;
	hashes->planes = g_new(float, numbers);
	kvt_rng rng = kvt_rng_init(seed, kvt_rng_stream_id("page-hashes", 0));
	for (size_t i = 0; i < numbers; i++)
		hashes->planes[i] = (float)kvt_rng_normal(&rng);
	size_t buckets = (size_t)n_tables << n_bits;
	hashes->heads = g_new(uint32_t, buckets);
	for (size_t i = 0; i < buckets; i++)
		hashes->heads[i] = NONE;
	hashes->next = g_new(uint32_t, (size_t)n_tables * max_pages);
	return hashes;
}

void kvt_page_hashes_free(kvt_page_hashes *hashes)
{
	if (!hashes)
		return;
	g_free(hashes->planes);
	g_free(hashes->heads);
	g_free(hashes->next);
	g_free(hashes);
}

uint32_t kvt_page_hashes_bits_for(uint32_t n_pages)
{
	uint32_t bits = 1;
	while (bits < KVT_PAGE_HASHES_BITS_MAX && (uint64_t)PAGES_A_BUCKET << bits < n_pages)
		bits++;
	return bits;
}

static float project(const kvt_page_hashes *hashes, uint32_t table, uint32_t bit, const float *x)
{
	const float *plane =
		hashes->planes + ((size_t)table * hashes->n_bits + bit) * hashes->head_dim;
	float sum = 0;
	for (uint32_t i = 0; i < hashes->head_dim; i++)
		sum += plane[i] * x[i];
	return sum;
}

uint32_t kvt_page_hashes_bucket(const kvt_page_hashes *hashes, uint32_t table, const float *x)
{
	uint32_t bucket = 0;
	for (uint32_t bit = 0; bit < hashes->n_bits; bit++)
		bucket |= (uint32_t)(project(hashes, table, bit, x) >= 0) << bit;
	return bucket;
}

void kvt_page_hashes_add(kvt_page_hashes *hashes, uint32_t page, const float *mean)
{
	g_assert(page < hashes->max_pages);
	for (uint32_t table = 0; table < hashes->n_tables; table++) {
		uint32_t *head = hashes->heads + ((size_t)table << hashes->n_bits) +
				 kvt_page_hashes_bucket(hashes, table, mean);
		hashes->next[(size_t)table * hashes->max_pages + page] = *head;
		*head = page;
	}
	hashes->n_pages++;
}

uint64_t kvt_page_hashes_bytes(const kvt_page_hashes *hashes)
{
	uint64_t buckets = (uint64_t)hashes->n_tables << hashes->n_bits;
	return sizeof(uint32_t) * (buckets + (uint64_t)hashes->n_tables * hashes->n_pages) +
	       sizeof(float) * hashes->n_tables * hashes->n_bits * hashes->head_dim;
}

/* The bits of a table by how near to 0 their projections are. */
static void order_bits(kvt_page_probe *probe, uint32_t table, const float *x)
{
	const kvt_page_hashes *hashes = probe->hashes;
	float margin[KVT_PAGE_HASHES_BITS_MAX];
	uint32_t bucket = 0;
	uint8_t *order = probe->order[table];
	for (uint32_t bit = 0; bit < hashes->n_bits; bit++) {
		float projection = project(hashes, table, bit, x);
		bucket |= (uint32_t)(projection >= 0) << bit;
		margin[bit] = fabsf(projection);
		uint32_t place = bit;
		for (; place > 0 && margin[order[place - 1]] > margin[bit]; place--)
			order[place] = order[place - 1];
		order[place] = (uint8_t)bit;
	}
	probe->bucket[table] = bucket;
}

/* Opens the bucket that the probe is at. */
static void open_bucket(kvt_page_probe *probe)
{
	const kvt_page_hashes *hashes = probe->hashes;
	uint32_t table = probe->table, bucket = probe->bucket[table];
	if (probe->round > 0)
		bucket ^= UINT32_C(1) << probe->order[table][probe->round - 1];
	probe->page = hashes->heads[((size_t)table << hashes->n_bits) + bucket];
}

void kvt_page_probe_begin(kvt_page_probe *probe, const kvt_page_hashes *hashes, const float *x)
{
	probe->hashes = hashes;
	probe->round = 0;
	probe->table = 0;
	for (uint32_t table = 0; table < hashes->n_tables; table++)
		order_bits(probe, table, x);
	open_bucket(probe);
}

bool kvt_page_probe_next(kvt_page_probe *probe, uint32_t *page, uint64_t *buckets)
{
	const kvt_page_hashes *hashes = probe->hashes;
	while (probe->page == NONE) {
		if (probe->round > hashes->n_bits)
			return false;
		(*buckets)++;
		if (++probe->table == hashes->n_tables) {
			probe->table = 0;
			if (++probe->round > hashes->n_bits)
				return false;
		}
		open_bucket(probe);
	}
	*page = probe->page;
	probe->page = hashes->next[(size_t)probe->table * hashes->max_pages + *page];
	return true;
}
