/* test_scorer_causality.c: prefetchers that read keys and queries, in replays of a made-up layer
 * whose masses are the softmax of its keys and queries: nothing of the future is ever asked for,
 * and a source that answers such questions with garbage changes no figure. */
#include <glib.h>
#include <math.h>

#include "sim/engine/replay_feed.h"
#include "tests/unit/replay_fixture.h"
#include "traces/half_float.h"

/* 4 pages are completed on the way. */
static const kvt_fake_spec made = { .seed = 3,
	.n_steps = 24,
	.n_layers = 1,
	.n_heads = 2,
	.context = 1205,
	.stride = 3,
	.block_tokens = 16,
	.group = 2,
	.head_dim = 32 };

static kvt_replay_result replay(const kvt_fake_spec *spec, const kvt_prefetcher_ops *ops, int query)
{
	kvt_replay_settings settings = kvt_fake_settings();
	kvt_replay_result result;
	settings.prefetcher = ops;
	settings.query = query;
	settings.hbm = 0.2;
	g_autoptr(kvt_replay_source) source = kvt_fake_source_new(spec);
	g_autoptr(GError) error = NULL;
	kvt_fake_replay_source(source, &settings, &kvt_fake_world_default, &result, &error);
	g_assert_no_error(error);
	g_assert_cmpuint(kvt_fake_source_leaks(source), ==, 0);
	return result;
}

static void same(const kvt_replay_result *a, const kvt_replay_result *b)
{
	g_assert_cmpfloat(a->mass_kept, ==, b->mass_kept);
	g_assert_cmpfloat(a->mass_on_time, ==, b->mass_on_time);
	g_assert_true(a->mass_estimated == b->mass_estimated ||
		      (isnan(a->mass_estimated) && isnan(b->mass_estimated)));
	g_assert_cmpint(a->total, ==, b->total);
	g_assert_cmpmem(&a->counts, sizeof(a->counts), &b->counts, sizeof(b->counts));
	g_assert_cmpmem(&a->scorer, sizeof(a->scorer), &b->scorer, sizeof(b->scorer));
	g_assert_cmpuint(a->n_rows, ==, b->n_rows);
	for (uint32_t i = 0; i < a->n_rows; i++)
		g_assert_cmpfloat(a->by_head[i].mass_kept, ==, b->by_head[i].mass_kept);
}

static void test_poisoned(void)
{
	for (size_t p = 0; kvt_prefetcher_registry()[p]; p++) {
		const kvt_prefetcher_ops *ops = kvt_prefetcher_registry()[p];
		for (int query = 0; ops->reads_keys && query < 2; query++) {
			kvt_fake_spec poisoned = made;
			poisoned.poison = true;
			poisoned.previous = query == KVT_REPLAY_QUERY_PREVIOUS;
			kvt_replay_result a = replay(&made, ops, query);
			kvt_replay_result b = replay(&poisoned, ops, query);
			g_assert_cmpuint(a.scorer.queries, >, 0);
			same(&a, &b);
			kvt_replay_result_clear(&a);
			kvt_replay_result_clear(&b);
		}
	}
}

/* Scores are worth having: more of the true softmax is kept than by any pages at all. */
static void test_better_than_random(void)
{
	kvt_replay_result any =
		replay(&made, kvt_prefetcher_find("random", NULL), KVT_REPLAY_QUERY_CURRENT);
	for (size_t p = 0; kvt_prefetcher_registry()[p]; p++) {
		const kvt_prefetcher_ops *ops = kvt_prefetcher_registry()[p];
		if (!ops->reads_keys)
			continue;
		kvt_replay_result result = replay(&made, ops, KVT_REPLAY_QUERY_CURRENT);
		g_assert_cmpfloat(result.mass_kept, >, 1.5 * any.mass_kept);
		g_assert_cmpfloat(result.mass_kept, <=, result.mass_oracle);
		kvt_replay_result_clear(&result);
	}
	kvt_replay_result_clear(&any);
}

/* The source tells when it is asked too early, and its garbage is garbage. */
static void test_source_catches(void)
{
	kvt_fake_spec spec = made;
	spec.poison = true;
	g_autoptr(kvt_replay_source) source = kvt_fake_source_new(&spec);
	uint16_t keys[2 * 16 * 32];
	float queries[2 * 2 * 32], key[2 * 16 * 32];
	uint32_t incomplete = spec.context / spec.block_tokens;
	g_assert_true(source->keys(source, 0, 0, incomplete - 1, 1, keys, NULL));
	g_assert_true(source->queries(source, 0, 0, queries, NULL));
	g_assert_cmpuint(kvt_fake_source_leaks(source), ==, 0);
	g_assert_true(source->keys(source, 0, 0, incomplete - 1, 2, keys, NULL));
	g_assert_cmpuint(kvt_fake_source_leaks(source), ==, 1);
	kvt_half_to_float(keys, key, G_N_ELEMENTS(key));
	g_assert_true(isfinite(key[16 * 32 - 1]) && isinf(key[16 * 32 + 1]));
	g_assert_true(source->queries(source, 1, 0, queries, NULL));
	g_assert_cmpuint(kvt_fake_source_leaks(source), ==, 2);
	g_assert_true(isnan(queries[1]));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/scorer-causality/source-catches", test_source_catches);
	g_test_add_func("/scorer-causality/poisoned", test_poisoned);
	g_test_add_func("/scorer-causality/better-than-random", test_better_than_random);
	return g_test_run();
}
