/*
 * test_emulation.c: turns in real time over real pages: attention equals double precision for every
 * window size, a page that is dropped or changed is noticed wherever that happens, and the engine
 * decides the same in both worlds.
 */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "emu/turn/emulation.h"
#include "sim/base/error.h"
#include "tests/unit/page_damage.h"
#include "tests/unit/recording_tier.h"
#include "tests/unit/tiny_model.h"

static bool emulate(const char *format, const char *more, const kvt_emulation_hooks *hooks,
	kvt_emulation_result *result, GError **error)
{
	g_autoptr(kvt_experiment) experiment = tiny_experiment(format, more);
	return kvt_emulation_run(experiment, hooks, NULL, result, error);
}

/* Resident, and through windows of any size with any number of buffers and threads. */
static void test_exact(void)
{
	static const char *const modes[] = {
		"[emulation]\nchecks = 0\nthreads = 1\n",
		"[emulation]\nchecks = 0\nthreads = 3\nrun = 64KiB\n",
		"[emulation]\nchecks = 0\nthreads = 2\n"
		"[stream]\nmode = always\nwindow_tokens = 16\nbuffers = 1\n",
		"[emulation]\nchecks = 0\nthreads = 1\n"
		"[stream]\nmode = always\nwindow_tokens = 48\nbuffers = 2\n",
		"[emulation]\nchecks = 0\nthreads = 4\n"
		"[stream]\nmode = always\nwindow_tokens = 592\nbuffers = 5\nturnaround = 20us\n",
		"[emulation]\nchecks = 0\nthreads = 2\n"
		"[stream]\nmode = always\nwindow_tokens = 1024\nbuffers = 2\n",
	};
	static const char *const formats[] = { "bf16", "fp8" };
	for (unsigned f = 0; f < G_N_ELEMENTS(formats); f++)
		for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
			g_autoptr(GError) error = NULL;
			g_auto(kvt_emulation_result) result = { 0 };
			g_assert_true(emulate(formats[f], modes[i], NULL, &result, &error));
			g_assert_no_error(error);
			/* 592 of 600 tokens fill whole pages; 28 and 3 are computed */
			g_assert_cmpuint(result.errors.outputs, ==, 3 * 2 * (28 + 3));
			g_assert_cmpuint(result.errors.compared, ==, result.errors.outputs);
			g_assert_cmpfloat(result.errors.rms, >, 0);
			g_assert_true(kvt_attention_errors_pass(&result.errors));
			uint64_t page = 16 * 2 * 2 * 64 * (f == 0 ? 2 : 1);
			g_assert_cmpuint(result.turn.read_bytes[0] % (3 * 37 * page), ==, 0);
			g_assert_cmpuint(result.turn.read_bytes[0], >, 0);
			g_assert_cmpuint(result.stored_bytes, >=, 3 * 37 * page);
			g_assert_cmpfloat(result.turn.ttft, >, 0);
		}
}

/* The prompt in several chunks, in two halves, and both through windows. */
static void test_chunks(void)
{
	for (int mode = 1; mode < 8; mode++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		g_autoptr(kvt_experiment) experiment =
			tiny_experiment("bf16", "[emulation]\nchecks = 0\n");
		experiment->chunk_tokens = mode & 1 ? 16 : 8192;
		experiment->overlap = mode & 2 ? KVT_OVERLAP_TWO_BATCH : KVT_OVERLAP_NONE;
		experiment->stream_mode = mode & 4 ? KVT_STREAM_ALWAYS : KVT_STREAM_AUTO;
		experiment->window_tokens = 64;
		g_assert_true(kvt_emulation_run(experiment, NULL, NULL, &result, &error));
		g_assert_no_error(error);
		g_assert_cmpuint(result.errors.outputs, ==, 3 * 2 * (28 + 3));
		g_assert_true(kvt_attention_errors_pass(&result.errors));
	}
}

typedef struct damage {
	bool drop;
	recording recording;
	unsigned countdown; /* reads until one is changed */
} damage;

/* The second layer's page 7 goes, or a bit of it changes. */
static void damage_page(void *arg, kvt_tier *tier)
{
	const damage *d = arg;
	kvt_extent extent = { 1, 1, 7, 1, 16 * 2 * 2 * 64 * 2 };
	page_damage(tier, &extent, d->drop);
}

static void test_damage(void)
{
	for (int drop = 0; drop < 2; drop++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		damage d = { .drop = drop };
		kvt_emulation_hooks hooks = { .stored = damage_page, .arg = &d };
		g_autoptr(kvt_experiment) experiment = tiny_experiment("bf16", "");
		experiment->lost_pages = KVT_LOST_FAIL;
		g_assert_false(kvt_emulation_run(experiment, &hooks, NULL, &result, &error));
		g_assert_nonnull(strstr(error->message,
			drop ? "does not hold the pages" : "a page whose checksum is wrong"));
	}
}

static kvt_tier *wrap(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier)
{
	return recording_tier_new(tier, arg);
}

/* One page of one read becomes another page of the same read. */
static void swap_pages(void *arg, kvt_io *io)
{
	damage *d = arg;
	if (io->memory && io->extents[0].n_pages > 1 && d->countdown-- == 0) {
		uint64_t bytes = io->extents[0].page_bytes;
		memcpy(io->memory[0], (char *)io->memory[0] + bytes, bytes);
	}
}

/* A bit of the exponent of one number. */
static void flip_bit(void *arg, kvt_io *io)
{
	damage *d = arg;
	if (io->memory && d->countdown-- == 0)
		((uint8_t *)io->memory[0])[2 * 64 * 16 + 1] ^= 0x08;
}

/* What no checksum sees, the comparison does. */
static void test_undetected_damage(void)
{
	void (*const changes[])(void *, kvt_io *) = { swap_pages, flip_bit };
	for (unsigned i = 0; i < G_N_ELEMENTS(changes); i++)
		for (unsigned read = 0; read < 3; read++) {
			g_autoptr(GError) error = NULL;
			g_auto(kvt_emulation_result) result = { 0 };
			damage d = { .countdown = read };
			d.recording = (recording){ .arrived = changes[i], .arg = &d };
			kvt_emulation_hooks hooks = { .wrap = wrap, .arg = &d.recording };
			g_assert_true(emulate(
				"bf16", "[emulation]\nchecks = 0\n", &hooks, &result, &error));
			g_assert_no_error(error);
			g_assert_false(kvt_attention_errors_pass(&result.errors));
			g_assert_cmpfloat(result.errors.most, >, 1e-5);
		}
}

static kvt_tier *open_recorded(void *arg, const kvt_tier_env *env, const char *name, GError **error)
{
	return recording_tier_new(kvt_tier_open("null", env, NULL, error), arg);
}

/* The same turn over null tiers, in virtual and in real time: the same I/Os in the same order. */
static void test_same_decisions(void)
{
	static const char *const modes[] = { "",
		"[stream]\nmode = always\nwindow_tokens = 64\nbuffers = 3\n",
		"[stream]\nmode = always\nwindow_tokens = 128\nbuffers = 1\n",
		"[resume]\ndepth = 3\n" };
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
		g_autoptr(GError) error = NULL;
		g_autofree char *real = g_strconcat(modes[i], "[emulation]\ntier = null\n", NULL);
		recording virtual = { g_string_new(""), g_string_new(""), NULL, NULL };
		recording emulated = { g_string_new(""), g_string_new(""), NULL, NULL };
		g_autoptr(kvt_experiment) experiment = tiny_experiment("bf16", modes[i]);
		kvt_world world = { .open_store = open_recorded, .arg = &virtual };
		kvt_turn turn;
		g_assert_true(
			kvt_turn_run_in(&world, experiment, KVT_RUN_RESUME, NULL, &turn, &error));
		kvt_emulation_hooks hooks = { .wrap = wrap, .arg = &emulated };
		g_auto(kvt_emulation_result) result = { 0 };
		g_assert_true(emulate("bf16", real, &hooks, &result, &error));
		g_assert_no_error(error);
		g_assert_cmpuint(virtual.reads->len, >, 0);
		g_assert_cmpstr(virtual.reads->str, ==, emulated.reads->str);
		g_assert_cmpuint(result.turn.loads, ==, turn.loads);
		/* pages that nobody moved are noticed */
		g_assert_false(kvt_attention_errors_pass(&result.errors));
		g_string_free(virtual.reads, TRUE);
		g_string_free(virtual.writes, TRUE);
		g_string_free(emulated.reads, TRUE);
		g_string_free(emulated.writes, TRUE);
	}
}

static void assert_refused(const char *more, const char *reason)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	g_assert_false(emulate("bf16", more, NULL, &result, &error));
	g_assert_nonnull(strstr(error->message, reason));
}

static void test_refused(void)
{
	assert_refused("[emulation]\ntier = tape\n", "no tier");
	assert_refused("[emulation]\nthreads = -1\n", "threads");
	assert_refused("[emulation]\nspeed = 1\n", "speed");
	assert_refused("[emulation memory]\ncapacity = 500kB\n", "could not store");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	tiny_model_make();
	g_test_add_func("/emulation/exact", test_exact);
	g_test_add_func("/emulation/chunks", test_chunks);
	g_test_add_func("/emulation/damage", test_damage);
	g_test_add_func("/emulation/undetected-damage", test_undetected_damage);
	g_test_add_func("/emulation/same-decisions", test_same_decisions);
	g_test_add_func("/emulation/refused", test_refused);
	int status = g_test_run();
	tiny_model_remove();
	return status;
}
