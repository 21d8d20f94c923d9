/* test_collective_model.c: times of collectives: anchors, interpolation, fitting, bad tables. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "models/collective_model.h"

static const char *const GPUS[] = { "a100", "h100", "h200", "b200", "l40s" };
static const char *const OPS[] = { "all_reduce", "all_gather", "reduce_scatter", "alltoall" };

static kvt_collective_model *load(const char *gpu)
{
	g_autofree char *path = g_strdup_printf("models/gpu/kernels/%s-collective.table", gpu);
	g_autoptr(GError) error = NULL;
	kvt_collective_model *model = kvt_collective_model_load(path, &error);
	g_assert_no_error(error);
	return model;
}

static kvt_collective_time ask(const kvt_collective_model *model, const char *op,
	kvt_collective_flavour flavour, int64_t gpus, double bytes)
{
	kvt_collective_query query = { op, flavour, gpus, bytes };
	kvt_collective_time time;
	g_assert_cmpint(kvt_collective_predict(model, &query, &time), ==, 0);
	g_assert_true(isfinite(time.seconds) && time.seconds >= 0);
	return time;
}

/* Measured on a host whose L40S cards reach each other only through the CPU. */
static void test_l40s_anchors(void)
{
	g_autoptr(kvt_collective_model) model = load("l40s");
	double large = 512 << 20;
	kvt_collective_time time = ask(model, "all_reduce", KVT_COLLECTIVE_NCCL, 4, large);
	g_assert_cmpfloat(time.bandwidth, >, 3.2e9);
	g_assert_cmpfloat(time.bandwidth, <, 3.9e9);
	g_assert_false(time.extrapolated);
	double limit =
		kvt_collective_asymptotic_bandwidth(model, "all_reduce", KVT_COLLECTIVE_NCCL, 4);
	g_assert_cmpfloat(limit, >, 3e9);
	g_assert_cmpfloat(limit, <, 4e9);
	/* one token of a model with 8192 features: mostly launches */
	double eager = ask(model, "all_reduce", KVT_COLLECTIVE_CUSTOM_EAGER, 4, 16384).seconds;
	double graph = ask(model, "all_reduce", KVT_COLLECTIVE_CUSTOM_GRAPH, 4, 16384).seconds;
	double nccl = ask(model, "all_reduce", KVT_COLLECTIVE_NCCL, 4, 16384).seconds;
	g_assert_cmpfloat(eager, >, 54e-6);
	g_assert_cmpfloat(eager, <, 60e-6);
	g_assert_cmpfloat(graph, <, eager / 2);
	g_assert_cmpfloat(nccl, <, eager / 2);
	g_assert_true(kvt_collective_model_has(model, "all_reduce", KVT_COLLECTIVE_CUSTOM_GRAPH));
	g_assert_false(kvt_collective_model_has(model, "alltoall", KVT_COLLECTIVE_CUSTOM_GRAPH));
}

static void test_sane_everywhere(void)
{
	for (size_t g = 0; g < G_N_ELEMENTS(GPUS); g++) {
		g_autoptr(kvt_collective_model) model = load(GPUS[g]);
		for (size_t o = 0; o < G_N_ELEMENTS(OPS); o++) {
			for (int64_t n = 2; n <= 16; n++) {
				double longest = 0;
				for (double bytes = 256; bytes < 1e11; bytes *= 1.7) {
					kvt_collective_time t =
						ask(model, OPS[o], KVT_COLLECTIVE_NCCL, n, bytes);
					g_assert_cmpfloat(t.seconds, >, 1e-6);
					/* NCCL changes its algorithm with size, which is not always
					 * for the better */
					g_assert_cmpfloat(t.seconds, >, 0.6 * longest);
					longest = fmax(longest, t.seconds);
					bool counted = n == 2 || n == 4 || n == 8;
					if (!counted || bytes < 512 || bytes > (512 << 20))
						g_assert_true(t.extrapolated);
					else if (bytes > 4096 && bytes < (64 << 20))
						g_assert_false(t.extrapolated);
				}
			}
		}
	}
}

static void test_queries(void)
{
	g_autoptr(kvt_collective_model) model = load("h100");
	kvt_collective_time time;
	kvt_collective_query query = { "all_reduce", KVT_COLLECTIVE_NCCL, 1, 1e6 };
	g_assert_cmpint(kvt_collective_predict(model, &query, &time), ==, 0);
	g_assert_cmpfloat(time.seconds, ==, 0);
	query.gpus = 0;
	g_assert_cmpint(kvt_collective_predict(model, &query, &time), ==, -EINVAL);
	query = (kvt_collective_query){ "all_reduce", KVT_COLLECTIVE_NCCL, 4, NAN };
	g_assert_cmpint(kvt_collective_predict(model, &query, &time), ==, -EINVAL);
	query.bytes = -1;
	g_assert_cmpint(kvt_collective_predict(model, &query, &time), ==, -EINVAL);
	query = (kvt_collective_query){ "gossip", KVT_COLLECTIVE_NCCL, 4, 1 };
	g_assert_cmpint(kvt_collective_predict(model, &query, &time), ==, -ENOENT);
	query = (kvt_collective_query){ "all_reduce", KVT_COLLECTIVE_CUSTOM_EAGER, 4, 1 };
	g_assert_cmpint(kvt_collective_predict(model, &query, &time), ==, -ENOENT);
}

static const char ROWS[] = "kernel_source,nccl_dtype,num_gpus,op_name,message_size,latency_ms\n"
			   "NCCL,half,4,all_reduce,1024,0.010\n"
			   "NCCL,int8,4,all_reduce,2048,0.040\n" /* the same bytes: one point */
			   "NCCL,half,4,all_reduce,4096,0.080\n"
			   "NCCL,half,4,all_reduce,8192,0.160\n"
			   "NCCL,half,2,all_reduce,8192,0.080\n";

static void test_fit(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_kernel_csv) csv = kvt_kernel_csv_parse("rows", ROWS, strlen(ROWS), &error);
	g_assert_no_error(error);
	g_autoptr(kvt_collective_model) model =
		kvt_collective_model_fit("x", csv->rows, csv->count, &error);
	g_assert_no_error(error);
	kvt_collective_time time = ask(model, "all_reduce", KVT_COLLECTIVE_NCCL, 4, 2048);
	g_assert_cmpfloat(fabs(time.seconds / 20e-6 - 1), <, 1e-9);
	/* between 2 KiB at 20 us and 8 KiB at 80 us */
	time = ask(model, "all_reduce", KVT_COLLECTIVE_NCCL, 4, 4096);
	g_assert_cmpfloat(fabs(time.seconds / 40e-6 - 1), <, 1e-9);
	/* beyond 16 KiB at 160 us: 8 KiB took 80 us more */
	time = ask(model, "all_reduce", KVT_COLLECTIVE_NCCL, 4, 65536);
	g_assert_cmpfloat(fabs(time.seconds / 640e-6 - 1), <, 1e-9);
	g_assert_true(time.extrapolated);
	g_assert_cmpfloat(fabs(time.bandwidth / (65536 / 640e-6) - 1), <, 1e-9);
	/* 2 GPUs 80 us, 4 GPUs 160 us: twice the GPUs, twice the time */
	time = ask(model, "all_reduce", KVT_COLLECTIVE_NCCL, 8, 16384);
	g_assert_cmpfloat(fabs(time.seconds / 320e-6 - 1), <, 1e-9);
	for (size_t i = 0; i < csv->count; i++) {
		g_assert_cmpint(kvt_collective_predict_row(model, &csv->rows[i], &time), ==, 0);
		g_assert_cmpfloat(time.bandwidth, >, 0);
	}
	g_autofree char *text = kvt_collective_model_text(model);
	g_autoptr(kvt_collective_model) back =
		kvt_collective_model_parse("t", text, strlen(text), &error);
	g_assert_no_error(error);
	g_autofree char *again = kvt_collective_model_text(back);
	g_assert_cmpstr(text, ==, again);
	for (double bytes = 1; bytes < 1e9; bytes *= 1.3)
		g_assert_cmpfloat(ask(model, "all_reduce", KVT_COLLECTIVE_NCCL, 4, bytes).seconds,
			==, ask(back, "all_reduce", KVT_COLLECTIVE_NCCL, 4, bytes).seconds);
	g_assert_null(kvt_collective_model_fit("x", csv->rows, 0, &error));
	g_assert_cmpstr(error->message, ==, "x: no collective row to fit, expected at least one");
}

#define HEAD "kvtier-table collective 1\ngpu x\n"

static const struct {
	const char *text, *message;
} HOSTILE[] = {
	{ "kvtier-table gemm 1\n",
		"t:1: not a collective table, expected 'kvtier-table collective 1'" },
	{ HEAD, "t:2: 'end of file', expected 'bytes'" },
	{ HEAD "bytes\n", "t:3: bytes: 0 values, expected 1 to 256" },
	{ HEAD "bytes 8 8\n", "t:3: bytes: values must ascend" },
	{ HEAD "bytes 8 16\n", "t:3: no times, expected at least one line" },
	{ HEAD "bytes 8 16\nrate a b 2 1 1\n", "t:4: 'rate', expected 'times'" },
	{ HEAD "bytes 8 16\ntimes a b 2 1\n", "t:4: times: 4 fields, expected 5" },
	{ HEAD "bytes 8 16\ntimes a b 1 1 1\n",
		"t:4: gpus: '1', expected a whole number from 2 to 65536" },
	{ HEAD "bytes 8 16\ntimes a b 2 1 inf\n",
		"t:4: time: 'inf', expected a number from 0.001 to 1e+12" },
	{ HEAD "bytes 8 16\ntimes a b 2 -1 1\n",
		"t:4: time: '-1', expected a number from 0.001 to 1e+12" },
	{ HEAD "bytes 8 16\ntimes a b 2 - -\n", "t:4: times: no time, expected at least one" },
	{ HEAD "bytes 8 16\ntimes a b 2 1 1\ntimes a b 2 1 1\n",
		"t:5: times: expected lines ordered by source, op and gpus, each once" },
};

static void test_hostile(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(HOSTILE); i++) {
		g_autoptr(GError) error = NULL;
		const char *text = HOSTILE[i].text;
		g_assert_null(kvt_collective_model_parse("t", text, strlen(text), &error));
		g_assert_cmpstr(error->message, ==, HOSTILE[i].message);
	}
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_collective_model_load("no/such/file", &error));
	g_assert_nonnull(error);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/collective/l40s_anchors", test_l40s_anchors);
	g_test_add_func("/collective/sane_everywhere", test_sane_everywhere);
	g_test_add_func("/collective/queries", test_queries);
	g_test_add_func("/collective/fit", test_fit);
	g_test_add_func("/collective/hostile", test_hostile);
	return g_test_run();
}
