/* test_replay_time.c: where a replay's time goes, on tiers that are slow, full, busy or broken. */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#include "tests/unit/replay_fixture.h"

/* Oracle, budgeted, LRU: what it fetches does not depend on what it fetched. */
static kvt_replay_settings budgeted_settings(void)
{
	kvt_replay_settings settings = kvt_fake_settings();
	settings.attention = KVT_REPLAY_BUDGETED;
	settings.prefetcher = kvt_prefetcher_find("oracle", NULL);
	return settings;
}

static void must_replay(const kvt_fake_spec *spec, const kvt_replay_settings *settings,
	const kvt_fake_world *world, kvt_replay_result *result)
{
	g_autoptr(GError) error = NULL;
	gboolean done = kvt_fake_replay(spec, settings, world, result, &error);
	g_assert_no_error(error);
	g_assert_true(done);
}

static void must_fail(const kvt_fake_spec *spec, const kvt_replay_settings *settings,
	const kvt_fake_world *world, const char *message)
{
	g_auto(kvt_replay_result) result = { 0 };
	g_autoptr(GError) error = NULL;
	g_assert_false(kvt_fake_replay(spec, settings, world, &result, &error));
	g_assert_nonnull(error);
	if (!strstr(error->message, message))
		g_error("\"%s\" lacks \"%s\"", error->message, message);
	g_assert_null(strchr(error->message, '\n'));
}

static kvt_time stall_of(const kvt_replay_result *result)
{
	kvt_time sum = 0;
	for (unsigned cause = 0; cause < KVT_STALL_CAUSES; cause++)
		sum += result->stall[cause];
	return sum;
}

/* Storage that costs nothing leaves attention and other work. */
static void test_free_storage(void)
{
	kvt_fake_world world = kvt_fake_world_default;
	world.tier = "null";
	for (int attention = 0; attention < 2; attention++) {
		g_auto(kvt_replay_result) result = { 0 };
		kvt_replay_settings settings = budgeted_settings();
		settings.attention = attention;
		must_replay(&kvt_fake_default, &settings, &world, &result);
		g_assert_cmpint(stall_of(&result), ==, 0);
		kvt_time other = 60 * (2 * settings.layer_time + settings.step_time);
		g_assert_cmpint(result.other_time, ==, other);
		double read = (double)result.attended_bytes / settings.hbm_rate;
		g_assert_cmpfloat_with_epsilon(
			kvt_time_to_seconds(result.attention_time), read, 1e-9);
		g_assert_cmpint(result.total, ==, result.attention_time + other);
	}
}

/* One layer and head, nothing planned: the first step's time by hand. */
static void test_first_step(void)
{
	kvt_fake_spec spec = kvt_fake_default;
	spec.n_layers = spec.n_heads = spec.n_steps = 1;
	kvt_replay_settings settings = kvt_fake_settings();
	settings.prefetcher = kvt_prefetcher_find("none", NULL);
	g_auto(kvt_replay_result) result = { 0 };
	must_replay(&spec, &settings, &kvt_fake_world_default, &result);
	/* 251 pages: one is made here, page 0 and 3 of the last 4 are fetched ahead and are there
	 * after 20 us; the other 246 make one run, a copy's cost and latency more */
	g_assert_cmpuint(result.counts.prefetched, ==, 4);
	g_assert_cmpuint(result.counts.demanded, ==, 246);
	double bytes = 246 * 4096.0;
	double demand = bytes / 20e9 + 1e-6;
	double window = settings.window_bytes / settings.hbm_rate;
	double before = kvt_time_to_seconds(settings.layer_time + settings.step_time);
	double found = kvt_time_to_seconds(result.ttft) - before - demand - window;
	/* what is left is the tier's latency: 2 us, lognormal, 10 us at the 99th percentile */
	g_assert_cmpfloat(found, >, 0.1e-6);
	g_assert_cmpfloat(found, <, 40e-6);
	g_assert_cmpint(result.stall[KVT_STALL_DEMAND], ==, stall_of(&result));
}

/* The faster the link the sooner it is over, and no decision changes. */
static void test_more_bandwidth(void)
{
	for (int attention = 0; attention < 2; attention++) {
		kvt_time total = KVT_TIME_NEVER;
		uint64_t hits = 0;
		for (double rate = 0.5e9; rate < 100e9; rate *= 1.7) {
			g_auto(kvt_replay_result) result = { 0 };
			kvt_fake_world world = kvt_fake_world_default;
			world.link_rate = rate;
			kvt_replay_settings settings = budgeted_settings();
			settings.attention = attention;
			must_replay(&kvt_fake_default, &settings, &world, &result);
			g_assert_cmpint(result.total, <=, total);
			if (rate < 2e9)
				g_assert_cmpint(result.total, <, total);
			if (total != KVT_TIME_NEVER)
				g_assert_cmpuint(result.counts.hits, ==, hits);
			total = result.total;
			hits = result.counts.hits;
		}
	}
}

/* Enough other work hides all prefetches but the first step's. */
static void test_hidden_prefetches(void)
{
	kvt_replay_settings settings = budgeted_settings();
	settings.layer_time = 2 * KVT_MILLISECOND;
	g_auto(kvt_replay_result) result = { 0 };
	must_replay(&kvt_fake_default, &settings, &kvt_fake_world_default, &result);
	g_assert_cmpint(stall_of(&result), ==, result.first_step_stall);
	g_assert_cmpuint(result.late_pages, <=, 2 * 25 * 2);
	settings.layer_time = 0;
	g_auto(kvt_replay_result) exposed = { 0 };
	must_replay(&kvt_fake_default, &settings, &kvt_fake_world_default, &exposed);
	g_assert_cmpint(exposed.stall[KVT_STALL_PREFETCH_LATE], >, 0);
	g_assert_cmpuint(exposed.late_pages, >, result.late_pages);
	g_assert_cmpuint(exposed.counts.hits, ==, result.counts.hits);
}

/* A page a step, 5 pages of HBM, slow writes: what leaves has to be written first. */
static void test_write_back(void)
{
	kvt_fake_spec spec = kvt_fake_default;
	spec.block_tokens = 1;
	spec.n_steps = 40;
	for (int attention = 0; attention < 2; attention++)
		for (size_t p = 0; p < 2; p++) {
			kvt_replay_settings settings = budgeted_settings();
			settings.attention = attention;
			settings.prefetcher = kvt_prefetcher_find(p ? "oracle" : "none", NULL);
			settings.budget = p ? 0.005 : 0.001;
			kvt_odd_spec slow = { .write_delay = 50 * KVT_MILLISECOND };
			kvt_fake_world world = kvt_fake_world_default;
			g_auto(kvt_replay_result) quick = { 0 }, result = { 0 };
			must_replay(&spec, &settings, &world, &quick);
			world.odd = &slow;
			must_replay(&spec, &settings, &world, &result);
			g_assert_cmpint(quick.stall[KVT_STALL_WRITE_BACK], ==, 0);
			/* a page leaves 4 steps after it was made */
			g_assert_cmpint(
				result.stall[KVT_STALL_WRITE_BACK], >, 200 * KVT_MILLISECOND);
			g_assert_cmpuint(result.counts.hits, ==, quick.counts.hits);
			g_assert_cmpuint(result.storage.read_errors, ==, 0);
			g_assert_cmpuint(result.written_bytes, ==, 40 * 4 * 4096);
		}
}

/* Prefetches that take turns, and a tier that takes one I/O at a time. */
static void test_queues(void)
{
	kvt_odd_spec narrow = { .refuse_above = 1 };
	kvt_fake_world world = kvt_fake_world_default;
	world.odd = &narrow;
	kvt_replay_settings settings = budgeted_settings();
	settings.layer_time = settings.step_time = 0;
	settings.copies = 6;
	g_auto(kvt_replay_result) refused = { 0 }, turns = { 0 }, free_run = { 0 };
	must_replay(&kvt_fake_default, &settings, &world, &refused);
	g_assert_cmpint(refused.stall[KVT_STALL_QUEUE], >, 0);
	/* refused with nothing under way, so that no completion will help */
	kvt_odd_spec moody = { .refuse_every = 2 };
	world.odd = &moody;
	g_auto(kvt_replay_result) again = { 0 };
	must_replay(&kvt_fake_default, &settings, &world, &again);
	g_assert_cmpuint(again.moved_bytes, ==, refused.moved_bytes);
	settings.prefetch_depth = 1;
	must_replay(&kvt_fake_default, &settings, &kvt_fake_world_default, &turns);
	settings.prefetch_depth = 100;
	must_replay(&kvt_fake_default, &settings, &kvt_fake_world_default, &free_run);
	g_assert_cmpint(free_run.stall[KVT_STALL_QUEUE], ==, 0);
	g_assert_cmpint(free_run.total, <, turns.total);
	g_assert_cmpint(free_run.total, <, refused.total);
	g_assert_cmpuint(free_run.counts.hits, ==, refused.counts.hits);
	g_assert_cmpuint(free_run.moved_bytes, ==, refused.moved_bytes);
}

/* Copies of a layer move and take as much as the layer does, and decide nothing anew. */
static void test_copies(void)
{
	kvt_replay_settings settings = budgeted_settings();
	g_auto(kvt_replay_result) one = { 0 }, three = { 0 };
	must_replay(&kvt_fake_default, &settings, &kvt_fake_world_default, &one);
	settings.copies = 3;
	must_replay(&kvt_fake_default, &settings, &kvt_fake_world_default, &three);
	g_assert_cmpuint(three.layers, ==, 3 * one.layers);
	g_assert_cmpuint(three.counts.accesses, ==, one.counts.accesses);
	g_assert_cmpuint(three.moved_bytes, ==, 3 * one.moved_bytes);
	g_assert_cmpuint(three.written_bytes, ==, 3 * one.written_bytes);
	g_assert_cmpuint(three.storage.read_bytes, ==, 3 * one.storage.read_bytes);
	g_assert_cmpuint(three.peak_hbm_bytes, ==, 3 * one.peak_hbm_bytes);
	g_assert_cmpint(three.attention_time, ==, 3 * one.attention_time);
	g_assert_cmpfloat(three.mass_kept, ==, one.mass_kept);
}

/* I/Os that fail are made again, and nothing of the result but time shows it. */
static void test_retries(void)
{
	kvt_odd_spec odd = { .fail_read_every = 3, .fail_write_every = 2 };
	kvt_fake_world world = kvt_fake_world_default;
	kvt_replay_settings settings = kvt_fake_settings();
	g_auto(kvt_replay_result) good = { 0 }, bad = { 0 };
	must_replay(&kvt_fake_default, &settings, &world, &good);
	world.odd = &odd;
	must_replay(&kvt_fake_default, &settings, &world, &bad);
	g_assert_cmpuint(good.retries, ==, 0);
	g_assert_cmpuint(bad.retries, >, 50);
	g_assert_cmpint(bad.total, >, good.total);
	g_assert_cmpuint(bad.moved_bytes, ==, good.moved_bytes);
	g_assert_cmpuint(bad.written_bytes, ==, good.written_bytes);
	g_assert_cmpfloat(bad.mass_kept, ==, good.mass_kept);
}

static void test_broken_tiers(void)
{
	kvt_replay_settings settings = kvt_fake_settings();
	kvt_odd_spec odd = { .fail_read_every = 1 };
	kvt_fake_world world = kvt_fake_world_default;
	world.odd = &odd;
	must_fail(&kvt_fake_default, &settings, &world, "tier odd: read of ");
	odd = (kvt_odd_spec){ .fail_write_every = 1 };
	must_fail(&kvt_fake_default, &settings, &world, "tier odd: write of 2 pages failed: ");
	odd = (kvt_odd_spec){ .refuse_every = 1 };
	must_fail(&kvt_fake_default, &settings, &world, "tier odd: it takes no I/O any more");
	odd = (kvt_odd_spec){ .write_status = -ENOSPC };
	must_fail(&kvt_fake_default, &settings, &world, "tier odd is full: ");
	world = kvt_fake_world_default;
	world.capacity = 250 * 4 * 4096 - 1;
	must_fail(&kvt_fake_default, &settings, &world, "the context's pages do not fit");
	world.capacity++; /* the context fits, what decode adds does not */
	must_fail(&kvt_fake_default, &settings, &world, "tier dram is full: ");
	world.capacity += 7 * 4 * 4096;
	g_auto(kvt_replay_result) result = { 0 };
	must_replay(&kvt_fake_default, &settings, &world, &result);
	g_assert_cmpuint(result.storage.peak_used, ==, world.capacity);
	world = kvt_fake_world_default;
	world.link_rate = 0;
	must_fail(&kvt_fake_default, &settings, &world, "nothing moves any more at step 0");
}

static void test_bad_settings(void)
{
	kvt_replay_settings settings = kvt_fake_settings();
	settings.budget = 0;
	must_fail(&kvt_fake_default, &settings, &kvt_fake_world_default, "budget 0");
	settings.budget = 1.01;
	must_fail(&kvt_fake_default, &settings, &kvt_fake_world_default, "budget 1.01");
	settings.budget = 0.1;
	settings.hbm = 0.05;
	must_fail(&kvt_fake_default, &settings, &kvt_fake_world_default, "hbm 0.05");
}

/* A trace can claim more pages than there is memory for. */
static void test_huge(void)
{
	g_autoptr(kvt_replay_source) source = kvt_fake_source_new(&kvt_fake_default);
	source->n_pages = UINT32_MAX - 1;
	source->n_heads = 4096;
	kvt_replay_settings settings = kvt_fake_settings();
	g_auto(kvt_replay_result) result = { 0 };
	g_autoptr(GError) error = NULL;
	g_assert_false(kvt_fake_replay_source(
		source, &settings, &kvt_fake_world_default, &result, &error));
	g_assert_nonnull(strstr(error->message, "of memory to replay"));
}

/* Every setting moves something. */
static void test_knobs(void)
{
	kvt_fake_spec spec = kvt_fake_default;
	kvt_replay_settings base = kvt_fake_settings();
	base.hbm = 0.2;
	base.copies = 3;
	base.prefetch_depth = 1;
	base.layer_time = KVT_MICROSECOND;
	kvt_replay_settings knobs[12];
	for (size_t i = 0; i < G_N_ELEMENTS(knobs); i++)
		knobs[i] = base;
	knobs[0].budget = 0.15;
	knobs[1].hbm = 0.3;
	knobs[2].attention = KVT_REPLAY_BUDGETED;
	knobs[3].prefetcher = kvt_prefetcher_find("oracle", NULL);
	knobs[4].policy = kvt_policy_find("belady", NULL);
	knobs[5].page_bytes = 8192;
	knobs[6].copies = 2;
	knobs[7].hbm_rate = 400e9;
	knobs[8].layer_time = 3 * KVT_MICROSECOND;
	knobs[9].step_time = 3 * KVT_MICROSECOND;
	knobs[10].window_bytes = 256 << 10;
	knobs[11].prefetch_depth = 2;
	g_auto(kvt_replay_result) before = { 0 };
	must_replay(&spec, &base, &kvt_fake_world_default, &before);
	for (size_t i = 0; i < G_N_ELEMENTS(knobs); i++) {
		g_auto(kvt_replay_result) after = { 0 };
		must_replay(&spec, &knobs[i], &kvt_fake_world_default, &after);
		if (after.total == before.total &&
			memcmp(&after.counts, &before.counts, sizeof(after.counts)) == 0)
			g_error("knob %zu moves nothing", i);
	}
}

/* The same seed gives the same result and timeline, byte for byte; another one other latencies. */
static void test_same_again(void)
{
	g_autofree char *dir = g_dir_make_tmp("kvt-replay-XXXXXX", NULL);
	char *text[3] = { NULL };
	kvt_time total[3];
	for (unsigned i = 0; i < 3; i++) {
		g_autoptr(kvt_timeline) timeline = kvt_timeline_new(100000);
		g_auto(kvt_replay_result) result = { 0 };
		kvt_replay_settings settings = kvt_fake_settings();
		kvt_fake_world world = kvt_fake_world_default;
		world.timeline = timeline;
		world.seed = i < 2 ? 5 : 6;
		must_replay(&kvt_fake_default, &settings, &world, &result);
		g_autofree char *path = g_build_filename(dir, "timeline.json", NULL);
		g_assert_true(kvt_timeline_write(timeline, path, NULL));
		g_assert_true(g_file_get_contents(path, &text[i], NULL, NULL));
		g_unlink(path);
		total[i] = result.total;
	}
	g_rmdir(dir);
	g_assert_cmpint(total[0], ==, total[1]);
	g_assert_cmpint(total[0], !=, total[2]);
	g_assert_true(strcmp(text[0], text[1]) == 0);
	g_assert_true(strcmp(text[0], text[2]) != 0);
	g_assert_nonnull(strstr(text[0], "\"demand\""));
	g_assert_nonnull(strstr(text[0], "\"attention\""));
	for (unsigned i = 0; i < 3; i++)
		g_free(text[i]);
}

static void test_step_times(void)
{
	kvt_time times[] = { 1000, 3, 1, 2, 5, 4 };
	kvt_replay_result result = { .steps = 6, .step_times = times };
	g_assert_cmpint(kvt_replay_step_time(&result, 0.5), ==, 3);
	g_assert_cmpint(kvt_replay_step_time(&result, 0.99), ==, 5);
	g_assert_cmpint(kvt_replay_step_time(&result, 0), ==, 1);
	g_assert_cmpint(kvt_replay_step_time(&result, 1), ==, 5);
	result.steps = 1;
	g_assert_cmpint(kvt_replay_step_time(&result, 0.5), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/replay-time/free-storage", test_free_storage);
	g_test_add_func("/replay-time/first-step", test_first_step);
	g_test_add_func("/replay-time/more-bandwidth", test_more_bandwidth);
	g_test_add_func("/replay-time/hidden-prefetches", test_hidden_prefetches);
	g_test_add_func("/replay-time/write-back", test_write_back);
	g_test_add_func("/replay-time/queues", test_queues);
	g_test_add_func("/replay-time/copies", test_copies);
	g_test_add_func("/replay-time/retries", test_retries);
	g_test_add_func("/replay-time/broken-tiers", test_broken_tiers);
	g_test_add_func("/replay-time/bad-settings", test_bad_settings);
	g_test_add_func("/replay-time/huge", test_huge);
	g_test_add_func("/replay-time/knobs", test_knobs);
	g_test_add_func("/replay-time/same-again", test_same_again);
	g_test_add_func("/replay-time/step-times", test_step_times);
	return g_test_run();
}
