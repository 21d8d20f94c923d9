/* test_replay.c: what a replay decides: selections, mass, hits and misses, on made-up attention. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/prefetch/top_pages.h"
#include "tests/unit/replay_fixture.h"

/* In the order of what they may keep. */
static const char *const prefetchers[] = { "none", "last-step", "oracle", "random" };

static void must_replay(
	const kvt_fake_spec *spec, const kvt_replay_settings *settings, kvt_replay_result *result)
{
	g_autoptr(GError) error = NULL;
	gboolean done = kvt_fake_replay(spec, settings, &kvt_fake_world_default, result, &error);
	g_assert_no_error(error);
	g_assert_true(done);
}

/* Every combination of what there is. */
static void for_all(void (*check)(const kvt_replay_settings *settings))
{
	const kvt_prefetcher_ops *const *prefetcher = kvt_prefetcher_registry();
	for (; *prefetcher; prefetcher++)
		for (const kvt_policy_ops *const *policy = kvt_policy_registry();
			*policy && !(*prefetcher)->reads_keys; policy++)
			for (unsigned i = 0; i < 6; i++) {
				kvt_replay_settings settings = kvt_fake_settings();
				settings.prefetcher = *prefetcher;
				settings.policy = *policy;
				settings.attention = i % 3 > 0;
				settings.dense_prompt = i % 3 > 1;
				settings.hbm = i < 3 ? 0 : 0.25;
				check(&settings);
			}
}

/* The best mass of a budget, the slow way. */
static double best_mass(const kvt_replay_row *row, const kvt_replay_present *exist, uint32_t budget)
{
	double total = 0;
	g_autofree bool *taken = g_new0(bool, row->n);
	for (uint32_t i = 0; i < row->n; i++) {
		taken[i] = row->pages[i] == exist->first || row->pages[i] + 4 >= exist->end;
		total += taken[i] ? row->mass[i] : 0;
	}
	for (uint32_t left = budget - MIN(5, exist->end - exist->first); left > 0; left--) {
		uint32_t best = row->n;
		for (uint32_t i = 0; i < row->n; i++)
			if (!taken[i] && (best == row->n || row->mass[i] > row->mass[best]))
				best = i;
		if (best == row->n)
			break;
		taken[best] = true;
		total += row->mass[best];
	}
	return total;
}

static void check_selection(const kvt_selection *selection, const kvt_replay_row *row)
{
	const kvt_replay_present *exist = &selection->present;
	uint32_t present = exist->end - exist->first;
	uint32_t budget = MAX(5, (uint32_t)floor(0.1 * present));
	g_assert_cmpuint(selection->budget, ==, MIN(budget, present));
	g_assert_cmpuint(selection->n, <=, selection->budget);
	bool kept[5] = { false };
	double mass = 0;
	for (uint32_t i = 0; i < selection->n; i++) {
		uint32_t page = selection->pages[i];
		g_assert_true(page >= exist->first && page < exist->end);
		g_assert_true(i == 0 || page > selection->pages[i - 1]);
		for (uint32_t k = 0; k < 4; k++)
			kept[k] |= page + 1 + k == exist->end;
		kept[4] |= page == exist->first;
		for (uint32_t j = 0; j < row->n; j++)
			mass += row->pages[j] == page ? row->mass[j] : 0;
	}
	g_assert_true(kept[4]);
	for (uint32_t k = 0; k < MIN(4, present); k++)
		g_assert_true(kept[k]);
	g_assert_cmpfloat_with_epsilon((double)selection->kept_mass / KVT_MASS_ONE, mass, 1e-5);
	g_assert_cmpfloat_with_epsilon((double)selection->oracle_mass / KVT_MASS_ONE,
		best_mass(row, exist, selection->budget), 1e-5);
	g_assert_cmpuint(selection->kept_mass, <=, selection->oracle_mass);
}

static void test_selections(void)
{
	kvt_fake_spec specs[] = { kvt_fake_default, kvt_fake_default, kvt_fake_default };
	specs[1].context = 6; /* fewer pages than are always kept */
	specs[2].chunk = 96;
	for (size_t s = 0; s < G_N_ELEMENTS(specs); s++)
		for (size_t p = 0; p < G_N_ELEMENTS(prefetchers); p++) {
			g_autoptr(kvt_replay_source) source = kvt_fake_source_new(&specs[s]);
			const kvt_prefetcher_ops *ops = kvt_prefetcher_find(prefetchers[p], NULL);
			kvt_selector_spec selection_spec = { .prefetcher = ops, .budget = 0.1 };
			kvt_selector *selector = kvt_selector_new(source, &selection_spec);
			for (uint32_t step = 0; step < source->n_steps; step++)
				for (uint32_t head = 0; head < source->n_heads; head++) {
					const kvt_selection *selection = kvt_selector_select(
						selector, step, 1, head, NULL, NULL);
					kvt_replay_row row;
					source->row(source, step, 1, head, 0, &row, NULL);
					check_selection(selection, &row);
					if (ops->sees_future)
						g_assert_cmpuint(selection->kept_mass, ==,
							selection->oracle_mass);
					kvt_selector_observe(selector, step, 1, head, true);
				}
			kvt_selector_free(selector);
		}
}

/* A prefetcher that watches what it is given, and asks for a page that `spy_asks` says. */
static uint32_t spy_asks; /* pages beyond the last one that exists */
static uint32_t spy_planned, spy_observed;
static bool spy_budgeted;

static kvt_prefetcher *spy_create(const kvt_prefetcher_spec *spec)
{
	return g_new0(kvt_prefetcher, 1);
}

static void spy_free(kvt_prefetcher *prefetcher)
{
	g_free(prefetcher);
}

static void spy_observe(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
	double sum = 0;
	for (uint32_t i = 0; i < row->n; i++) {
		sum += row->mass[i];
		g_assert_true(i == 0 || row->pages[i] > row->pages[i - 1]);
	}
	/* what was attended has all of the mass, as far as attention knows */
	g_assert_cmpfloat_with_epsilon(sum, 1, 1e-4);
	if (spy_budgeted)
		g_assert_cmpuint(row->n, <=, 30);
	spy_observed++;
}

static void spy_plan(kvt_prefetcher *prefetcher, const kvt_plan_request *request, kvt_plan *plan)
{
	g_assert_null(request->future);
	/* every head of this layer was observed at every step before */
	g_assert_cmpuint(spy_observed, ==, spy_planned);
	spy_planned++;
	if (spy_asks == 0)
		return;
	plan->pages[plan->n++] = request->n_present + spy_asks - 1;
}

static const kvt_prefetcher_ops spy = {
	.name = "spy",
	.create = spy_create,
	.free = spy_free,
	.observe = spy_observe,
	.plan = spy_plan,
};

static void test_prefetchers_see_the_past(void)
{
	kvt_fake_spec spec = kvt_fake_default;
	spec.n_layers = spec.n_heads = 1;
	for (int budgeted = 0; budgeted < 2; budgeted++) {
		g_auto(kvt_replay_result) result = { 0 };
		kvt_replay_settings settings = kvt_fake_settings();
		settings.attention = budgeted ? KVT_REPLAY_BUDGETED : KVT_REPLAY_EXACT;
		settings.prefetcher = &spy;
		spy_asks = spy_planned = spy_observed = 0;
		spy_budgeted = budgeted;
		must_replay(&spec, &settings, &result);
		g_assert_cmpuint(spy_planned, ==, spec.n_steps);
		g_assert_cmpuint(spy_observed, ==, spec.n_steps);
	}
}

static void test_unwritten_pages_in_child(void)
{
	g_auto(kvt_replay_result) result = { 0 };
	kvt_replay_settings settings = kvt_fake_settings();
	settings.prefetcher = &spy;
	spy_asks = 1;
	must_replay(&kvt_fake_default, &settings, &result);
}

/* A page that does not exist yet cannot be prefetched, even by one who knows its number. */
static void test_unwritten_pages(void)
{
	g_test_trap_subprocess("/replay/subprocess/unwritten-pages", 0, 0);
	g_test_trap_assert_failed();
	g_test_trap_assert_stderr("*page < present->end*");
}

static void check_accounts(const kvt_replay_settings *settings)
{
	g_auto(kvt_replay_result) result = { 0 };
	kvt_fake_spec spec = kvt_fake_default;
	spec.prompt = 3;
	must_replay(&spec, settings, &result);
	const kvt_residency_counts *counts = &result.counts;
	uint64_t moved = counts->prefetched + counts->demanded;
	g_assert_cmpuint(counts->accesses, ==, counts->hits + moved);
	g_assert_cmpuint(counts->hits, <=, counts->accesses - counts->compulsory);
	g_assert_cmpuint(counts->streamed, <=, counts->demanded);
	g_assert_cmpuint(counts->prefetched, <=, counts->moved);
	g_assert_cmpuint(result.storage.read_bytes, ==,
		(counts->moved + counts->demanded) * settings->page_bytes);
	g_assert_cmpuint(counts->moved, ==, counts->used + counts->wasted + counts->unused);
	g_assert_cmpuint(counts->wasted, <=, counts->evicted);
	g_assert_cmpuint(counts->polluted, <=, MIN(moved, counts->evicted));
	g_assert_cmpuint(counts->needed_moved, <=, counts->needed_here);
	g_assert_cmpuint(counts->needed_selected, <=, counts->needed_here);
	g_assert_cmpuint(result.needed, ==, counts->needed);
	g_assert_cmpuint(result.needed_here, ==, counts->needed_here);
	g_assert_cmpuint(result.needed_during, <=, counts->needed_moved);
	g_assert_cmpfloat(result.mass_resident, >=, result.mass_kept - 1e-9);
	if (settings->prefetcher->sees_future) {
		g_assert_cmpuint(counts->needed_selected, ==, counts->needed);
		g_assert_cmpuint(counts->wasted + counts->unused, ==, 0);
	}
	g_assert_cmpuint(result.moved_bytes, ==, result.storage.read_bytes);
	g_assert_cmpuint(result.attended_bytes, ==, counts->accesses * settings->page_bytes);
	g_assert_cmpuint(result.storage.read_errors + result.storage.write_errors, ==, 0);
	/* steps 0, 8, ..., 56 begin a page; those begun before step 56 are completed */
	uint64_t heads = 4, begun = 8, completed = 7;
	g_assert_cmpuint(counts->born, ==, begun * heads);
	g_assert_cmpuint(result.written_bytes, ==, completed * heads * settings->page_bytes);
	g_assert_cmpuint(result.storage.written_bytes, ==, result.written_bytes);
	kvt_time stall = 0;
	for (unsigned cause = 0; cause < KVT_STALL_CAUSES; cause++)
		stall += result.stall[cause];
	g_assert_cmpint(result.total, ==, result.attention_time + result.other_time + stall);
	g_assert_cmpint(result.ttft, ==, result.step_times[0]);
	g_assert_cmpfloat(result.mass_kept, <=, result.mass_oracle);
	g_assert_cmpfloat_with_epsilon(result.mass_listed, 1, 1e-4);
	g_assert_cmpuint(result.selection_least, >=, 5);
	g_assert_cmpuint(result.selection_most, <=, 25);
	double share = MAX(settings->hbm, settings->budget);
	g_assert_cmpuint(result.peak_pages, <=, (uint32_t)(share * 258));
	g_assert_cmpuint(result.dense_steps, ==, settings->dense_prompt ? 9 : 0);
	g_assert_cmpint(result.has_belady, ==, !settings->dense_prompt);
	if (!result.has_belady || settings->attention == KVT_REPLAY_EXACT)
		g_assert_cmpuint(counts->compulsory, ==, 250 * heads);
	if (!result.has_belady)
		return;
	g_assert_cmpuint(result.belady_misses, <=, counts->accesses - counts->hits);
	g_assert_cmpfloat_with_epsilon(result.mass_lost,
		settings->attention == KVT_REPLAY_BUDGETED ? 1 - result.mass_kept : 0, 1e-5);
	if (settings->attention == KVT_REPLAY_BUDGETED && settings->policy->needs_future)
		g_assert_cmpuint(result.belady_misses, ==, counts->accesses - counts->hits);
}

static void test_accounts(void)
{
	for_all(check_accounts);
}

static void test_order_of_prefetchers(void)
{
	for (int attention = 0; attention < 2; attention++) {
		double kept[3];
		for (size_t p = 0; p < 3; p++) {
			g_auto(kvt_replay_result) result = { 0 };
			kvt_replay_settings settings = kvt_fake_settings();
			settings.attention = attention;
			settings.prefetcher = kvt_prefetcher_find(prefetchers[p], NULL);
			must_replay(&kvt_fake_default, &settings, &result);
			kept[p] = result.mass_kept;
			if (p == 2)
				g_assert_cmpfloat(result.mass_kept, ==, result.mass_oracle);
		}
		g_assert_cmpfloat(kept[2], >, kept[1]);
		if (attention == KVT_REPLAY_EXACT)
			g_assert_cmpfloat(kept[1], >, kept[0] * 1.2);
		/* with a budget, last-step has nothing but what it began with */
		else
			g_assert_cmpfloat_with_epsilon(kept[1], kept[0], 0.1);
	}
}

/* The same accesses (the oracle's) with more and more HBM: hits never fall, time never rises. */
static void test_more_hbm(void)
{
	uint64_t least[2] = { 0 };
	static const char *const policies[] = { "lru", "belady" };
	for (size_t e = 0; e < G_N_ELEMENTS(policies); e++) {
		uint64_t hits = 0;
		kvt_time total = KVT_TIME_NEVER;
		for (int percent = 10; percent <= 60; percent += 5) {
			g_auto(kvt_replay_result) result = { 0 };
			kvt_replay_settings settings = kvt_fake_settings();
			settings.attention = KVT_REPLAY_BUDGETED;
			settings.prefetcher = kvt_prefetcher_find("oracle", NULL);
			settings.policy = kvt_policy_find(policies[e], NULL);
			settings.hbm = percent / 100.0;
			must_replay(&kvt_fake_default, &settings, &result);
			g_assert_cmpuint(result.counts.hits, >=, hits);
			g_assert_cmpint(result.total, <=, total);
			hits = result.counts.hits;
			total = result.total;
			if (percent == 15)
				least[e] = hits;
		}
	}
	g_assert_cmpuint(least[1], >, least[0]);
}

/* Under exact attention with nothing planned, LRU holds the latest pages. */
static void test_none_is_a_window(void)
{
	g_auto(kvt_replay_result) result = { 0 };
	kvt_replay_settings settings = kvt_fake_settings();
	settings.prefetcher = kvt_prefetcher_find("none", NULL);
	must_replay(&kvt_fake_default, &settings, &result);
	g_autoptr(kvt_replay_source) source = kvt_fake_source_new(&kvt_fake_default);
	double mass = 0;
	unsigned rows = 0;
	for (uint32_t step = 1; step < source->n_steps; step++)
		for (uint32_t i = 0; i < 4; i++, rows++) {
			kvt_replay_row row;
			source->row(source, step, i / 2, i % 2, 0, &row, NULL);
			kvt_replay_present exist = source->present(source, step, i / 2);
			mass += row.mass[0];
			for (uint32_t p = exist.end - exist.end / 10 + 1; p < exist.end; p++)
				mass += row.mass[p];
		}
	/* but for the first step, which finds HBM empty */
	g_assert_cmpfloat_with_epsilon(result.mass_kept * kvt_fake_default.n_steps, mass / 4, 1.0);
	g_assert_cmpfloat_with_epsilon(result.mass_kept, mass / rows, 0.01);
}

/* Prompts that attend to everything: where all steps are prompts it is exact attention, and where
 * some are, last-step knows more and loses less. */
static void test_dense_prompts(void)
{
	kvt_fake_spec spec = kvt_fake_default;
	kvt_replay_settings settings = kvt_fake_settings();
	g_auto(kvt_replay_result) exact = { 0 }, all = { 0 }, some = { 0 }, none = { 0 };
	must_replay(&spec, &settings, &exact);
	settings.attention = KVT_REPLAY_BUDGETED;
	must_replay(&spec, &settings, &none);
	settings.dense_prompt = true;
	spec.prompt = 20;
	must_replay(&spec, &settings, &all);
	g_assert_cmpmem(&all.counts, sizeof(all.counts), &exact.counts, sizeof(exact.counts));
	g_assert_cmpint(all.total, ==, exact.total);
	g_assert_cmpfloat(all.mass_kept, ==, exact.mass_kept);
	g_assert_cmpfloat(all.mass_lost, ==, 0);
	spec.prompt = 2;
	must_replay(&spec, &settings, &some);
	g_assert_cmpuint(some.dense_steps, ==, 6);
	g_assert_cmpfloat(some.mass_kept, >, none.mass_kept * 1.1);
	g_assert_cmpfloat(some.mass_lost, <, none.mass_lost);
	g_assert_cmpfloat(some.mass_lost, >, 0);
	g_assert_cmpuint(some.counts.demanded, >, 0);
	g_assert_cmpuint(some.counts.demanded, <, exact.counts.demanded / 5);
}

/* Local chunks: what lies before the chunk is gone, and nothing is fetched from there. */
static void test_chunks(void)
{
	kvt_fake_spec spec = kvt_fake_default;
	spec.chunk = 80;
	spec.n_steps = 200;
	for (size_t p = 0; p < G_N_ELEMENTS(prefetchers); p++)
		for (int attention = 0; attention < 2; attention++) {
			g_auto(kvt_replay_result) result = { 0 };
			kvt_replay_settings settings = kvt_fake_settings();
			settings.prefetcher = kvt_prefetcher_find(prefetchers[p], NULL);
			settings.attention = attention;
			must_replay(&spec, &settings, &result);
			/* the last chunk begins at token 1920: 10 of its pages are stored */
			g_assert_cmpuint(result.counts.compulsory, <=, 10 * 4);
			g_assert_cmpuint(result.peak_pages, <=, 10);
			g_assert_cmpuint(result.counts.born, ==, 25 * 4);
		}
}

/* Steps that lie apart: pages completed in between are found in storage. */
static void test_gaps(void)
{
	for (uint32_t stride = 2; stride < 40; stride += 5) {
		kvt_fake_spec spec = kvt_fake_default;
		spec.stride = stride;
		g_auto(kvt_replay_result) result = { 0 };
		kvt_replay_settings settings = kvt_fake_settings();
		must_replay(&spec, &settings, &result);
		g_assert_cmpuint(result.counts.accesses, ==,
			result.counts.hits + result.counts.prefetched + result.counts.demanded);
	}
}

/* Rows that do not list everything: the rest counts as none, and that is said. */
static void test_short_rows(void)
{
	kvt_fake_spec spec = kvt_fake_default;
	spec.listed = 12;
	g_auto(kvt_replay_result) result = { 0 }, whole = { 0 };
	kvt_replay_settings settings = kvt_fake_settings();
	settings.prefetcher = kvt_prefetcher_find("oracle", NULL);
	must_replay(&spec, &settings, &result);
	must_replay(&kvt_fake_default, &settings, &whole);
	g_assert_cmpfloat(result.mass_listed, <, 0.9);
	g_assert_cmpfloat(result.mass_kept, <, whole.mass_kept);
	g_assert_cmpfloat(result.mass_kept, <=, result.mass_listed);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/replay/selections", test_selections);
	g_test_add_func("/replay/prefetchers-see-the-past", test_prefetchers_see_the_past);
	g_test_add_func("/replay/unwritten-pages", test_unwritten_pages);
	g_test_add_func("/replay/subprocess/unwritten-pages", test_unwritten_pages_in_child);
	g_test_add_func("/replay/accounts", test_accounts);
	g_test_add_func("/replay/order-of-prefetchers", test_order_of_prefetchers);
	g_test_add_func("/replay/more-hbm", test_more_hbm);
	g_test_add_func("/replay/none-is-a-window", test_none_is_a_window);
	g_test_add_func("/replay/dense-prompts", test_dense_prompts);
	g_test_add_func("/replay/chunks", test_chunks);
	g_test_add_func("/replay/gaps", test_gaps);
	g_test_add_func("/replay/short-rows", test_short_rows);
	return g_test_run();
}
