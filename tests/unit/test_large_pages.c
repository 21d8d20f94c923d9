/* test_large_pages.c: two levels of pages beside a naive bitmap, and the use of memory that models
 * of mixed layers get out of them, beside the layouts that they replace. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "models/llm.h"
#include "sim/base/rng.h"
#include "sim/fleet/block_allocator.h"

enum { KINDS = 3, OWNERS = 6, PAGES_MAX = 4000, OPERATIONS = 20000 };

/* Every large page has one kind at a time, no small page is handed out twice, and a page is refused
 * only when there is none. */
static void test_beside_bitmap(void)
{
	const uint64_t bytes[KINDS] = { 4, 6, 10 }; /* lcm 60: 15, 10 and 6 small pages */
	kvt_rng rng = kvt_rng_init(1, 3);
	g_autoptr(kvt_large_pages) pages = kvt_large_pages_new(20 * 60 + 59, bytes, KINDS, NULL);
	g_assert_cmpuint(pages->large_bytes, ==, 60);
	g_assert_cmpuint(pages->n_large, ==, 20);
	kvt_page_owner owners[OWNERS];
	for (unsigned i = 0; i < OWNERS; i++)
		kvt_page_owner_init(&owners[i], i + 1);
	uint32_t held[KINDS][PAGES_MAX], n_held[KINDS] = { 0 };
	uint8_t taken[PAGES_MAX] = { 0 };
	unsigned refused = 0;
	for (unsigned i = 0; i < OPERATIONS; i++) {
		unsigned kind = (unsigned)kvt_rng_below(&rng, KINDS);
		/* it fills, and empties again */
		gboolean take = kvt_rng_below(&rng, 16) < (i / 1000 % 2 ? 4 : 12);
		uint32_t in_use[20] = { 0 }, kinds[20] = { 0 }, room = 0;
		for (unsigned k = 0; k < KINDS; k++)
			for (uint32_t j = 0; j < n_held[k]; j++) {
				uint32_t large =
					(held[k][j] - pages->first_small[k]) / pages->per_large[k];
				in_use[large]++;
				g_assert_true(kinds[large] == 0 || kinds[large] == k + 1);
				kinds[large] = k + 1;
			}
		for (unsigned large = 0; large < 20; large++)
			room += in_use[large] == 0         ? pages->per_large[kind]
				: kinds[large] == kind + 1 ? pages->per_large[kind] - in_use[large]
							   : 0;
		g_assert_cmpuint(kvt_large_pages_available(pages, kind), ==, room);
		if (take) {
			uint32_t page = kvt_large_pages_take(
				pages, kind, &owners[kvt_rng_below(&rng, OWNERS)]);
			g_assert_cmpint(page == KVT_NO_SMALL_PAGE, ==, room == 0);
			refused += page == KVT_NO_SMALL_PAGE;
			if (page == KVT_NO_SMALL_PAGE)
				continue;
			g_assert_cmpuint(page, >=, pages->first_small[kind]);
			g_assert_cmpuint(page, <, pages->first_small[kind + 1]);
			g_assert_cmpint(taken[page]++, ==, 0);
			held[kind][n_held[kind]++] = page;
		} else if (n_held[kind] > 0) {
			uint32_t j = (uint32_t)kvt_rng_below(&rng, n_held[kind]);
			uint32_t page = held[kind][j];
			held[kind][j] = held[kind][--n_held[kind]];
			taken[page] = 0;
			kvt_large_pages_give(pages, kind, page);
		}
	}
	g_assert_cmpuint(refused, >, 100);
	uint64_t used = 0;
	for (unsigned kind = 0; kind < KINDS; kind++)
		used += n_held[kind] * bytes[kind];
	g_assert_cmpuint(used + kvt_large_pages_stranded(pages) + pages->n_whole * 60, ==, 20 * 60);
	for (unsigned kind = 0; kind < KINDS; kind++)
		while (n_held[kind] > 0)
			kvt_large_pages_give(pages, kind, held[kind][--n_held[kind]]);
	g_assert_cmpuint(pages->n_whole, ==, 20);
}

/* Requests come and go, the oldest not first: pages of each lie together, so all that a request had
 * comes back as whole large pages, but for what it had to take elsewhere. */
static void test_requests_leave_whole_pages(void)
{
	const uint64_t bytes[2] = { 1, 3 };
	g_autoptr(kvt_large_pages) pages = kvt_large_pages_new(3 * 200, bytes, 2, NULL);
	uint32_t held[8][30], n_whole = pages->n_whole;
	for (unsigned i = 0; i < 30; i++)
		for (unsigned request = 0; request < 8; request++) {
			static kvt_page_owner owners[8];
			if (i == 0)
				kvt_page_owner_init(&owners[request], request + 1);
			held[request][i] = kvt_large_pages_take(pages, 0, &owners[request]);
		}
	g_assert_cmpuint(pages->n_whole, ==, n_whole - 80);
	for (unsigned request = 1; request < 8; request += 2) {
		uint32_t before = pages->n_whole;
		for (unsigned i = 0; i < 30; i++)
			kvt_large_pages_give(pages, 0, held[request][i]);
		g_assert_cmpuint(pages->n_whole, ==, before + 10);
	}
	g_assert_cmpuint(kvt_large_pages_stranded(pages), ==, 0);
}

static void test_sizes(void)
{
	g_autoptr(GError) error = NULL;
	const uint64_t bytes[2] = { 4096, 12288 };
	g_assert_null(kvt_large_pages_new(12287, bytes, 2, &error));
	g_assert_nonnull(strstr(error->message, "12288"));
	g_clear_error(&error);
	/* sizes that have no useful common multiple */
	const uint64_t primes[3] = { UINT64_C(4294967291), UINT64_C(4294967279), 1000003 };
	g_assert_null(kvt_large_pages_new(UINT64_C(1) << 40, primes, 3, &error));
	g_clear_error(&error);
	const uint64_t tiny[1] = { 1 };
	g_assert_null(kvt_large_pages_new(UINT64_C(1) << 40, tiny, 1, &error));
	g_assert_nonnull(strstr(error->message, "larger pages"));
	g_clear_error(&error);
	g_autoptr(kvt_large_pages) one = kvt_large_pages_new(100, tiny, 1, &error);
	g_assert_cmpuint(one->n_large, ==, 100);
}

/* Bytes that hold something, of those taken, when memory is filled with requests that need
 * `tokens[kind]` tokens of token_bytes[kind]; pages of 16 tokens. */
static double filled(const uint64_t *page_bytes, const uint64_t *token_bytes,
	const uint64_t *tokens, uint32_t n_kinds, uint64_t memory, uint32_t *n_requests)
{
	g_autoptr(kvt_large_pages) pages = kvt_large_pages_new(memory, page_bytes, n_kinds, NULL);
	uint64_t needed = 0;
	*n_requests = 0;
	for (;; (*n_requests)++) {
		kvt_page_owner owner;
		kvt_page_owner_init(&owner, *n_requests + 1);
		for (uint32_t kind = 0; kind < n_kinds; kind++)
			for (uint64_t i = 0; i < (tokens[kind] + 15) / 16; i++)
				if (kvt_large_pages_take(pages, kind, &owner) == KVT_NO_SMALL_PAGE)
					return (double)needed / (double)memory;
		for (uint32_t kind = 0; kind < n_kinds; kind++)
			needed += tokens[kind] * token_bytes[kind];
	}
}

/*
 * Jenga's case of Llama 3.2 Vision 11B on MMMU-pro (arXiv 2503.18292): 32 layers of
 * self-attention need the KV of 43 text tokens, 8 of cross-attention that of 6,193 image tokens.
 * One page size for all layers and tokens wastes 79.6%; two kinds waste next to nothing.
 */
static void test_published_utilisation(void)
{
	const uint64_t layer = 4096, text = 43, image = 6193;
	const uint64_t memory = UINT64_C(16) << 30;
	const uint64_t uniform_page[1] = { 40 * layer * 16 }, uniform_tokens[1] = { text + image };
	const uint64_t uniform_token[1] = { 40 * layer };
	uint32_t uniform_requests, jenga_requests;
	double held =
		filled(uniform_page, uniform_token, uniform_tokens, 1, memory, &uniform_requests);
	uint64_t needed = (32 * text + 8 * image) * layer;
	double useful = held * (double)needed / (double)(uniform_tokens[0] * uniform_token[0]);
	const uint64_t pages[2] = { 32 * layer * 16, 8 * layer * 16 };
	const uint64_t token[2] = { 32 * layer, 8 * layer }, tokens[2] = { text, image };
	double jenga = filled(pages, token, tokens, 2, memory, &jenga_requests);
	double waste = 1 - (double)needed / (double)(uniform_tokens[0] * uniform_token[0]);
	g_test_message(
		"uniform pages: %u requests, %.1f%% of memory useful, %.1f%% of what is held "
		"wasted; two levels: %u requests, %.1f%% useful",
		uniform_requests, 100 * useful, 100 * waste, jenga_requests, 100 * jenga);
	g_assert_cmpfloat(fabs(waste - 0.796), <, 0.0005);
	g_assert_cmpfloat(jenga, >, 0.98);
	g_assert_cmpfloat(useful, <, 0.21);
	g_assert_cmpuint(jenga_requests, >, 4 * uniform_requests);
}

/* Llama 4 Scout, 64K tokens: its 36 chunked layers hold at most 8,192 of them. Pages of the largest
 * kind for both waste two thirds of the global layers' pages; keeping all tokens in all layers, as
 * one kind, wastes more. */
static void test_scout(void)
{
	g_autoptr(kvt_llm) llm = kvt_llm_load("llama-4-scout-17b-16e-fp8", NULL);
	g_assert_nonnull(llm);
	kvt_block_shape shape;
	g_assert_true(kvt_block_shape_init(&shape, llm, 1, 64, 16, NULL));
	g_assert_cmpuint(shape.n_kinds, ==, 2);
	g_assert_cmpuint(shape.kinds[0].layers, ==, 12);
	g_assert_cmpuint(shape.kinds[1].layers, ==, 36);
	g_assert_cmpuint(shape.kinds[1].window, ==, 8192);
	uint64_t global = 16 * shape.kinds[0].token_bytes, local = 16 * shape.kinds[1].token_bytes;
	g_assert_cmpuint(local, ==, 3 * global);
	const uint64_t token[2] = { global / 16, local / 16 }, tokens[2] = { 65536, 8192 };
	const uint64_t jenga_pages[2] = { global, local }, largest[2] = { local, local };
	const uint64_t all_token[1] = { (global + local) / 16 }, all_pages[1] = { global + local };
	const uint64_t memory = UINT64_C(100) << 30;
	uint32_t jenga_requests, largest_requests, all_requests;
	double jenga = filled(jenga_pages, token, tokens, 2, memory, &jenga_requests);
	double padded = filled(largest, token, tokens, 2, memory, &largest_requests);
	filled(all_pages, all_token, tokens, 1, memory, &all_requests);
	g_test_message("64K tokens of Scout in 100 GiB: %u requests in two levels (%.1f%% useful), "
		       "%u in pages of the largest kind (%.1f%%), %u where all layers keep all",
		jenga_requests, 100 * jenga, largest_requests, 100 * padded, all_requests);
	g_assert_cmpfloat(jenga, >, 0.9);
	g_assert_cmpuint(jenga_requests, >=, 2 * largest_requests);
	g_assert_cmpuint(largest_requests, >, all_requests);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/large-pages/beside-bitmap", test_beside_bitmap);
	g_test_add_func("/large-pages/requests-leave-whole-pages", test_requests_leave_whole_pages);
	g_test_add_func("/large-pages/sizes", test_sizes);
	g_test_add_func("/large-pages/published-utilisation", test_published_utilisation);
	g_test_add_func("/large-pages/scout", test_scout);
	return g_test_run();
}
