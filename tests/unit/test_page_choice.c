/* test_page_choice.c: the extents of a choice: as many pages and runs as it says, in order, within
 * what is stored, and the same whether they are asked for at once or piece by piece. */
#include <glib.h>
#include <math.h>

#include "sim/base/rng.h"
#include "sim/engine/page_choice.h"

static kvt_kv_layout layout = { .ranks = 4, .context = 5, .page_tokens = 16, .token_bytes = 4096 };

static void check_extents(const kvt_page_choice *choice, const kvt_extent_list *list)
{
	uint64_t pages = 0, end = 0;
	uint32_t context = 0;
	for (unsigned i = 0; i < list->n; i++) {
		const kvt_extent *extent = &list->extents[i];
		g_assert_cmpuint(extent->layer, ==, 7);
		g_assert_cmpuint(extent->page_bytes, ==, 4096 * 16 / choice->parts);
		g_assert_cmpuint(extent->context, >, 5);
		g_assert_cmpuint(extent->context, <=, 5 + choice->parts);
		g_assert_true(extent->context != context || extent->first_page > end);
		g_assert_cmpuint(extent->context, >=, context);
		end = extent->first_page + extent->n_pages;
		g_assert_cmpuint(end, <=, choice->stored_pages);
		context = extent->context;
		pages += extent->n_pages;
	}
	g_assert_cmpuint(pages, ==, choice->chosen_pages * choice->parts);
}

static void check_choice(uint64_t stored, double share, double run_pages, unsigned parts)
{
	kvt_page_choice choice;
	kvt_page_choice_init(&choice, stored, share, run_pages);
	choice.parts = parts;
	g_assert_cmpuint(choice.chosen_pages, >=, 1);
	g_assert_cmpuint(choice.chosen_pages, <=, stored);
	g_assert_cmpfloat(fabs((double)choice.chosen_pages - share * (double)stored), <=, 1);
	kvt_extent_list whole = { 0 }, pieces = { 0 };
	kvt_page_choice_extents(&choice, &layout, 7, 0, choice.chosen_pages, &whole);
	check_extents(&choice, &whole);
	/* runs join where fewer pages are left out than there are runs */
	uint64_t runs = (uint64_t)ceil((double)choice.chosen_pages / choice.run_pages);
	uint64_t left_out = stored - choice.chosen_pages;
	g_assert_cmpuint(whole.n, <=, runs * parts);
	g_assert_cmpuint(whole.n, >=, MIN(runs, MAX(left_out, 1)) * parts);

	for (uint64_t at = 0; at < choice.chosen_pages && parts == 1; at += 7)
		kvt_page_choice_extents(
			&choice, &layout, 7, at, MIN(7, choice.chosen_pages - at), &pieces);
	for (unsigned i = 0; i < pieces.n; i++) {
		g_assert_cmpuint(pieces.n, ==, whole.n);
		g_assert_cmpuint(pieces.extents[i].first_page, ==, whole.extents[i].first_page);
		g_assert_cmpuint(pieces.extents[i].n_pages, ==, whole.extents[i].n_pages);
	}
	uint64_t stored_page = 0;
	for (uint64_t held = 0; held < choice.chosen_pages + 5; held++) {
		uint64_t next = kvt_page_choice_stored_page(&choice, held);
		g_assert_true(held == 0 || next > stored_page);
		stored_page = next;
	}
	g_assert_cmpuint(stored_page, ==, stored + 4);
	kvt_extent_list_free(&whole);
	kvt_extent_list_free(&pieces);
}

static void test_extents(void)
{
	kvt_rng rng = kvt_rng_init(3, 1);
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t stored = 1 + kvt_rng_below(&rng, i % 2 ? 50 : 3000);
		double share = kvt_rng_uniform(&rng);
		double run_pages = 1 + 10 * kvt_rng_uniform(&rng) * kvt_rng_uniform(&rng);
		check_choice(stored, MAX(share, 1e-6), run_pages, 1 + i % 3);
		check_choice(stored, 1, run_pages, 1 + i % 3);
	}
}

/* What is chosen from, and the sketches, are stored as long runs of contexts of their own. */
static void test_stored(void)
{
	kvt_page_choice choice;
	kvt_page_choice_init(&choice, 100, 0.5, 2);
	choice.parts = 2;
	kvt_extent_list list = { 0 };
	kvt_page_choice_stored(&choice, &layout, 3, 104, &list);
	g_assert_cmpuint(list.n, ==, 2);
	choice.sketch_bytes = 300;
	kvt_extent_list_clear(&list);
	kvt_page_choice_stored(&choice, &layout, 3, 104, &list);
	g_assert_cmpuint(list.n, ==, 3);
	uint64_t bytes = 0;
	for (unsigned i = 0; i < list.n; i++) {
		g_assert_cmpuint(list.extents[i].context, ==, 6 + i);
		g_assert_cmpuint(list.extents[i].first_page, ==, 0);
		bytes += kvt_extent_bytes(&list.extents[i]);
	}
	g_assert_cmpuint(bytes, ==, 104 * 16 * 4096 + 100 * 300);
	kvt_extent_list_free(&list);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/page-choice/extents", test_extents);
	g_test_add_func("/page-choice/stored", test_stored);
	return g_test_run();
}
