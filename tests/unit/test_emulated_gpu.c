/*
 * test_emulated_gpu.c: turns in real time on a GPU in memory, over real tiers: attention equals
 * double precision, pages that are dropped or changed are noticed, caps and faults end in a line;
 * and one rank of a tensor-parallel group, on either device.
 */
#include <glib.h>
#include <string.h>

#include "emu/tier/pinned_tier.h"
#include "emu/turn/emulation.h"
#include "tests/unit/memory_gpu.h"
#include "tests/unit/recording_tier.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/tiny_model.h"

typedef struct trial {
	memory_gpu_settings gpu;
	bool drop;
	unsigned countdown; /* reads until one is changed */
	uint64_t attended;
	recording recording;
} trial;

static kvt_real_gpu *open_gpu(void *arg, uint64_t cap, GError **error)
{
	memory_gpu_settings settings = ((const trial *)arg)->gpu;
	settings.cap = cap;
	return memory_gpu_new(&settings);
}

static const char gpu_section[] = "[emulation]\ndevice = cuda\nchecks = 0\n";

static bool emulate(kvt_experiment *experiment, trial *t, kvt_emulation_hooks hooks,
	kvt_emulation_result *result, GError **error)
{
	hooks.open_gpu = open_gpu;
	hooks.arg = t;
	return kvt_emulation_run(experiment, &hooks, NULL, result, error);
}

static void test_exact(gconstpointer tier)
{
	static const char *const modes[] = { "",
		"[stream]\nmode = always\nwindow_tokens = 16\nbuffers = 1\n",
		"[stream]\nmode = always\nwindow_tokens = 64\nbuffers = 3\n",
		"[emulation upload]\nstaging = 64KiB\nbuffers = 2\n",
		"[stream]\nmode = always\nwindow_tokens = 592\nbuffers = 2\nturnaround = 20us\n" };
	for (unsigned i = 0; i < 2 * G_N_ELEMENTS(modes); i++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		char *folder = store_folder_new();
		g_autofree char *more =
			g_strdup_printf("%stier = %s\nhbm = 64MiB\n%s[emulation store]\npath = %s\n"
					"capacity = 64MiB\n",
				gpu_section, (const char *)tier, modes[i / 2], folder);
		g_autoptr(kvt_experiment) e = tiny_experiment(i % 2 ? "fp8" : "bf16", more);
		trial t = { .gpu = { .late = i % 2 == 0 } };
		bool done = emulate(e, &t, (kvt_emulation_hooks){ 0 }, &result, &error);
		g_assert_no_error(error);
		g_assert_true(done);
		g_assert_cmpuint(result.errors.outputs, ==, 3 * 2 * (28 + 3));
		g_assert_cmpuint(result.errors.compared, ==, result.errors.outputs);
		g_assert_true(kvt_attention_errors_pass(&result.errors));
		/* these kernels are FP32 */
		g_assert_cmpfloat(result.errors.rms, <=, result.errors.resident);
		g_assert_cmpuint(result.gpu_cap, ==, 64 << 20);
		g_assert_cmpuint(result.gpu_peak, >, 0);
		g_assert_cmpuint(result.gpu_peak, <=, result.gpu_cap);
		g_assert_cmpfloat(result.turn.ttft, >, 0);
		json_t *json = kvt_emulation_to_json(e, &result);
		json_t *gpu = json_object_get(json, "gpu");
		g_assert_cmpstr(json_string_value(json_object_get(json, "device")), ==, "cuda");
		g_assert_cmpstr(
			json_string_value(json_object_get(gpu, "name")), ==, "memory of the host");
		g_assert_cmpint(json_integer_value(json_object_get(gpu, "peak_bytes")), ==,
			(json_int_t)result.gpu_peak);
		json_decref(json);
		store_folder_free(folder);
	}
}

/* Some outputs are enough, whoever asks. */
static void test_some(void)
{
	static const char *const devices[] = { "cpu", "cuda" };
	for (unsigned i = 0; i < G_N_ELEMENTS(devices); i++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		g_autofree char *more =
			g_strdup_printf("[emulation]\ndevice = %s\nchecks = 20\n", devices[i]);
		g_autoptr(kvt_experiment) e = tiny_experiment("bf16", more);
		trial t = { 0 };
		g_assert_true(emulate(e, &t, (kvt_emulation_hooks){ 0 }, &result, &error));
		g_assert_cmpuint(result.errors.outputs, ==, 3 * 2 * (28 + 3));
		g_assert_cmpuint(result.errors.compared, ==, 20);
		g_assert_true(kvt_attention_errors_pass(&result.errors));
	}
}

/* The second layer's page 7 goes, or a bit of it changes. */
static void damage_page(void *arg, kvt_tier *tier)
{
	const trial *t = arg;
	kvt_extent extent = { 1, 1, 7, 1, 16 * 2 * 2 * 64 * 2 };
	if (t->drop) {
		g_assert_cmpuint(tier->ops->discard(tier, 0, &extent), >, 0);
		return;
	}
	uint8_t *page = kvt_pinned_tier_page(tier, 0, &extent);
	g_assert_nonnull(page);
	page[1000] ^= 0x10;
}

static void test_damage(void)
{
	for (int drop = 0; drop < 2; drop++)
		for (int lost = 0; lost < 2; lost++) {
			g_autoptr(GError) error = NULL;
			g_auto(kvt_emulation_result) result = { 0 };
			trial t = { .drop = drop };
			g_autoptr(kvt_experiment) e = tiny_experiment("bf16", gpu_section);
			e->lost_pages = lost ? KVT_LOST_RECOMPUTE : KVT_LOST_FAIL;
			bool done = emulate(e, &t, (kvt_emulation_hooks){ .stored = damage_page },
				&result, &error);
			g_assert_cmpint(done, ==, lost);
			if (lost) {
				g_assert_cmpuint(result.turn.lost.tokens, >, 0);
				/* out of the GPU's memory, once the first token was there */
				g_assert_cmpuint(result.turn.stored_again.bytes, >, 0);
				g_assert_cmpuint(result.turn.stored_again.failed_bytes, ==, 0);
				g_assert_true(kvt_attention_errors_pass(&result.errors));
			} else {
				g_assert_nonnull(strstr(
					error->message, drop ? "does not hold the pages"
							     : "a page whose checksum is wrong"));
			}
		}
}

static kvt_tier *wrap(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier)
{
	return recording_tier_new(tier, &((trial *)arg)->recording);
}

/* A bit of the exponent of one number, on its way through the host's memory. */
static void flip_bit(void *arg, kvt_io *io)
{
	trial *t = arg;
	if (io->memory && t->countdown-- == 0)
		((uint8_t *)io->memory[0])[2 * 64 * 16 + 1] ^= 0x08;
}

static void test_undetected_damage(void)
{
	for (unsigned read = 0; read < 3; read++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		trial t = { .countdown = read };
		t.recording = (recording){ .arrived = flip_bit, .arg = &t };
		g_autoptr(kvt_experiment) e = tiny_experiment("bf16", gpu_section);
		g_assert_true(
			emulate(e, &t, (kvt_emulation_hooks){ .wrap = wrap }, &result, &error));
		g_assert_false(kvt_attention_errors_pass(&result.errors));
	}
}

static void assert_refused(const char *more, trial *t, const char *reason)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	g_autoptr(kvt_experiment) e = tiny_experiment("bf16", more);
	g_assert_false(emulate(e, t, (kvt_emulation_hooks){ 0 }, &result, &error));
	g_test_message("%s", error->message);
	g_assert_nonnull(strstr(error->message, reason));
	g_assert_null(strchr(error->message, '\n'));
}

static void test_refused(void)
{
	trial t = { 0 }, faulty = { .gpu = { .fail_after = 100 } };
	assert_refused("[emulation]\ndevice = cuda\nhbm = 1MiB\n", &t, "no memory on the GPU for");
	assert_refused("[emulation]\ndevice = abacus\n", &t, "abacus");
	assert_refused(
		"[emulation]\ndevice = cuda\n[resume]\npolicy = recompute\n", &t, "expected load");
	assert_refused("[emulation]\ndevice = cuda\n[emulation decode]\nprefetch = slap\n", &t,
		"expected [emulation] device = cpu");
	assert_refused("[emulation]\ndevice = cuda\n", &faulty, "memory of the host failed: ");
	/* without a hook it is a card with CUDA, which is not here or has not as much memory */
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	g_autoptr(kvt_experiment) e =
		tiny_experiment("bf16", "[emulation]\ndevice = cuda\nhbm = 1000TB\n");
	g_assert_false(kvt_emulation_run(e, NULL, NULL, &result, &error));
	g_assert_nonnull(strstr(error->message, "expected"));
	g_assert_null(strchr(error->message, '\n'));
}

static void refuse_group(const kvt_experiment *experiment)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_experiment) e = tiny_experiment("bf16", "");
	g_auto(kvt_emulation_result) result = { 0 };
	e->ranks = experiment->ranks;
	g_assert_false(kvt_emulation_run(e, NULL, NULL, &result, &error));
	g_assert_nonnull(strstr(error->message, "one rank of several with [emulation] rank = one"));
}

/* A rank of two has one of the two KV heads, and waits for the other rank. */
static void test_rank(void)
{
	static const char *const devices[] = { "cpu", "cuda" };
	trial t = { 0 };
	for (unsigned i = 0; i < 2 * G_N_ELEMENTS(devices); i++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		g_autofree char *more = g_strdup_printf(
			"[emulation]\ndevice = %s\nrank = one\nchecks = 0\n%s", devices[i / 2],
			i % 2 ? "[stream]\nmode = always\nwindow_tokens = 64\nbuffers = 3\n" : "");
		g_autoptr(kvt_experiment) e = tiny_experiment("bf16", more);
		e->ranks = 2;
		if (i == 0)
			refuse_group(e);
		bool done = emulate(e, &t, (kvt_emulation_hooks){ 0 }, &result, &error);
		g_assert_no_error(error);
		g_assert_true(done);
		g_assert_true(result.one_rank);
		g_assert_cmpuint(result.errors.outputs, ==, 3 * 1 * (28 + 3));
		g_assert_true(kvt_attention_errors_pass(&result.errors));
		g_assert_cmpfloat(result.turn.work[KVT_WORK_ALL_REDUCE], >, 0);
		/* the model answers for the same rank */
		kvt_world world;
		kvt_turn model;
		g_assert_true(kvt_emulation_model_world(e, &world, &error));
		g_assert_true(world.one_rank);
		g_assert_true(kvt_turn_run_in(&world, e, KVT_RUN_RESUME, NULL, &model, &error));
		g_assert_cmpuint(model.loads, ==, result.turn.loads);
		g_assert_cmpuint(model.read_bytes[0], ==, result.turn.read_bytes[0]);
		g_assert_cmpuint(model.hbm_peak, ==, result.turn.hbm_peak);
		/* and for the group with twice as much of everything */
		kvt_turn group;
		g_assert_true(kvt_turn_run(e, KVT_RUN_RESUME, NULL, &group, &error));
		g_assert_cmpuint(group.read_bytes[0], ==, 2 * model.read_bytes[0]);
		g_assert_cmpuint(group.hbm_peak, ==, 2 * model.hbm_peak);
		g_assert_cmpfloat(
			group.work[KVT_WORK_ATTENTION], ==, model.work[KVT_WORK_ATTENTION]);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	tiny_model_make();
	g_test_add_data_func("/emulated-gpu/exact/memory", "memory", test_exact);
	g_test_add_data_func("/emulated-gpu/exact/store", "store", test_exact);
	g_test_add_func("/emulated-gpu/some", test_some);
	g_test_add_func("/emulated-gpu/damage", test_damage);
	g_test_add_func("/emulated-gpu/undetected-damage", test_undetected_damage);
	g_test_add_func("/emulated-gpu/refused", test_refused);
	g_test_add_func("/emulated-gpu/rank", test_rank);
	int status = g_test_run();
	tiny_model_remove();
	return status;
}
