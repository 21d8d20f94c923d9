/*
 * test_two_worlds.c: the same trace over null tiers, in virtual time and in real time: what is
 * chosen, and the sequence of I/Os, are identical, whatever the prefetcher and the policy.
 */
#include <glib.h>
#include <string.h>

#include "emu/loop/real_loop.h"
#include "sim/prefetch/prefetcher.h"
#include "tests/unit/recording_tier.h"
#include "tests/unit/replay_fixture.h"

/* One run's decisions. */
typedef struct decisions {
	recording log;
	kvt_replay_result result;
} decisions;

static void decide(kvt_loop *loop, const kvt_fake_spec *spec, const kvt_replay_settings *settings,
	decisions *out)
{
	g_autoptr(GError) error = NULL;
	kvt_network *network = kvt_network_new(loop);
	kvt_tier_env env = { .loop = loop, .network = network, .seed = 1 };
	g_autoptr(kvt_replay_source) source = kvt_fake_source_new(spec);
	*out = (decisions){ .log = { g_string_new(""), g_string_new(""), NULL, NULL } };
	kvt_tier *tier = recording_tier_new(kvt_tier_open("null", &env, NULL, &error), &out->log);
	kvt_replay_world world = { .loop = loop, .storage = tier };
	g_assert_true(kvt_replay_run(source, settings, &world, &out->result, &error));
	g_assert_no_error(error);
	kvt_tier_close(tier);
	kvt_network_free(network);
	kvt_loop_free(loop);
}

static void decisions_clear(decisions *d)
{
	kvt_replay_result_clear(&d->result);
	g_string_free(d->log.reads, TRUE);
	g_string_free(d->log.writes, TRUE);
}

static void compare(const kvt_fake_spec *spec, const kvt_replay_settings *settings)
{
	decisions virtual, real;
	decide(kvt_virtual_loop_new(), spec, settings, &virtual);
	decide(kvt_real_loop_new(NULL), spec, settings, &real);
	g_assert_cmpuint(virtual.log.reads->len, >, 0);
	g_assert_cmpstr(virtual.log.reads->str, ==, real.log.reads->str);
	g_assert_cmpstr(virtual.log.writes->str, ==, real.log.writes->str);
	g_assert_cmpmem(&virtual.result.counts, sizeof(virtual.result.counts), &real.result.counts,
		sizeof(real.result.counts));
	g_assert_cmpuint(virtual.result.moved_bytes, ==, real.result.moved_bytes);
	g_assert_true(virtual.result.selection == real.result.selection);
	g_assert_true(virtual.result.mass_kept == real.result.mass_kept);
	decisions_clear(&virtual);
	decisions_clear(&real);
}

static void test_replay(void)
{
	static const char *const prefetchers[] = { "last-step", "quest", "slap", "oracle" };
	for (unsigned i = 0; i < G_N_ELEMENTS(prefetchers); i++)
		for (int exact = 0; exact < 2; exact++) {
			g_autoptr(GError) error = NULL;
			kvt_fake_spec spec = kvt_fake_default;
			spec.n_steps = 20;
			spec.group = 2;
			spec.head_dim = 16;
			spec.block_tokens = 16;
			kvt_replay_settings settings = kvt_fake_settings();
			settings.prefetcher = kvt_prefetcher_find(prefetchers[i], &error);
			g_assert_no_error(error);
			settings.attention = exact ? KVT_REPLAY_EXACT : KVT_REPLAY_BUDGETED;
			settings.budget = 0.1;
			settings.layer_time = 20 * KVT_MICROSECOND;
			settings.step_time = 50 * KVT_MICROSECOND;
			compare(&spec, &settings);
		}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/two-worlds/replay", test_replay);
	return g_test_run();
}
