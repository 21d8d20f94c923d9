/*
 * test_cuda_codes.c: page codes that a CUDA device makes and scores, and the pages that it chooses,
 * against kernels.h's references: every byte and every bit is the same.
 */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "kernels/cuda_kernels.h"
#include "tests/unit/cuda_fixture.h"

enum { PAGES = 75, KV_PAGE = 64, KV_HEADS = 2, HEADS_MAX = 13, DIM_MAX = 512 };

typedef struct form {
	kvt_element element;
	uint32_t head_dim, n_heads;
	float scale; /* of logits: large ones leave the range of what adds up exactly */
} form;

#if KVT_CUDA

/* The same on either side. */
typedef struct trial {
	form form;
	uint8_t *kv; /* [pages of KV][KV heads][keys, values][tokens][head_dim] */
	size_t block;
	float *queries, *centre;
	kvt_codes here, there; /* of one KV head */
	size_t mean_bytes, detail_bytes;
	uint8_t *means, *details; /* of the device, brought back */
} trial;

static void same_bytes(
	const char *name, const char *what, const void *got, const void *expected, size_t bytes)
{
	const uint8_t *a = got, *b = expected;
	for (size_t i = 0; i < bytes; i++)
		if (a[i] != b[i]) {
			cuda_fixture_failed("%s: %s: byte %zu of %zu is %02x, expected %02x", name,
				what, i, bytes, a[i], b[i]);
			return;
		}
}

static void fill(trial *t)
{
	const uint32_t dim = t->form.head_dim, n_pages = (PAGES * 16 + KV_PAGE - 1) / KV_PAGE;
	const size_t row = dim * kvt_element_bytes(t->form.element);
	float numbers[DIM_MAX];
	uint64_t counter = dim;
	t->block = KV_PAGE * row;
	t->kv = g_malloc0(n_pages * KV_HEADS * 2 * t->block);
	for (size_t i = 0; i < (size_t)n_pages * KV_HEADS * 2 * KV_PAGE; i++) {
		/* neighbours are alike; pages of zeros, of large and of small numbers, and NaN */
		const size_t page = i / 16;
		const float size = page % 11 == 0   ? 0
				   : page % 13 == 0 ? 300
				   : page % 17 == 0 ? 1e-3f
						    : 1;
		for (uint32_t k = 0; k < dim; k++)
			numbers[k] = size * (cuda_fixture_normal(page * dim + k) +
						    0.5f * cuda_fixture_normal(counter++ + 99999));
		if (page % 19 == 5)
			numbers[i % dim] = i % 2 ? NAN : INFINITY;
		kvt_elements_from_float(t->form.element, numbers, dim, t->kv + i * row);
	}
	t->centre = g_new(float, dim);
	for (uint32_t k = 0; k < dim; k++)
		t->centre[k] = 0.1f * cuda_fixture_normal(k);
	t->queries = g_new(float, HEADS_MAX *dim);
	for (uint32_t k = 0; k < HEADS_MAX * dim; k++)
		t->queries[k] = cuda_fixture_normal(counter++) * (k / dim % 5 == 3 ? 1e-20f : 1);
	if (t->form.n_heads > 5)
		t->queries[5 * dim + 1] = NAN;
}

static void build(trial *t, const char *name)
{
	const uint32_t dim = t->form.head_dim, n_pages = (PAGES * 16 + KV_PAGE - 1) / KV_PAGE;
	const size_t row = dim * kvt_element_bytes(t->form.element);
	const size_t kv_page = KV_HEADS * 2 * t->block;
	uint32_t odd = 0, got_odd = 0;
	t->here.head_dim = t->there.head_dim = dim;
	t->mean_bytes = kvt_code_means_bytes(dim, PAGES);
	t->detail_bytes = kvt_code_detail_bytes(dim) * PAGES;
	t->here.means = g_malloc0(t->mean_bytes);
	t->here.details = g_malloc0(t->detail_bytes);
	for (uint32_t page = 0; page < PAGES; page++) {
		const uint8_t *keys = t->kv + page * 16 / KV_PAGE * kv_page + 2 * t->block +
				      page * 16 % KV_PAGE * row;
		odd += (uint32_t)kvt_code_build(
			&t->here, page, t->form.element, keys, row, t->centre);
	}
	t->means = g_malloc0(t->mean_bytes);
	t->details = g_malloc0(t->detail_bytes);
	t->there.means = cuda_fixture_put(t->means, t->mean_bytes);
	t->there.details = cuda_fixture_put(t->details, t->detail_bytes);
	uint8_t *kv = cuda_fixture_put(t->kv, n_pages * kv_page);
	g_autofree const void **pages = g_new(const void *, n_pages);
	for (uint32_t i = 0; i < n_pages; i++)
		pages[i] = kv + i * kv_page;
	void *list = cuda_fixture_put(pages, n_pages * sizeof(*pages));
	float *centre = cuda_fixture_put(t->centre, dim * sizeof(float));
	uint32_t *count = cuda_fixture_put(&odd, sizeof(odd));
	const kvt_cuda_shape shape = { .element = t->form.element,
		.head_dim = dim,
		.kv_heads = KV_HEADS,
		.page_tokens = KV_PAGE,
		.head_stride = 2 * t->block,
		.value_offset = t->block };
	/* in two calls, of the second KV head */
	int status = kvt_cuda_code_build(&t->there, &shape, 1, list, 0, 17, centre, count, NULL);
	if (status == 0)
		status = kvt_cuda_code_build(
			&t->there, &shape, 1, list, 17, PAGES - 17, centre, count, NULL);
	if (status != 0)
		cuda_fixture_failed("%s: build: status %d", name, status);
	if (cuda_fixture_get(t->means, t->there.means, t->mean_bytes, name) &&
		cuda_fixture_get(t->details, t->there.details, t->detail_bytes, name) &&
		cuda_fixture_get(&got_odd, count, sizeof(odd), name)) {
		same_bytes(name, "means", t->means, t->here.means, t->mean_bytes);
		same_bytes(name, "details", t->details, t->here.details, t->detail_bytes);
		if (got_odd != 2 * odd)
			cuda_fixture_failed(
				"%s: %u numbers not finite, expected %u", name, got_odd - odd, odd);
	}
	cuda_fixture_free(count);
	cuda_fixture_free(centre);
	cuda_fixture_free(list);
	cuda_fixture_free(kv);
}

static int by_share(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* The k largest, of equal ones the first, in ascending order. */
static void expect_top(const uint32_t *share, uint32_t n, uint32_t k, uint32_t *places)
{
	uint64_t keys[PAGES];
	for (uint32_t i = 0; i < n; i++)
		keys[i] = (uint64_t)~share[i] << 32 | i;
	qsort(keys, n, sizeof(*keys), by_share);
	for (uint32_t i = 0; i < k; i++)
		keys[i] &= UINT32_MAX;
	qsort(keys, k, sizeof(*keys), by_share);
	for (uint32_t i = 0; i < k; i++)
		places[i] = (uint32_t)keys[i];
}

static void choose(
	const trial *t, const char *name, const float *sums, float *on_device, uint32_t n)
{
	uint32_t share[PAGES], got[PAGES], places[PAGES];
	kvt_group_shares(sums, PAGES, t->form.n_heads, n, share);
	uint32_t *shares = cuda_fixture_put(NULL, sizeof(share));
	uint32_t *chosen = cuda_fixture_put(NULL, sizeof(places));
	void *scratch = cuda_fixture_put(NULL, t->form.n_heads * 8);
	int status =
		kvt_cuda_group_shares(on_device, PAGES, t->form.n_heads, n, shares, scratch, NULL);
	if (status != 0)
		cuda_fixture_failed("%s: shares: status %d", name, status);
	if (cuda_fixture_get(got, shares, n * sizeof(*got), name))
		same_bytes(name, "shares", got, share, n * sizeof(*got));
	for (uint32_t k = 1; k < n + 3; k += 1 + k / 3) {
		const uint32_t taken = k < n ? k : n;
		status = kvt_cuda_top_pages(shares, n, k, chosen, NULL);
		if (status != 0)
			cuda_fixture_failed("%s: top %u: status %d", name, k, status);
		expect_top(share, n, taken, places);
		if (cuda_fixture_get(got, chosen, taken * sizeof(*got), name))
			same_bytes(name, "chosen", got, places, taken * sizeof(*got));
	}
	cuda_fixture_free(scratch);
	cuda_fixture_free(chosen);
	cuda_fixture_free(shares);
}

static void score(const trial *t, const char *name, const kvt_code_query *here,
	const kvt_code_query *there, const kvt_page_list *pages, uint32_t *ids)
{
	const size_t n = (size_t)t->form.n_heads * PAGES;
	g_autofree float *sums = g_new0(float, n), *got = g_new0(float, n);
	float *on_device = cuda_fixture_put(got, n * sizeof(float));
	const kvt_page_list list = { pages->n, pages->first, ids };
	for (int means = 0; means < 2; means++) {
		const int status = means ? kvt_cuda_code_score_means(
						   &t->there, there, &list, on_device, PAGES, NULL)
					 : kvt_cuda_code_score(
						   &t->there, there, &list, on_device, PAGES, NULL);
		if (status != 0)
			cuda_fixture_failed("%s: scores: status %d", name, status);
		if (means)
			kvt_code_score_means(KVT_ISA_SCALAR, &t->here, here, pages, sums, PAGES);
		else
			kvt_code_score(KVT_ISA_SCALAR, &t->here, here, pages, sums, PAGES);
		if (cuda_fixture_get(got, on_device, n * sizeof(float), name))
			same_bytes(name, means ? "scores of means" : "scores", got, sums,
				n * sizeof(float));
		choose(t, name, sums, on_device, pages->n);
	}
	cuda_fixture_free(on_device);
}

static void run(const form *f)
{
	trial t = { .form = *f };
	g_autofree char *name = g_strdup_printf("element %d head_dim %u, %u heads, scale %g",
		f->element, f->head_dim, f->n_heads, (double)f->scale);
	fill(&t);
	build(&t, name);
	const size_t bytes = kvt_code_query_bytes(f->head_dim, f->n_heads);
	g_autofree uint8_t *memory = g_malloc0(bytes + 64), *got = g_malloc(bytes);
	uint8_t *aligned = memory + (64 - (uintptr_t)memory % 64) % 64;
	kvt_code_query here, there;
	kvt_code_query_init(&here, f->head_dim, f->n_heads, aligned);
	kvt_code_query_set(&here, t.queries, f->scale);
	float *queries = cuda_fixture_put(t.queries, f->n_heads * f->head_dim * sizeof(float));
	void *place = cuda_fixture_put(NULL, bytes);
	const int status = kvt_cuda_code_query(
		&there, f->head_dim, f->n_heads, queries, f->scale, place, NULL);
	if (status != 0)
		cuda_fixture_failed("%s: query: status %d", name, status);
	if (cuda_fixture_get(got, place, bytes, name))
		same_bytes(name, "query", got, aligned, bytes);
	static const uint32_t ids[] = { 74, 0, 3, 3, 17, 64, 63, 31, 32, 5, 40, 41, 42, 1, 2, 30,
		16, 15, 70 };
	uint32_t *list = cuda_fixture_put(ids, sizeof(ids));
	const kvt_page_list lists[] = { { PAGES, 0, NULL }, { 41, 9, NULL },
		{ G_N_ELEMENTS(ids), 0, ids } };
	for (unsigned i = 0; i < G_N_ELEMENTS(lists); i++)
		score(&t, name, &here, &there, &lists[i], lists[i].ids ? list : NULL);
	cuda_fixture_free(list);
	cuda_fixture_free(place);
	cuda_fixture_free(queries);
	cuda_fixture_free(t.there.means);
	cuda_fixture_free(t.there.details);
	g_free(t.here.means);
	g_free(t.here.details);
	g_free(t.means);
	g_free(t.details);
	g_free(t.kv);
	g_free(t.queries);
	g_free(t.centre);
}
#else
static void run(const form *f)
{
}
#endif

static void test(const void *f)
{
	if (cuda_fixture_ready())
		run(f);
}

int main(int argc, char **argv)
{
	static const form forms[] = {
		{ KVT_ELEMENT_BF16, 128, 7, 0.1f },
		{ KVT_ELEMENT_F16, 64, 8, 0.125f },
		{ KVT_ELEMENT_E4M3, 128, 4, 0.1f },
		{ KVT_ELEMENT_BF16, 128, 13, 3 }, /* sums that only their order defines */
		{ KVT_ELEMENT_F16, 80, 1, -0.2f },
		{ KVT_ELEMENT_BF16, 512, 5, 0.01f },
		{ KVT_ELEMENT_BF16, 16, 3, 1 },
	};
	cuda_fixture_init(&argc, &argv);
	for (unsigned i = 0; i < G_N_ELEMENTS(forms); i++) {
		g_autofree char *path = g_strdup_printf("/cuda-codes/%u-%u-heads-%u",
			forms[i].head_dim, forms[i].n_heads, forms[i].element);
		g_test_add_data_func(path, &forms[i], test);
	}
	return g_test_run();
}
