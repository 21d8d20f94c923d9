/*
 * test_emulated_loss.c: turns in real time over pages that storage does not deliver: they are
 * recomputed, and attention equals double precision as if nothing had been lost; the modelled turn
 * loses, and recomputes, the same.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "emu/turn/emulation.h"
#include "tests/unit/lossy_tier.h"
#include "tests/unit/page_damage.h"
#include "tests/unit/recording_tier.h"
#include "tests/unit/tiny_model.h"

#define STREAM(window, buffers)                                                                    \
	"[stream]\nmode = always\nwindow_tokens = " #window "\nbuffers = " #buffers "\n"

/* 3 layers of 37 pages are stored. */
enum { LAYERS = 3, PAGES = 37, PAGE_BYTES = 16 * 2 * 2 * 64 * 2 };

static const char *const modes[] = { "", "[resume]\ndepth = 3\n", STREAM(16, 1), STREAM(96, 3),
	STREAM(592, 2), STREAM(208, 2) "[prefill]\nchunk_tokens = 64\n" };

static kvt_experiment *make(const char *mode, const char *more)
{
	/* the sections that a tiny experiment has already are set afterwards */
	g_autofree char *text = g_strconcat(
		strstr(mode, "[prefill]") ? "" : mode, "[emulation]\nchecks = 0\n", more, NULL);
	kvt_experiment *experiment = NULL;
	if (!strstr(mode, "[prefill]"))
		return tiny_experiment("bf16", text);
	g_autofree char *stream = g_strndup(mode, (gsize)(strstr(mode, "[prefill]") - mode));
	g_autofree char *all = g_strconcat(stream, text, NULL);
	experiment = tiny_experiment("bf16", all);
	experiment->chunk_tokens = 64;
	return experiment;
}

static kvt_tier *wrap_lossy(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier)
{
	(void)env;
	return lossy_tier_new(tier, arg);
}

static uint64_t lost_pages(const kvt_turn *turn)
{
	uint64_t pages = 0;
	for (unsigned i = 0; i < KVT_LOSSES; i++)
		pages += turn->lost.pages[i];
	return pages;
}

static void assert_exact(const kvt_emulation_result *result)
{
	g_assert_cmpuint(result->errors.outputs, >=, 3 * 2 * (28 + 3));
	g_assert_cmpuint(result->errors.compared, ==, result->errors.outputs);
	g_assert_cmpfloat(result->errors.rms, >, 0);
	g_assert_true(kvt_attention_errors_pass(&result->errors));
}

/* Few pages, many, all: whichever way they come, of whichever error. */
static void test_exact(void)
{
	static const double rates[] = { 0.05, 1 };
	unsigned over = 0;
	for (unsigned m = 0; m < G_N_ELEMENTS(modes); m++)
		for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
			g_autoptr(GError) error = NULL;
			g_auto(kvt_emulation_result) result = { 0 };
			lossy_settings lossy = { .seed = 10 * m + i, .rate = rates[i] };
			kvt_emulation_hooks hooks = { .wrap = wrap_lossy, .arg = &lossy };
			g_autoptr(kvt_experiment) experiment = make(modes[m], "");
			g_assert_true(kvt_emulation_run(experiment, &hooks, NULL, &result, &error));
			g_assert_no_error(error);
			assert_exact(&result);
			uint64_t bad = 0;
			for (unsigned page = 0; page < LAYERS * PAGES; page++)
				bad += lossy_page(&lossy, page / PAGES, page % PAGES) != 0;
			/* many small pieces are dear: the context is computed from its beginning */
			if (!result.turn.recomputed)
				g_assert_cmpuint(lost_pages(&result.turn), >=, bad);
			g_assert_cmpuint(lossy.failed, >=, bad > 0);
			over += result.turn.recomputed;
		}
	g_assert_cmpuint(over, >, 0);
	g_assert_cmpuint(over, <, G_N_ELEMENTS(modes));
}

typedef struct damage {
	bool drop, done;
} damage;

/* The second layer's page 7 goes, or a bit of it changes. */
static void damage_page(void *arg, kvt_tier *tier)
{
	damage *d = arg;
	kvt_extent extent = { 1, 1, 7, 1, PAGE_BYTES };
	if (d->done)
		return;
	d->done = true;
	page_damage(tier, &extent, d->drop);
}

/* What a real tier itself finds. */
static void test_damage(void)
{
	for (unsigned m = 0; m < G_N_ELEMENTS(modes); m += 2)
		for (int drop = 0; drop < 2; drop++) {
			g_autoptr(GError) error = NULL;
			g_auto(kvt_emulation_result) result = { 0 };
			damage d = { .drop = drop };
			kvt_emulation_hooks hooks = { .stored = damage_page, .arg = &d };
			g_autoptr(kvt_experiment) experiment = make(modes[m], "");
			g_assert_true(kvt_emulation_run(experiment, &hooks, NULL, &result, &error));
			g_assert_no_error(error);
			assert_exact(&result);
			kvt_loss loss = drop ? KVT_LOSS_MISSING : KVT_LOSS_CORRUPT;
			/* once: what was recomputed stays */
			g_assert_cmpuint(result.turn.lost.pages[loss], ==, 1);
			g_assert_cmpuint(lost_pages(&result.turn), ==, 1);
			g_assert_cmpuint(result.turn.lost.tokens, ==, 16);
			g_assert_cmpuint(result.turn.lost.token_layers, ==, 16);
			g_assert_cmpint(result.turn.lost.time, >, 0);
			uint64_t read = result.turn.read_bytes[0];
			g_assert_cmpuint(read % PAGE_BYTES, ==, 0);
		}
}

typedef struct both {
	recording log;
	lossy_settings lossy;
} both;

static kvt_tier *open_both(void *arg, const kvt_tier_env *env, const char *name, GError **error)
{
	both *b = arg;
	(void)name;
	return lossy_tier_new(
		recording_tier_new(kvt_tier_open("null", env, NULL, error), &b->log), &b->lossy);
}

static kvt_tier *wrap_both(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier)
{
	both *b = arg;
	(void)env;
	return lossy_tier_new(recording_tier_new(tier, &b->log), &b->lossy);
}

static void both_init(both *b, unsigned seed, double rate)
{
	*b = (both){ .log = { g_string_new(""), g_string_new(""), NULL, NULL },
		.lossy = { .seed = seed, .rate = rate } };
}

static void both_clear(both *b)
{
	g_string_free(b->log.reads, TRUE);
	g_string_free(b->log.writes, TRUE);
}

static int compare_lines(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *sorted(const GString *lines)
{
	g_auto(GStrv) split = g_strsplit(lines->str, "\n", -1);
	qsort(split, g_strv_length(split), sizeof(char *), compare_lines);
	return g_strjoinv("\n", split);
}

/* The same pages lost in virtual and in real time: the same reads, found out and recomputed. */
static void test_same_decisions(void)
{
	static const double rates[] = { 0.1, 1 };
	for (unsigned m = 0; m < G_N_ELEMENTS(modes); m++)
		for (unsigned i = 0; i < G_N_ELEMENTS(rates) - (m > 1); i++) {
			g_autoptr(GError) error = NULL;
			both modelled, real;
			both_init(&modelled, 3 * m + i, rates[i]);
			both_init(&real, 3 * m + i, rates[i]);
			g_autoptr(kvt_experiment) experiment = make(modes[m], "tier = null\n");
			kvt_world world = { .open_store = open_both, .arg = &modelled };
			kvt_turn turn;
			g_assert_true(kvt_turn_run_in(
				&world, experiment, KVT_RUN_RESUME, NULL, &turn, &error));
			kvt_emulation_hooks hooks = { .wrap = wrap_both, .arg = &real };
			g_auto(kvt_emulation_result) result = { 0 };
			g_assert_true(kvt_emulation_run(experiment, &hooks, NULL, &result, &error));
			g_assert_no_error(error);
			/* of several loads at once either may end first; where all is lost, what
			 * is tried depends on that */
			if (rates[i] < 1) {
				g_autofree char *a = sorted(modelled.log.reads);
				g_autofree char *b = sorted(real.log.reads);
				g_assert_cmpstr(a, ==, b);
			}
			kvt_turn *other = &result.turn;
			g_assert_cmpuint(turn.loads, ==, other->loads);
			g_assert_cmpmem(turn.lost.pages, sizeof turn.lost.pages, other->lost.pages,
				sizeof other->lost.pages);
			g_assert_cmpuint(turn.lost.tokens, ==, other->lost.tokens);
			g_assert_cmpuint(turn.lost.token_layers, ==, other->lost.token_layers);
			g_assert_true(turn.recomputed == other->recomputed);
			both_clear(&modelled);
			both_clear(&real);
		}
}

/* What was lost in real time, in the order in which it was found, is decided again over a tier that
 * loses nothing: the record says what each read came to. */
static void test_followed(void)
{
	for (unsigned m = 0; m < G_N_ELEMENTS(modes); m++) {
		g_autoptr(GError) error = NULL;
		lossy_settings lossy = { .seed = m, .rate = 0.1 };
		g_autoptr(kvt_experiment) experiment = make(modes[m], "");
		g_autoptr(kvt_decision_log) record = kvt_decision_log_new();
		kvt_emulation_hooks hooks = {
			.decisions = record, .wrap = wrap_lossy, .arg = &lossy
		};
		g_auto(kvt_emulation_result) result = { 0 };
		g_assert_true(kvt_emulation_run(experiment, &hooks, NULL, &result, &error));
		g_assert_no_error(error);
		g_assert_nonnull(strstr(kvt_decision_log_text(record), " again\n"));
		g_autoptr(kvt_decision_log) follow =
			kvt_decision_log_parse("record", kvt_decision_log_text(record), &error);
		kvt_world world = { .decisions = follow };
		kvt_turn turn;
		kvt_turn_run_in(&world, experiment, KVT_RUN_RESUME, NULL, &turn, &error);
		g_assert_no_error(error);
		kvt_decision_log_end(follow, &error);
		g_assert_no_error(error);
		g_assert_cmpuint(lost_pages(&turn), >, 0);
		g_assert_cmpuint(lost_pages(&turn), ==, lost_pages(&result.turn));
		g_assert_cmpuint(turn.lost.tokens, ==, result.turn.lost.tokens);
		g_assert_cmpuint(turn.loads, ==, result.turn.loads);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	tiny_model_make();
	g_test_add_func("/emulated-loss/exact", test_exact);
	g_test_add_func("/emulated-loss/damage", test_damage);
	g_test_add_func("/emulated-loss/same-decisions", test_same_decisions);
	g_test_add_func("/emulated-loss/followed", test_followed);
	int status = g_test_run();
	tiny_model_remove();
	return status;
}
