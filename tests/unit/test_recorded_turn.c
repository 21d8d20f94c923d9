/*
 * test_recorded_turn.c: turns over real tiers, recorded in real time and decided again in virtual
 * time: a resume through windows and without, and a first turn whose pages the engine itself writes
 * to the store that the second turn then reads.
 */
#include <glib.h>

#include "emu/device/attention_check.h"
#include "emu/device/cpu_device.h"
#include "emu/turn/emulation.h"
#include "emu/loop/real_loop.h"
#include "emu/turn/real_tiers.h"
#include "sim/engine/decision_log.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/tiny_model.h"

static kvt_tier *open_kind(void *arg, const kvt_tier_env *env, const char *name, GError **error)
{
	return kvt_tier_open(arg, env, NULL, error);
}

/* Decides a turn in virtual time over a modelled tier, as a record says or, without, by itself. */
static kvt_decision_log *decide(const kvt_experiment *experiment, kvt_run_kind kind, char *tier,
	const char *text, kvt_turn *turn)
{
	g_autoptr(GError) error = NULL;
	kvt_decision_log *log =
		text ? kvt_decision_log_parse("record", text, &error) : kvt_decision_log_new();
	g_assert_no_error(error);
	const kvt_world world = { .open_store = open_kind, .arg = tier, .decisions = log };
	g_assert_true(kvt_turn_run_in(&world, experiment, kind, NULL, turn, &error));
	g_assert_no_error(error);
	return log;
}

static unsigned count(const char *text, const char *prefix)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
	unsigned n = 0;
	for (char **line = lines; *line; line++)
		n += g_str_has_prefix(*line, prefix);
	return n;
}

/* The record followed is the same turn, whatever it is followed over. */
static void assert_followed(const kvt_experiment *experiment, kvt_run_kind kind,
	const kvt_decision_log *record, const kvt_turn *real)
{
	g_autoptr(GError) error = NULL;
	char *const tiers[] = { "null", "nvme" };
	for (unsigned i = 0; i < G_N_ELEMENTS(tiers); i++) {
		kvt_turn turn;
		g_autoptr(kvt_decision_log) followed =
			decide(experiment, kind, tiers[i], kvt_decision_log_text(record), &turn);
		g_assert_true(kvt_decision_log_end(followed, &error));
		g_assert_no_error(error);
		g_assert_cmpuint(turn.loads, ==, real->loads);
		g_assert_cmpuint(turn.read_bytes[0], ==, real->read_bytes[0]);
		g_assert_cmpuint(turn.written_bytes[0], ==, real->written_bytes[0]);
	}
}

static void test_resume(void)
{
	static const char *const modes[] = { "[resume]\ndepth = 3\n",
		"[stream]\nmode = always\nwindow_tokens = 64\nbuffers = 3\n",
		"[stream]\nmode = always\nwindow_tokens = 32\nbuffers = 6\nturnaround = 20us\n",
		"[stream]\nmode = always\nwindow_tokens = 128\nbuffers = 1\n" };
	static const char *const tiers[] = { "store", "memory" };
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++)
		for (unsigned t = 0; t < G_N_ELEMENTS(tiers); t++) {
			g_autoptr(GError) error = NULL;
			char *folder = store_folder_new();
			g_autofree char *more = g_strdup_printf(
				"%s[emulation]\ntier = %s\n[emulation store]\npath = %s\n"
				"capacity = 64MiB\n[emulation memory]\ncapacity = 64MiB\n",
				modes[i], tiers[t], folder);
			g_autoptr(kvt_experiment) experiment = tiny_experiment("bf16", more);
			g_autoptr(kvt_decision_log) record = kvt_decision_log_new();
			const kvt_emulation_hooks hooks = { .decisions = record };
			g_auto(kvt_emulation_result) result = { 0 };
			g_assert_true(kvt_emulation_run(experiment, &hooks, NULL, &result, &error));
			g_assert_no_error(error);
			g_assert_true(kvt_attention_errors_pass(&result.errors));
			/* the writes of Turn 1 are none of the engine's decisions */
			result.turn.written_bytes[0] = 0;
			g_assert_cmpuint(count(kvt_decision_log_text(record), "write"), ==, 0);
			g_assert_cmpuint(count(kvt_decision_log_text(record), "read"), >=,
				result.turn.loads);
			assert_followed(experiment, KVT_RUN_RESUME, record, &result.turn);
			store_folder_free(folder);
		}
}

/* Without a record, answers that come in another order make it another turn. */
static void test_other_order(void)
{
	g_autoptr(kvt_experiment) experiment = tiny_experiment(
		"bf16", "[stream]\nmode = always\nwindow_tokens = 64\nbuffers = 3\n");
	kvt_turn turn;
	g_autoptr(kvt_decision_log) null = decide(experiment, KVT_RUN_RESUME, "null", NULL, &turn);
	g_autoptr(kvt_decision_log) nvme = decide(experiment, KVT_RUN_RESUME, "nvme", NULL, &turn);
	g_assert_cmpstr(kvt_decision_log_text(null), !=, kvt_decision_log_text(nvme));
}

/* A world where the engine's own writes are all that is ever stored. */
typedef struct own_world {
	const kvt_experiment *experiment;
	kvt_loop *loop;
	kvt_kv_source source;
	kvt_attention_check *check;
	const char *folder;
} own_world;

static kvt_tier *open_store(void *arg, const kvt_tier_env *env, const char *name, GError **error)
{
	const own_world *w = arg;
	g_autofree char *text = g_strdup_printf("[s]\npath = %s\ncapacity = 64MiB\n", w->folder);
	g_autoptr(kvt_config) config = kvt_config_parse("store", text, error);
	return kvt_tier_open_kind(
		kvt_real_tier_find("store"), env, kvt_config_section(config, "s"), error);
}

static kvt_device *open_device(void *arg, kvt_system *system, GError **error)
{
	own_world *w = arg;
	const kvt_experiment *e = w->experiment;
	g_assert_true(kvt_kv_shape_init(&w->source.shape, &system->engine.layout, error));
	w->check = kvt_attention_check_new(&w->source);
	const kvt_cpu_device_settings settings = { .loop = w->loop,
		.cost = system->cost,
		.source = &w->source,
		.isa = kvt_isa_best(),
		.threads = 2,
		.tokens = (uint64_t)(e->context_tokens + e->prompt_tokens + e->output_tokens),
		.first_new = (uint64_t)e->context_tokens,
		.window_tokens = (uint64_t)e->window_tokens,
		.buffers = (unsigned)e->buffers,
		.attended = kvt_attention_check_keep,
		.attended_arg = w->check };
	return kvt_cpu_device_new(&settings, error);
}

/* Everything is there, since the turn before wrote it. */
static bool is_stored(void *arg, kvt_system *system, uint64_t tokens, GError **error)
{
	for (unsigned layer = 0; layer < system->engine.layout.llm->n_layers && tokens > 0;
		layer++) {
		const kvt_extent pages = kvt_kv_extent(&system->engine.layout, layer, 0, tokens);
		g_assert_true(system->storage->ops->holds(
			system->storage, system->engine.tenant, &pages));
	}
	return true;
}

static kvt_decision_log *take_turn(
	const kvt_experiment *experiment, kvt_run_kind kind, const char *folder, kvt_turn *turn)
{
	g_autoptr(GError) error = NULL;
	own_world w = { .experiment = experiment,
		.loop = kvt_real_loop_new(NULL),
		.source = { .seed = 5 },
		.folder = folder };
	kvt_decision_log *record = kvt_decision_log_new();
	const kvt_world world = { .loop = w.loop,
		.open_store = open_store,
		.open_device = open_device,
		.store_context = is_stored,
		.arg = &w,
		.decisions = record };
	g_assert_true(kvt_turn_run_in(&world, experiment, kind, NULL, turn, &error));
	g_assert_no_error(error);
	kvt_attention_errors errors;
	kvt_attention_check_compare(w.check, 0, &errors);
	g_assert_cmpuint(errors.compared, >, 0);
	g_assert_true(kvt_attention_errors_pass(&errors));
	kvt_attention_check_free(w.check);
	kvt_loop_free(w.loop);
	return record;
}

/* Turn 1's pages go out from where they were computed, layer by layer; Turn 2 reads them back. */
static void test_both_turns(void)
{
	for (unsigned i = 0; i < 2; i++) {
		g_autoptr(kvt_experiment) experiment = tiny_experiment("bf16", "");
		experiment->write_out = true;
		experiment->chunk_tokens = i == 0 ? 128 : 96;
		experiment->prefill_samples = 0;
		experiment->window_tokens = 64;
		experiment->buffers = 3;
		experiment->stream_mode = i == 0 ? KVT_STREAM_AUTO : KVT_STREAM_ALWAYS;
		char *folder = store_folder_new();
		const kvt_run_kind kinds[] = { KVT_RUN_COLD, KVT_RUN_RESUME };
		for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
			kvt_turn turn;
			g_autoptr(kvt_decision_log) record =
				take_turn(experiment, kinds[k], folder, &turn);
			const char *text = kvt_decision_log_text(record);
			if (kinds[k] == KVT_RUN_COLD)
				g_assert_cmpuint(count(text, "write"), >=, 3 * 620 / 128);
			else
				g_assert_cmpuint(count(text, "read"), >=, 3);
			assert_followed(experiment, kinds[k], record, &turn);
		}
		store_folder_free(folder);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	tiny_model_make();
	g_test_add_func("/recorded-turn/resume", test_resume);
	g_test_add_func("/recorded-turn/other-order", test_other_order);
	g_test_add_func("/recorded-turn/both-turns", test_both_turns);
	int status = g_test_run();
	tiny_model_remove();
	return status;
}
