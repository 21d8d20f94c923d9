/*
 * test_recorded_order.c: replays over real tiers, where I/Os come back in whatever order they do:
 * the same order in virtual time leads to the same decisions, request by request, whatever the
 * prefetcher and the policy; another order does not.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "emu/tier/pinned_tier.h"
#include "emu/loop/real_loop.h"
#include "emu/tier/uring_tier.h"
#include "sim/base/datadir.h"
#include "sim/base/rng.h"
#include "sim/engine/decision_log.h"
#include "sim/engine/replay_trace.h"
#include "tests/unit/decision_spy.h"
#include "tests/unit/recording_tier.h"
#include "tests/unit/replay_fixture.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/tier_test_io.h"

enum { COPIES = 8, PAGE_BYTES = 4096, MAX_IOS = 7 };

/* A real loop with a tier whose pages are there. */
typedef struct real_place {
	kvt_loop *loop;
	char *folder;
	kvt_tier *tier;
	recording log;
} real_place;

static const char *const tier_names[] = { "store", "memory" };

static void place_open(real_place *place, unsigned which)
{
	g_autoptr(GError) error = NULL;
	*place = (real_place){ .loop = kvt_real_loop_new(NULL) };
	place->folder = store_folder_new();
	const kvt_tier_ops *kinds[] = { &kvt_tier_store, &kvt_tier_memory };
	/* few I/Os at once, so that some are refused */
	g_autofree char *text =
		g_strdup_printf(which == 0 ? "[tier]\ncapacity = 64MiB\nmax_ios = 7\npath = %s\n"
					   : "[tier]\ncapacity = 64MiB\nmax_ios = 7\nhelpers = 2\n",
			place->folder);
	g_autoptr(kvt_config) config = kvt_config_parse("test.ini", text, &error);
	g_assert_no_error(error);
	const kvt_tier_env env = { .loop = place->loop };
	kvt_tier *tier =
		kvt_tier_open_kind(kinds[which], &env, kvt_config_section(config, "tier"), &error);
	g_assert_no_error(error);
	place->tier = recording_tier_new(tier, &place->log);
}

static void place_close(real_place *place)
{
	kvt_tier_close(place->tier);
	kvt_loop_free(place->loop);
	store_folder_free(place->folder);
}

/* All pages that the source will ever have, of every layer's copies. */
static void place_fill(real_place *place, const kvt_replay_source *source)
{
	for (uint32_t i = 0; i < source->n_layers * COPIES; i++)
		for (uint32_t head = 0; head < source->n_heads; head++) {
			const kvt_extent run = { head,
				source->layer_numbers[i / COPIES] * COPIES + i % COPIES, 0,
				source->n_pages, PAGE_BYTES };
			g_assert_cmpint(
				test_io_run(place->loop, place->tier, KVT_IO_WRITE, run), ==, 0);
		}
}

static void run(kvt_replay_source *source, const kvt_replay_settings *settings, kvt_loop *loop,
	kvt_tier *tier, kvt_decision_log *log, kvt_replay_result *result)
{
	g_autoptr(GError) error = NULL;
	kvt_replay_world world = { .loop = kvt_decision_log_loop(log, loop),
		.storage = kvt_decision_log_tier(log, tier) };
	g_assert_true(kvt_replay_run(source, settings, &world, result, &error));
	g_assert_no_error(error);
}

/* In virtual time over a null tier. */
static void run_virtual(kvt_replay_source *source, const kvt_replay_settings *settings,
	kvt_decision_log *log, kvt_replay_result *result)
{
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *network = kvt_network_new(loop);
	const kvt_tier_env env = { .loop = loop, .network = network };
	kvt_tier *tier = kvt_tier_open("null", &env, NULL, NULL);
	run(source, settings, loop, tier, log, result);
	kvt_tier_close(tier);
	kvt_network_free(network);
	kvt_loop_free(loop);
}

static kvt_replay_settings make_settings(const char *prefetcher, const char *policy)
{
	g_autoptr(GError) error = NULL;
	kvt_replay_settings settings = kvt_fake_settings();
	settings.budget = 0.1;
	settings.hbm = 0.2;
	settings.copies = COPIES;
	settings.page_bytes = PAGE_BYTES;
	settings.layer_time = 20 * KVT_MICROSECOND;
	settings.step_time = 50 * KVT_MICROSECOND;
	settings.prefetch_depth = 12;
	settings.prefetcher = kvt_prefetcher_find(prefetcher, &error);
	g_assert_no_error(error);
	settings.policy = kvt_policy_find(policy, &error);
	g_assert_no_error(error);
	return settings;
}

static void assert_same(const kvt_replay_result *a, const kvt_replay_result *b)
{
	g_assert_cmpmem(&a->counts, sizeof(a->counts), &b->counts, sizeof(b->counts));
	g_assert_cmpuint(a->moved_bytes, ==, b->moved_bytes);
	g_assert_cmpuint(a->written_bytes, ==, b->written_bytes);
	g_assert_cmpuint(a->late_pages, ==, b->late_pages);
	g_assert_cmpuint(a->needed_during, ==, b->needed_during);
	g_assert_true(a->selection == b->selection && a->mass_kept == b->mass_kept);
	g_assert_true(a->mass_on_time == b->mass_on_time);
}

/* What the records of a test had in them. */
typedef struct tally {
	unsigned records;
	unsigned unled, as_null; /* of them also run over null tiers by themselves; the same */
	unsigned swaps, noticed; /* of answers; that the decisions were others then */
	uint64_t ios, refused;
	unsigned most; /* I/Os under way at once */
} tally;

static void look_at(tally *t, const char *text)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
	unsigned under_way = 0;
	for (char **line = lines; *line; line++) {
		bool io = g_str_has_prefix(*line, "read") || g_str_has_prefix(*line, "write");
		if (io && g_str_has_suffix(*line, "refused"))
			t->refused++;
		else if (io)
			under_way++;
		else if (g_str_has_prefix(*line, "> ") && g_str_has_suffix(*line, " 0"))
			under_way--;
		t->most = MAX(t->most, under_way);
	}
}

/* The text with two answers, one right after the other, exchanged; NULL: it has no such place. */
static char *swap_answers(const char *text, kvt_rng *rng)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
	guint n = g_strv_length(lines), from = (guint)(kvt_rng_next(rng) % n);
	for (guint i = 0; i < n; i++) {
		guint at = (from + i) % n;
		if (at + 1 >= n || lines[at][0] != '>' || lines[at + 1][0] != '>')
			continue;
		char *line = lines[at];
		lines[at] = lines[at + 1];
		lines[at + 1] = line;
		return g_strjoinv("\n", lines);
	}
	return NULL;
}

/* Without the record's order, and with another one. */
static void mislead(
	kvt_replay_source *source, const kvt_replay_settings *settings, const char *text, tally *t)
{
	g_auto(kvt_replay_result) unled = { 0 };
	g_autoptr(kvt_decision_log) by_itself = kvt_decision_log_new();
	run_virtual(source, settings, by_itself, &unled);
	t->unled++;
	t->as_null += strcmp(kvt_decision_log_text(by_itself), text) == 0;
	kvt_rng rng = kvt_rng_init(1, t->records);
	for (int i = 0; i < 2; i++) {
		g_auto(kvt_replay_result) misled = { 0 };
		g_autofree char *swapped = swap_answers(text, &rng);
		if (!swapped)
			return;
		g_autoptr(kvt_decision_log) log = kvt_decision_log_parse("swapped", swapped, NULL);
		run_virtual(source, settings, log, &misled);
		t->swaps++;
		t->noticed += !kvt_decision_log_end(log, NULL);
	}
}

/* Decides in real time, and once more in virtual time in the order of that. */
static void compare(
	kvt_replay_source *source, real_place *place, const kvt_replay_settings *settings, tally *t)
{
	g_autoptr(GError) error = NULL;
	kvt_replay_settings spied = *settings;
	spied.policy = decision_spy_policy(settings->policy);
	spied.prefetcher = decision_spy_prefetcher(settings->prefetcher);
	g_free(decision_spy_take());
	g_auto(kvt_replay_result) real = { 0 }, virtual = { 0 };

	g_autoptr(kvt_decision_log) record = kvt_decision_log_new();
	run(source, &spied, place->loop, place->tier, record, &real);
	g_autofree char *real_choices = decision_spy_take();
	const char *text = kvt_decision_log_text(record);

	g_autoptr(kvt_decision_log) followed = kvt_decision_log_parse("record", text, &error);
	g_assert_no_error(error);
	run_virtual(source, &spied, followed, &virtual);
	g_autofree char *virtual_choices = decision_spy_take();
	g_assert_true(kvt_decision_log_end(followed, &error));
	g_assert_no_error(error);
	g_assert_cmpstr(real_choices, ==, virtual_choices);
	assert_same(&real, &virtual);
	kvt_decision_counts counts = kvt_decision_log_counts(followed);
	g_assert_cmpuint(counts.requests, ==, kvt_decision_log_counts(record).requests);
	g_assert_cmpuint(counts.answers, ==, kvt_decision_log_counts(record).answers);
	t->records++;
	t->ios += counts.ios;
	look_at(t, text);

	if (t->records % 6 == 1)
		mislead(source, &spied, text, t);
	g_free(decision_spy_take());
}

/* The order was another one, there was something to put in order, and it mattered. */
static void assert_told(const tally *t)
{
	g_test_message("%u records, %" G_GUINT64_FORMAT " I/Os, %u at once, %" G_GUINT64_FORMAT
		       " refused; %u of %u as over a null tier by itself; %u of %u swaps noticed",
		t->records, t->ios, t->most, t->refused, t->as_null, t->unled, t->noticed,
		t->swaps);
	g_assert_cmpuint(t->most, ==, MAX_IOS);
	g_assert_cmpuint(t->refused, >, 0);
	/* of a few, chance may make them so */
	if (t->unled >= 10) {
		g_assert_cmpuint(t->as_null, <, t->unled);
		g_assert_cmpuint(t->noticed, >, 0);
	}
}

/* A recorded trace, by every prefetcher and every policy. */
static void test_sample(gconstpointer arg)
{
	unsigned which = GPOINTER_TO_UINT(arg);
	g_autoptr(GError) error = NULL;
	g_autofree char *path = kvt_datadir_find("traces/samples/code-32k-window.h5", &error);
	g_assert_no_error(error);
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	const kvt_replay_trace_spec spec = { .layer = -1, .end_step = 8 };
	kvt_replay_source *source = kvt_replay_trace_new(trace, &spec, &error);
	g_assert_no_error(error);
	real_place place;
	place_open(&place, which);
	place_fill(&place, source);
	tally t = { 0 };
	for (unsigned i = 0; kvt_prefetcher_registry()[i]; i++)
		for (unsigned j = 0; kvt_policy_registry()[j]; j++) {
			/* codebooks and graphs take their time to make */
			unsigned every = which > 0                                  ? 8
					 : kvt_prefetcher_registry()[i]->reads_keys ? 3
										    : 1;
			if ((i + j) % every != 0)
				continue;
			kvt_replay_settings settings = make_settings(
				kvt_prefetcher_registry()[i]->name, kvt_policy_registry()[j]->name);
			settings.attention =
				(i + j / 2) % 4 == 3 ? KVT_REPLAY_EXACT : KVT_REPLAY_BUDGETED;
			compare(source, &place, &settings, &t);
		}
	assert_told(&t);
	place_close(&place);
	kvt_replay_trace_free(source);
}

/* Made-up attention in two layers, with everything that makes a replay decide otherwise. */
static void test_settings(gconstpointer arg)
{
	kvt_fake_spec spec = kvt_fake_default;
	spec.context = 1000;
	spec.n_steps = 24;
	spec.group = 2;
	spec.head_dim = 16;
	spec.block_tokens = 16;
	spec.prompt = 3;
	g_autoptr(kvt_replay_source) source = kvt_fake_source_new(&spec);
	real_place place;
	place_open(&place, GPOINTER_TO_UINT(arg));
	place_fill(&place, source);
	tally t = { 0 };
	for (unsigned i = 0; i < 6; i++) {
		kvt_replay_settings settings = make_settings("slap", "lru");
		settings.dense_prompt = i == 1;
		settings.query = i == 2 ? KVT_REPLAY_QUERY_CURRENT : KVT_REPLAY_QUERY_PREVIOUS;
		settings.moves = i == 3 ? 0.05 : 0;
		settings.target = i == 4 ? 0.8 : 0;
		settings.prefetch_depth = i == 5 ? 1 : 12;
		compare(source, &place, &settings, &t);
	}
	assert_told(&t);
	place_close(&place);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(tier_names); i++) {
		g_autofree char *sample =
			g_strconcat("/recorded-order/sample/", tier_names[i], NULL);
		g_autofree char *settings =
			g_strconcat("/recorded-order/settings/", tier_names[i], NULL);
		g_test_add_data_func(sample, GUINT_TO_POINTER(i), test_sample);
		g_test_add_data_func(settings, GUINT_TO_POINTER(i), test_settings);
	}
	return g_test_run();
}
