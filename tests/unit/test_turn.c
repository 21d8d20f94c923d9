/* test_turn.c: turns on modelled systems: conservation, monotony, knobs, sampling, streaming. */
#include <glib.h>
#include <math.h>

#include "sim/engine/turn.h"

static const char *const scout_small = "[model]\nname = llama-4-scout-17b-16e-fp8\n"
				       "[gpu]\nname = l40s\ncount = 4\n"
				       "[context]\ntokens = 100K\n";

#define CHOICE "select.curve=selectivity.csv"

static kvt_experiment *make(const char *text, ...) G_GNUC_NULL_TERMINATED;

/* The experiment of `text` with settings "section.key=value" up to a NULL. */
static kvt_experiment *make(const char *text, ...)
{
	GError *error = NULL;
	kvt_config *config = kvt_config_parse("test.ini", text, &error);
	g_assert_no_error(error);
	va_list args;
	va_start(args, text);
	for (const char *set = va_arg(args, const char *); set; set = va_arg(args, const char *)) {
		kvt_config_set(config, set, &error);
		g_assert_no_error(error);
	}
	va_end(args);
	kvt_experiment *experiment = kvt_experiment_new(config, &error);
	g_assert_no_error(error);
	return experiment;
}

static kvt_turn run(kvt_experiment *experiment, kvt_run_kind kind)
{
	GError *error = NULL;
	kvt_turn turn;
	kvt_turn_run(experiment, kind, NULL, &turn, &error);
	g_assert_no_error(error);
	kvt_experiment_free(experiment);
	return turn;
}

static void test_bytes(void)
{
	kvt_experiment *experiment = make(scout_small, NULL);
	kvt_kv_layout layout;
	kvt_kv_layout_init(&layout, experiment->llm, 4, 1, 16);
	uint64_t expected = kvt_kv_page_bytes_total(&layout, 100000);
	/* 12 global layers and 36 that hold 8,192 tokens, 4,096 B a token and layer */
	g_assert_cmpuint(expected, ==, UINT64_C(4096) * (12 * 100000 + 36 * 8192));
	kvt_turn turn = run(experiment, KVT_RUN_RESUME);
	g_assert_cmpuint(turn.read_bytes[0], ==, expected);
	g_assert_cmpuint(turn.loads, ==, 48);
	g_assert_false(turn.streamed);
	/* not faster than the narrowest link, one 400 Gb/s port at its own efficiency */
	g_assert_cmpfloat(turn.ttft, >, (double)expected / 50e9);
	g_assert_cmpfloat(turn.ttft, <, (double)expected / 50e9 * 1.2);
	g_assert_cmpfloat(turn.loading, <=, turn.ttft);
}

static void test_deterministic(void)
{
	kvt_turn a = run(make(scout_small, "experiment.seed=7", NULL), KVT_RUN_RESUME);
	kvt_turn b = run(make(scout_small, "experiment.seed=7", NULL), KVT_RUN_RESUME);
	kvt_turn c = run(make(scout_small, "experiment.seed=8", NULL), KVT_RUN_RESUME);
	g_assert_cmpmem(&a, sizeof a, &b, sizeof b);
	g_assert_cmpfloat(a.ttft, !=, c.ttft);
}

/* More of anything that carries bytes is never slower. */
static void test_more_is_never_slower(void)
{
	static const char *const series[][5] = {
		{ "remote-nvme.drives=1", "remote-nvme.drives=2", "remote-nvme.drives=4",
			"remote-nvme.drives=16", NULL },
		{ "fabric.nics=1", "fabric.nics=2", "fabric.nics=4", "fabric.nics=8", NULL },
		{ "fabric.efficiency=50%", "fabric.efficiency=70%", "fabric.efficiency=90%",
			"fabric.efficiency=100%", NULL },
		{ "fabric.targets=1", "fabric.targets=2", "fabric.targets=4", "fabric.targets=8",
			NULL },
		{ "fabric.nic=connectx-5-100g", "fabric.nic=connectx-7-400g",
			"fabric.nic=connectx-8-800g", NULL, NULL },
		{ "host.checksum_rate=10GB/s", "host.checksum_rate=20GB/s",
			"host.checksum_rate=40GB/s", "host.checksum_rate=80GB/s", NULL },
		{ "stream.buffers=2", "stream.buffers=3", "stream.buffers=4", "stream.buffers=8",
			NULL },
		{ "gpu.memory_share=70%", "gpu.memory_share=80%", "gpu.memory_share=90%",
			"gpu.memory_share=100%", NULL },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(series); i++) {
		double last = INFINITY, first = 0;
		for (unsigned j = 0; series[i][j]; j++) {
			const char *mode = g_str_has_prefix(series[i][j], "stream.")
						   ? "stream.mode=always"
						   : "stream.mode=auto";
			kvt_turn turn =
				run(make(scout_small, mode, series[i][j], NULL), KVT_RUN_RESUME);
			g_assert_cmpfloat(turn.ttft, <=, last * (1 + 1e-3));
			last = turn.ttft;
			if (j == 0)
				first = turn.ttft;
		}
		if (!g_str_has_prefix(series[i][0], "gpu.") &&
			!g_str_has_prefix(series[i][0], "fabric.targets"))
			g_assert_cmpfloat(last, <, first);
	}
}

/* A change of a key, and what it needs to be seen; an empty title stands where that is less. */
static const struct {
	const char *base[8], *changed;
	kvt_run_kind kind;
} knobs[] = {
	{ { NULL }, "experiment.seed=99", KVT_RUN_RESUME },
	{ { NULL }, "model.name=mixtral-8x7b", KVT_RUN_RESUME },
	{ { NULL }, "model.kv_format=fp8", KVT_RUN_RESUME },
	{ { NULL }, "model.page_tokens=512", KVT_RUN_RESUME },
	{ { NULL }, "gpu.name=h100-sxm", KVT_RUN_RESUME },
	{ { NULL }, "gpu.count=8", KVT_RUN_RESUME },
	{ { "context.tokens=2M" }, "gpu.memory_share=95%", KVT_RUN_COLD },
	{ { "context.tokens=2M" }, "gpu.activations=4GB", KVT_RUN_COLD },
	{ { "storage.tier=dram" }, "host.name=pcie5-ddr5", KVT_RUN_RESUME },
	{ { NULL }, "host.checksum_rate=20GB/s", KVT_RUN_RESUME },
	{ { "host.name=pcie4-ddr4", "gpu.count=8", "fabric.nics=8", "fabric.targets=8",
		  "remote-nvme.drives=64", "resume.depth=16" },
		"host.gpu_direct=no", KVT_RUN_RESUME },
	{ { NULL }, "host.io_rate=100K/s", KVT_RUN_RESUME },
	{ { NULL }, "fabric.nic=connectx-8-800g", KVT_RUN_RESUME },
	{ { NULL }, "fabric.nics=2", KVT_RUN_RESUME },
	{ { "fabric.nics=8" }, "fabric.targets=1", KVT_RUN_RESUME },
	{ { "fabric.nics=8", "fabric.targets=1" }, "fabric.target_nics=8", KVT_RUN_RESUME },
	{ { "storage.tier=remote-dram", "host.name=pcie6-ddr5", "gpu.name=h200", "gpu.count=8",
		  "fabric.nics=64", "fabric.targets=1", "fabric.target_nics=64",
		  "remote-dram.max_transfer=64MiB" },
		"fabric.target=pcie6-ddr5", KVT_RUN_RESUME },
	{ { NULL }, "fabric.efficiency=70%", KVT_RUN_RESUME },
	{ { NULL }, "context.tokens=120K", KVT_RUN_RESUME },
	{ { NULL }, "context.prompt_tokens=4096", KVT_RUN_RESUME },
	{ { "decode.samples=0" }, "context.output_tokens=200", KVT_RUN_RESUME },
	{ { NULL }, "context.stored=50%", KVT_RUN_RESUME },
	{ { NULL }, "storage.tier=dram", KVT_RUN_RESUME },
	{ { NULL }, "storage.second_share=30%", KVT_RUN_RESUME },
	{ { "storage.second_share=30%" }, "storage.second_tier=dram", KVT_RUN_RESUME },
	{ { NULL }, "storage.nodes=4", KVT_RUN_RESUME },
	{ { "storage.nodes=4" }, "storage.dead_nodes=1", KVT_RUN_RESUME },
	{ { "storage.nodes=4", "storage.dead_nodes=1" }, "storage.replicas=2", KVT_RUN_RESUME },
	{ { "stream.mode=always" }, "fault.busy_rate=50%", KVT_RUN_RESUME },
	{ { NULL }, "fault.delay_rate=50%", KVT_RUN_RESUME },
	{ { "fault.delay_rate=50%" }, "fault.delay=20ms", KVT_RUN_RESUME },
	{ { NULL }, "prefill.chunk_tokens=2048", KVT_RUN_COLD },
	{ { NULL }, "prefill.overlap=none", KVT_RUN_COLD },
	{ { NULL }, "prefill.all_reduce_rate=10GB/s", KVT_RUN_COLD },
	{ { NULL }, "prefill.write_out=yes", KVT_RUN_COLD },
	{ { "prefill.chunk_tokens=512" }, "prefill.samples=7", KVT_RUN_COLD },
	{ { NULL }, "resume.policy=recompute", KVT_RUN_RESUME },
	{ { "fabric.efficiency=0.1%", "context.tokens=2K" }, "resume.policy=auto", KVT_RUN_RESUME },
	{ { NULL }, "resume.depth=16", KVT_RUN_RESUME },
	{ { NULL }, "resume.lookup=5ms", KVT_RUN_RESUME },
	{ { NULL }, "stream.mode=always", KVT_RUN_RESUME },
	{ { "stream.mode=always" }, "stream.window_tokens=4096", KVT_RUN_RESUME },
	{ { "stream.mode=always" }, "stream.buffers=4", KVT_RUN_RESUME },
	{ { "stream.mode=always" }, "stream.turnaround=1ms", KVT_RUN_RESUME },
	{ { NULL }, "select.curve=selectivity.csv", KVT_RUN_RESUME },
	{ { CHOICE }, "select.chooser=oracle", KVT_RUN_RESUME },
	{ { CHOICE }, "select.layers=3 7", KVT_RUN_RESUME },
	{ { CHOICE }, "select.mass=90%", KVT_RUN_RESUME },
	{ { CHOICE }, "select.scope=question", KVT_RUN_RESUME },
	{ { CHOICE, "context.tokens=1M" }, "select.grown=yes", KVT_RUN_RESUME },
	{ { CHOICE }, "select.ahead=yes", KVT_RUN_RESUME },
	{ { CHOICE }, "select.sketch_bytes=37B", KVT_RUN_RESUME },
	{ { NULL }, "decode.all_reduce=graph", KVT_RUN_RESUME },
	{ { NULL }, "decode.samples=2", KVT_RUN_RESUME },
	{ { NULL }, "decode.step_overhead=1ms", KVT_RUN_RESUME },
	{ { NULL }, "decode.kernel_overhead=5us", KVT_RUN_RESUME },
};

/* Every key of an experiment moves some figure. */
static void test_every_knob_moves(void)
{
	unsigned unmoved = 0;
	for (unsigned i = 0; i < G_N_ELEMENTS(knobs); i++) {
		const char *base[8];
		for (unsigned b = 0; b < 8; b++)
			base[b] = knobs[i].base[b] ? knobs[i].base[b] : "experiment.title=";
		kvt_turn before = run(make(scout_small, base[0], base[1], base[2], base[3], base[4],
					      base[5], base[6], base[7], NULL),
			knobs[i].kind);
		kvt_turn after = run(make(scout_small, base[0], base[1], base[2], base[3], base[4],
					     base[5], base[6], base[7], knobs[i].changed, NULL),
			knobs[i].kind);
		if (before.ttft == after.ttft && before.tpot == after.tpot &&
			before.tokens_per_s == after.tokens_per_s &&
			before.written_bytes[0] == after.written_bytes[0]) {
			g_test_message("%s changes nothing", knobs[i].changed);
			unmoved++;
		}
	}
	g_assert_cmpuint(unmoved, ==, 0);
}

/* The table above names every key of every section but the ones listed here. */
static void test_knob_list_is_complete(void)
{
	g_autofree char *source = NULL;
	g_assert_true(g_file_get_contents(__FILE__, &source, NULL, NULL));
	for (const kvt_experiment_section *s = kvt_experiment_sections(); s->name; s++) {
		for (const kvt_option *option = s->options; option->name; option++) {
			g_autofree char *knob =
				g_strconcat("\"", s->name, ".", option->name, "=", NULL);
			/* [peak] runs no turn, test_migration.c moves [migrate] */
			if (g_str_equal(s->name, "peak") || g_str_equal(s->name, "migrate") ||
				g_str_equal(option->name, "title") ||
				g_str_equal(option->name, "kind"))
				continue;
			if (!strstr(source, knob))
				g_error("no test moves [%s] %s", s->name, option->name);
		}
	}
}

/* What a turn cannot, or shall not, get over ends it with one clear line; a section without rates
 * does nothing. */
static void test_faults(void)
{
	static const struct {
		const char *fault;
		kvt_run_kind kind;
		const char *message;
	} faults[] = {
		{ "fault.read_error_rate=100%", KVT_RUN_RESUME, "failed to read or write" },
		{ "fault.short_rate=100%", KVT_RUN_RESUME, "failed to read or write" },
		{ "fault.corrupt_rate=100%", KVT_RUN_RESUME,
			"returned a page whose checksum is wrong" },
		{ "fault.write_error_rate=100%", KVT_RUN_COLD, "failed to read or write" },
		{ "fault.full_rate=100%", KVT_RUN_COLD, "is full, expected a larger capacity" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(faults); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_experiment) e = make(scout_small, "prefill.write_out=yes",
			"storage.lost=fail", faults[i].fault, NULL);
		kvt_turn turn;
		g_assert_false(kvt_turn_run(e, faults[i].kind, NULL, &turn, &error));
		g_autofree char *expected =
			g_strdup_printf("storage tier remote-nvme: %s", faults[i].message);
		g_assert_cmpstr(error->message, ==, expected);
	}
	kvt_turn plain = run(make(scout_small, NULL), KVT_RUN_RESUME);
	kvt_turn wrapped = run(make(scout_small, "fault.read_error_rate=0%", NULL), KVT_RUN_RESUME);
	g_assert_cmpmem(&plain, sizeof plain, &wrapped, sizeof wrapped);
}

static void test_null_storage_is_the_floor(void)
{
	kvt_turn null = run(make(scout_small, "storage.tier=null", NULL), KVT_RUN_RESUME);
	kvt_turn real = run(make(scout_small, NULL), KVT_RUN_RESUME);
	double work = 0;
	for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++)
		work += null.work[kind];
	g_assert_cmpfloat_with_epsilon(null.ttft, work, 1e-9);
	g_assert_cmpfloat(real.ttft, >, null.ttft);
	g_assert_cmpfloat_with_epsilon(null.waiting, null.work[KVT_WORK_ALL_REDUCE], 1e-9);
}

static void test_partial_prefix(void)
{
	double last = INFINITY;
	const char *const shares[] = { "context.stored=0%", "context.stored=25%",
		"context.stored=50%", "context.stored=75%", "context.stored=100%" };
	for (unsigned i = 0; i < G_N_ELEMENTS(shares); i++) {
		kvt_turn turn = run(make(scout_small, shares[i], NULL), KVT_RUN_RESUME);
		g_assert_cmpuint(turn.loaded_tokens + turn.computed_tokens, ==, 100064);
		g_assert_cmpfloat(turn.ttft, <, last);
		last = turn.ttft;
	}
	kvt_turn cold = run(make(scout_small, NULL), KVT_RUN_COLD);
	kvt_turn none = run(make(scout_small, "context.stored=0%", NULL), KVT_RUN_RESUME);
	g_assert_cmpfloat(cold.ttft, ==, none.ttft);
}

static void test_policy(void)
{
	kvt_turn load = run(make(scout_small, NULL), KVT_RUN_RESUME);
	kvt_turn chosen = run(make(scout_small, "resume.policy=auto", NULL), KVT_RUN_RESUME);
	g_assert_cmpfloat(load.ttft, ==, chosen.ttft);
	g_assert_false(chosen.recomputed);
	kvt_turn recomputed =
		run(make(scout_small, "resume.policy=recompute", NULL), KVT_RUN_RESUME);
	kvt_turn cold = run(make(scout_small, NULL), KVT_RUN_COLD);
	g_assert_cmpfloat(recomputed.ttft, ==, cold.ttft);
	g_assert_true(recomputed.recomputed);
	/* over one slow drive a short context is faster computed */
	kvt_experiment *slow = make(scout_small, "context.tokens=2K", "fabric.efficiency=0.1%",
		"resume.policy=auto", NULL);
	g_assert_true(run(slow, KVT_RUN_RESUME).recomputed);
}

/* Interpolated chunks stand for all of them, resident and streamed. */
static void test_samples(void)
{
	static const char *const sizes[] = { "context.tokens=100K", "context.tokens=1400K" };
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		kvt_turn all = run(make(scout_small, sizes[i], "prefill.chunk_tokens=8192",
					   "prefill.samples=0", NULL),
			KVT_RUN_COLD);
		kvt_turn some = run(make(scout_small, sizes[i], "prefill.chunk_tokens=8192",
					    "prefill.samples=12", NULL),
			KVT_RUN_COLD);
		g_assert_cmpuint(all.chunks_simulated, ==, all.chunks);
		g_assert_cmpuint(some.chunks, ==, all.chunks);
		g_assert_cmpfloat(fabs(some.ttft / all.ttft - 1), <, 0.005);
		double read = (double)all.read_bytes[0];
		g_assert_cmpfloat(fabs((double)some.read_bytes[0] - read), <=, 0.01 * read);
	}
}

static void test_streaming(void)
{
	kvt_turn resident = run(make(scout_small, NULL), KVT_RUN_RESUME);
	kvt_turn streamed = run(make(scout_small, "stream.mode=always", NULL), KVT_RUN_RESUME);
	g_assert_true(streamed.streamed);
	g_assert_cmpuint(streamed.read_bytes[0], ==, resident.read_bytes[0]);
	g_assert_cmpfloat(streamed.ttft, >=, resident.ttft);
	/* 13 windows of 8,192 tokens in each of 12 global layers, 36 local windows */
	g_assert_cmpuint(streamed.loads, ==, 12 * 13 + 36);
	/* peak HBM stays within what the GPUs have */
	kvt_turn large = run(make(scout_small, "context.tokens=4M", NULL), KVT_RUN_RESUME);
	g_assert_true(large.streamed);
	g_assert_cmpuint(large.hbm_peak, <=, UINT64_C(4) * 46068 * 1024 * 1024);
	g_assert_cmpuint(large.resident_tokens, <, 4000000);
	/* what streams in every step makes tokens slower than what is resident */
	kvt_turn fits = run(make(scout_small, "context.tokens=1M", NULL), KVT_RUN_RESUME);
	g_assert_false(fits.streamed);
	g_assert_cmpfloat(large.tpot, >, 10 * fits.tpot);
}

static void test_write_out(void)
{
	kvt_experiment *experiment = make(scout_small, "prefill.write_out=yes", NULL);
	kvt_kv_layout layout;
	kvt_kv_layout_init(&layout, experiment->llm, 4, 1, 16);
	uint64_t all = kvt_kv_page_bytes_total(&layout, 100064);
	kvt_turn written = run(experiment, KVT_RUN_COLD);
	/* chunks that do not end on a page write it twice: one page a layer and chunk at most */
	g_assert_cmpuint(written.written_bytes[0], >=, all);
	g_assert_cmpuint(written.written_bytes[0], <=, all + 48 * 14 * 65536);
	kvt_turn kept = run(make(scout_small, NULL), KVT_RUN_COLD);
	g_assert_cmpuint(kept.written_bytes[0], ==, 0);
	g_assert_cmpfloat(written.ttft, >=, kept.ttft);
	/* over a thin fabric the last pages are on their way when the token is there */
	kvt_turn thin =
		run(make(scout_small, "prefill.write_out=yes", "fabric.efficiency=1%", NULL),
			KVT_RUN_COLD);
	g_assert_cmpfloat(thin.written_out, >, 0);
	g_assert_cmpfloat(thin.ttft, >, written.ttft);
}

/* A tier that is too small, weights that do not fit, windows that do not fit: one line, no crash.
 */
static void test_what_does_not_fit(void)
{
	static const struct {
		const char *sets[3];
		const char *message;
	} cases[] = {
		{ { "remote-nvme.capacity=1GB" }, "too small for the context's KV" },
		{ { "gpu.count=1" }, "does not fit: its weights take" },
		{ { "stream.mode=never", "context.tokens=10M" }, "does not fit into HBM" },
		{ { "context.tokens=10M", "stream.buffers=4000" }, "expected fewer or smaller" },
		{ { "fabric.nics=0" }, "has no NIC" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		kvt_experiment *experiment = make(scout_small, cases[i].sets[0],
			cases[i].sets[1] ? cases[i].sets[1] : NULL, NULL);
		g_autoptr(GError) error = NULL;
		kvt_turn turn;
		g_assert_false(kvt_turn_run(experiment, KVT_RUN_RESUME, NULL, &turn, &error));
		g_assert_nonnull(error);
		if (!strstr(error->message, cases[i].message))
			g_error("\"%s\" does not say \"%s\"", error->message, cases[i].message);
		g_assert_null(strchr(error->message, '\n'));
		kvt_experiment_free(experiment);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/turn/bytes", test_bytes);
	g_test_add_func("/turn/deterministic", test_deterministic);
	g_test_add_func("/turn/more-is-never-slower", test_more_is_never_slower);
	g_test_add_func("/turn/every-knob-moves", test_every_knob_moves);
	g_test_add_func("/turn/knob-list-is-complete", test_knob_list_is_complete);
	g_test_add_func("/turn/null-storage-is-the-floor", test_null_storage_is_the_floor);
	g_test_add_func("/turn/faults", test_faults);
	g_test_add_func("/turn/partial-prefix", test_partial_prefix);
	g_test_add_func("/turn/policy", test_policy);
	g_test_add_func("/turn/samples", test_samples);
	g_test_add_func("/turn/streaming", test_streaming);
	g_test_add_func("/turn/write-out", test_write_out);
	g_test_add_func("/turn/what-does-not-fit", test_what_does_not_fit);
	return g_test_run();
}
