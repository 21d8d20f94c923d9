/* test_fleet_turn.c: one conversation on one replica is a turn: a fleet says of its first token and
 * of those after it what the engine says, layer by layer and page by page. */
#include <math.h>

#include "sim/base/datadir.h"
#include "sim/engine/turn.h"
#include "tests/unit/fleet_fixture.h"

enum { BLOCK = 256, NEW = 64, OUTPUT = 128 };

static kvt_turn engine_turn(const char *file, const char *tokens)
{
	GError *error = NULL;
	g_autofree char *path = kvt_datadir_find(file, &error);
	const char *sets[] = { tokens, "decode.all_reduce=graph", NULL };
	g_autoptr(kvt_experiment) experiment = kvt_experiment_load(path, sets, &error);
	g_assert_no_error(error);
	kvt_turn turn;
	g_assert_true(kvt_turn_run(experiment, KVT_RUN_RESUME, NULL, &turn, &error));
	g_assert_no_error(error);
	return turn;
}

/* The same test bed; the context comes back after `others` have taken HBM. */
static kvt_fleet *fleet_turn(
	const kvt_fleet_settings *settings, kvt_made_trace *made, uint32_t context, unsigned others)
{
	uint32_t n = context / BLOCK;
	g_autofree uint32_t *ids = g_new(uint32_t, n);
	for (unsigned i = 0; i <= others + 1; i++) {
		unsigned session = i <= others ? i : 0;
		bool back = i == others + 1;
		kvt_made_trace_add(
			made, i * 600 * KVT_SECOND, context + (back ? NEW : 0), back ? OUTPUT : 1);
		for (uint32_t b = 0; b < n; b++)
			ids[b] = session * n + b;
		kvt_made_trace_set_blocks(made, ids, n);
	}
	return kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
}

static void compare(const char *file, const char *model, const char *format, unsigned others)
{
	enum { CONTEXT = 102400 };
	kvt_turn turn = engine_turn(file, "context.tokens=102400");
	g_autofree char *name = g_strconcat("model.name=", model, NULL);
	const char *sets[] = { name, format, "gpu.name=l40s", "host.name=l40s-testbed",
		"fabric.target_nics=1", "fabric.efficiency=90.5%", NULL };
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(
		"[step]\nmodel = tables\n[tier pool]\nkind = remote-nvme\n"
		"drive = scaleflux-csd5000\ndrives = 18\n",
		sets);
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	g_autoptr(kvt_fleet) fleet = fleet_turn(settings, made, CONTEXT, others);
	const kvt_request_outcome *o = &fleet->outcomes[fleet->n_requests - 1];
	g_assert_cmpuint(o->hit_blocks[1], ==, CONTEXT / BLOCK);
	double ttft = kvt_time_to_seconds(kvt_request_outcome_ttft(o));
	double tpot = kvt_time_to_seconds(kvt_request_outcome_tpot(o));
	g_test_message("%s: TTFT %g s, the engine's %g s; TPOT %g s, the engine's %g s", model,
		ttft, turn.ttft, tpot, turn.tpot);
	g_assert_cmpfloat(fabs(ttft / turn.ttft - 1), <, 0.01);
	g_assert_cmpfloat(fabs(tpot / turn.tpot - 1), <, 0.01);
}

static void test_r1(void)
{
	compare("experiments/r1-102k.ini", "deepseek-r1-distill-llama-70b-fp8",
		"model.kv_format=fp8", 7);
}

static void test_qwen(void)
{
	compare("experiments/qwen-1m.ini", "qwen2.5-7b-instruct-1m", "model.kv_format=model", 30);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet/turn/r1", test_r1);
	g_test_add_func("/fleet/turn/qwen", test_qwen);
	return g_test_run();
}
