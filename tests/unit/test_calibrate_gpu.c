/* test_calibrate_gpu.c: a GPU in memory is measured, whatever its speed: every shape and way is
 * there, records come back as they were, the model files are read by who reads them and predict
 * what was measured; and bad records, GPUs that refuse or fail, and missing products are said. */
#include <errno.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "emu/calibrate/gpu_calibration.h"
#include "emu/calibrate/gpu_record.h"
#include "models/attention_model.h"
#include "models/gemm_model.h"
#include "models/hardware.h"
#include "sim/base/error.h"
#include "sim/base/output.h"
#include "sim/engine/experiment.h"
#include "sim/engine/turn.h"
#include "tests/unit/memory_gpu.h"

/* FLOP/s of products that are made up. */
static const double PRODUCTS = 4e14;

typedef struct timed {
	unsigned calls;
	int status;
} timed;

static int time_product(void *arg, bool fp8, int64_t m, int64_t n, int64_t k, double *seconds)
{
	timed *t = arg;
	t->calls++;
	*seconds = 5e-6 + 2.0 * (double)m * (double)n * (double)k / PRODUCTS / (fp8 ? 2 : 1);
	return t->status;
}

typedef struct bench {
	kvt_real_gpu *gpu;
	timed timed;
	kvt_gpu_products products;
	kvt_gpu_calibrate_settings given;
	kvt_calibrate_settings settings;
} bench;

/* Small: what is measured is the memory of this machine. */
static void bench_init(bench *b, const memory_gpu_settings *settings)
{
	*b = (bench){ .gpu = memory_gpu_new(settings) };
	b->products = (kvt_gpu_products){ time_product, &b->timed };
	b->given = (kvt_gpu_calibrate_settings){ .gpu = b->gpu,
		.products = &b->products,
		.datasheet = "h200",
		.bytes = 64 << 20,
		.flops = 100000000 };
	b->settings = (kvt_calibrate_settings){ .gpu = &b->given, .quick = true };
}

static void bench_clear(bench *b)
{
	b->gpu->ops->free(b->gpu);
}

static kvt_gpu_calibration *measured(bench *b)
{
	GError *error = NULL;
	kvt_gpu_calibration *gpu = kvt_gpu_calibration_new();
	gboolean good = kvt_gpu_calibration_measure(gpu, &b->settings, &error);
	g_assert_no_error(error);
	g_assert_true(good);
	return gpu;
}

static void assert_measured(const kvt_measured *m)
{
	g_assert_cmpfloat(m->value, >, 0);
	g_assert_cmpfloat(m->low, <=, m->value);
	g_assert_cmpfloat(m->high, >=, m->value);
}

static void test_everything(void)
{
	bench b;
	bench_init(&b, NULL);
	kvt_gpu_calibration *gpu = measured(&b);
	unsigned ways[3] = { 0 }, back = 0, decode = 0, behind = 0, fp8 = 0;
	for (unsigned i = 0; i < KVT_GPU_FIGURES; i++)
		assert_measured(&gpu->figures[i]);
	for (unsigned i = 0; i < gpu->copies->len; i++) {
		const kvt_gpu_copy_point *p = &g_array_index(gpu->copies, kvt_gpu_copy_point, i);
		assert_measured(&p->rate);
		if (p->to_gpu)
			ways[p->way]++;
		back += !p->to_gpu;
	}
	/* 4 KiB to 16 MiB by factors of 4 */
	for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++)
		g_assert_cmpuint(ways[i], ==, 7);
	g_assert_cmpuint(back, ==, 5);
	for (unsigned i = 0; i < gpu->attention->len; i++) {
		const kvt_gpu_attention_point *p =
			&g_array_index(gpu->attention, kvt_gpu_attention_point, i);
		assert_measured(&p->seconds);
		decode += !p->prefill;
		behind += p->prefix > 0;
		fp8 += p->element == KVT_ELEMENT_E4M3;
	}
	g_assert_cmpuint(decode, >=, 5 * 3);
	g_assert_cmpuint(behind, >=, 4);
	g_assert_cmpuint(fp8, >=, 10);
	g_assert_cmpuint(gpu->products->len, ==, b.timed.calls);
	g_assert_cmpuint(gpu->products->len, >=, 100);
	g_assert_null(gpu->why);
	g_assert_cmpstr(gpu->datasheet, ==, "h200");
	/* all that was taken is given back */
	uint64_t now, peak;
	b.gpu->ops->memory_used(b.gpu, &now, &peak);
	g_assert_cmpuint(now, ==, 0);
	g_assert_cmpuint(peak, >, 0);
	kvt_gpu_calibration_free(gpu);
	bench_clear(&b);
}

static void test_missing(void)
{
	bench b;
	bench_init(&b, NULL);
	b.given.products = NULL;
	b.given.why_no_products = "no such library";
	kvt_gpu_calibration *gpu = measured(&b);
	g_assert_cmpuint(gpu->products->len, ==, 0);
	g_assert_nonnull(strstr(gpu->why, "no such library"));
	kvt_gpu_calibration_free(gpu);
	bench_clear(&b);
}

static void assert_refused(bench *b, const char *part)
{
	GError *error = NULL;
	kvt_gpu_calibration *gpu = kvt_gpu_calibration_new();
	if (kvt_gpu_calibration_measure(gpu, &b->settings, &error))
		g_error("it was measured, expected %s", part);
	g_assert_nonnull(error);
	if (!strstr(error->message, part))
		g_error("%s: expected %s", error->message, part);
	g_clear_error(&error);
	kvt_gpu_calibration_free(gpu);
	uint64_t now, peak;
	b->gpu->ops->memory_used(b->gpu, &now, &peak);
	g_assert_cmpuint(now, ==, 0);
	bench_clear(b);
}

static void test_refusals(void)
{
	bench b;
	bench_init(&b, NULL);
	b.given.datasheet = NULL;
	assert_refused(&b, "memory of the host: no file in models/gpu is called so");
	bench_init(&b, NULL);
	b.given.datasheet = "no-such-gpu";
	assert_refused(&b, "no-such-gpu");
	bench_init(&b, &(memory_gpu_settings){ .cap = 1 << 20 });
	assert_refused(&b, "no memory left");
	bench_init(&b, NULL);
	b.timed.status = -EIO;
	assert_refused(&b, "matrix products: Input/output error");
	/* a card that fails at any time ends it, and nothing hangs */
	static const unsigned works[] = { 1, 40, 200 };
	for (unsigned i = 0; i < G_N_ELEMENTS(works); i++) {
		bench_init(&b, &(memory_gpu_settings){ .fail_after = works[i] });
		assert_refused(&b, "Input/output error");
	}
}

/* A card whose figures are known. */
static kvt_calibration *known(void)
{
	kvt_calibration *c = kvt_calibration_new("card");
	c->cpu = g_strdup("a processor");
	c->kernel = g_strdup("Linux 6");
	c->isa = g_strdup("avx512");
	c->cores = 16;
	c->threads = 8;
	c->memory = UINT64_C(128) << 30;
	c->cache = 32 << 20;
	for (unsigned i = 0; i < KVT_HOST_FIGURES; i++) {
		double value = kvt_host_figures[i].unit == KVT_UNIT_TIME ? 1e-7 : 2e11;
		if (i < KVT_HOST_CALL || i > KVT_HOST_MERGE)
			c->host[i] = (kvt_measured){ value, value, value };
	}
	kvt_gpu_calibration *gpu = c->gpu = kvt_gpu_calibration_new();
	gpu->device = g_strdup("NVIDIA H200");
	gpu->versions = g_strdup("driver 580, CUDA 13.0");
	gpu->date = g_strdup("2026-11-22");
	gpu->datasheet = g_strdup("h200");
	gpu->memory = 150754820096;
	gpu->processors = 132;
	gpu->pcie_generation = 5;
	gpu->pcie_lanes = 16;
	static const double figures[KVT_GPU_FIGURES] = { 9e-6, 8e-6, 3e-6, 1.5e-6, 4e-6, 2.5e-6,
		3e-6, 2e12, 60e9 };
	for (unsigned i = 0; i < KVT_GPU_FIGURES; i++)
		gpu->figures[i] =
			(kvt_measured){ figures[i], figures[i] * 0.99, figures[i] * 1.01 };
	for (uint64_t size = 4096; size <= 16 << 20; size *= 2)
		for (unsigned i = 0; i < 2; i++) {
			double rate = (double)size / (2e-7 + (double)size / 55e9);
			kvt_gpu_copy_point p = { i == 0, KVT_GPU_COPY_AUTOMATIC, size,
				{ rate, rate * 0.99, rate * 1.01 } };
			g_array_append_val(gpu->copies, p);
		}
	return c;
}

/* What the known card takes. */
static double decode_seconds(const kvt_gpu_attention_point *p)
{
	double bytes = 2.0 * p->kv_heads * p->head_dim * (double)kvt_element_bytes(p->element) *
		       (double)p->tokens;
	return 7e-6 + bytes / 4.4e12;
}

static double prefill_seconds(const kvt_gpu_attention_point *p)
{
	double tokens = (double)p->tokens;
	double pairs = tokens * ((double)p->prefix + tokens / 2);
	double bytes = 2.0 * p->kv_heads * p->head_dim * (double)kvt_element_bytes(p->element) *
		       (tokens + (double)p->prefix);
	return 9e-6 + fmax(4.0 * p->head_dim * p->heads * pairs / 5e14, bytes / 4.2e12);
}

static void add_attention(kvt_gpu_calibration *gpu)
{
	static const unsigned pairs[][2] = { { 7, 1 }, { 28, 4 }, { 10, 2 }, { 64, 8 } };
	for (unsigned at = 0; at < 2 * G_N_ELEMENTS(pairs); at++) {
		kvt_gpu_attention_point p = { pairs[at / 2][0], pairs[at / 2][1], 128,
			at % 2 ? KVT_ELEMENT_E4M3 : KVT_ELEMENT_BF16, .prefill = false };
		for (p.tokens = 64; p.tokens <= 1 << 20; p.tokens *= 2) {
			double s = decode_seconds(&p);
			p.seconds = (kvt_measured){ s, s, s };
			g_array_append_val(gpu->attention, p);
		}
		p.prefill = true;
		for (p.tokens = 4; p.tokens <= 4096; p.tokens *= 4)
			for (p.prefix = 0; p.prefix <= 1 << 20;
				p.prefix = p.prefix == 0 ? 1024 : 4 * p.prefix) {
				double s = prefill_seconds(&p);
				p.seconds = (kvt_measured){ s, s, s };
				g_array_append_val(gpu->attention, p);
			}
	}
}

static kvt_calibration *known_card(bool products)
{
	kvt_calibration *c = known();
	add_attention(c->gpu);
	static const int64_t shapes[][2] = { { 4608, 3584 }, { 3584, 3584 }, { 37888, 3584 },
		{ 3584, 18944 }, { 152064, 3584 } };
	for (unsigned i = 0; products && i < G_N_ELEMENTS(shapes); i++)
		for (int64_t m = 1; m <= 4096; m *= 4) {
			kvt_gpu_product_point p = { false, m, shapes[i][0], shapes[i][1], 0 };
			double weights = 2.0 * (double)p.n * (double)p.k / 4.2e12;
			double flops = 2.0 * (double)m * (double)p.n * (double)p.k / 7e14;
			p.seconds = 4e-6 + fmax(weights, flops);
			g_array_append_val(c->gpu->products, p);
		}
	return c;
}

static void test_record(void)
{
	g_autoptr(kvt_calibration) c = known_card(true);
	c->gpu->why = g_strdup("nothing of note");
	GError *error = NULL;
	json_t *record = kvt_calibration_to_json(c);
	g_autoptr(kvt_calibration) back = kvt_calibration_from_json("record", record, &error);
	g_assert_no_error(error);
	json_t *again = kvt_calibration_to_json(back);
	g_autofree char *one = kvt_json_dump(record), *other = kvt_json_dump(again);
	g_assert_cmpstr(one, ==, other);
	json_decref(record);
	json_decref(again);
}

typedef struct fault {
	const char *path[3], *message;
} fault;

/* Takes a member out of the record, which then is refused. */
static void test_bad_records(void)
{
	static const fault faults[] = {
		{ { "gpu", "device" }, "gpu.device: missing" },
		{ { "gpu", "processors" }, "gpu.processors: missing" },
		{ { "gpu", "figures", "gap" }, "gpu.figures.gap.value: missing" },
		{ { "gpu", "copies" }, "gpu.copies: missing" },
		{ { "gpu", "attention" }, "gpu.attention: missing" },
		{ { "host", "dram_latency" }, "host.dram_latency.value: missing" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(faults); i++) {
		g_autoptr(kvt_calibration) c = known_card(false);
		json_t *record = kvt_calibration_to_json(c), *in = record;
		unsigned last = 0;
		while (last < 2 && faults[i].path[last + 1])
			in = json_object_get(in, faults[i].path[last++]);
		g_assert_cmpint(json_object_del(in, faults[i].path[last]), ==, 0);
		GError *error = NULL;
		g_assert_null(kvt_calibration_from_json("record", record, &error));
		g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
		if (!strstr(error->message, faults[i].message))
			g_error("%s: expected %s", error->message, faults[i].message);
		g_clear_error(&error);
		json_decref(record);
	}
}

typedef struct profile {
	char *folder;
	GPtrArray *written;
} profile;

static void profile_init(profile *p, const kvt_calibration *c)
{
	GError *error = NULL;
	p->folder = g_dir_make_tmp("kvtier-XXXXXX", &error);
	g_assert_no_error(error);
	p->written = g_ptr_array_new_with_free_func(g_free);
	g_assert_true(kvt_calibration_write(c, p->folder, p->written, &error));
	g_assert_no_error(error);
}

static void profile_clear(profile *p)
{
	for (unsigned i = 0; i < p->written->len; i++)
		g_assert_cmpint(g_remove(p->written->pdata[i]), ==, 0);
	g_assert_cmpint(g_rmdir(p->folder), ==, 0);
	g_ptr_array_unref(p->written);
	g_free(p->folder);
}

static char *path_of(const profile *p, const char *name)
{
	return g_build_filename(p->folder, name, NULL);
}

static void assert_near(double value, double expected, double share)
{
	g_assert_cmpfloat_with_epsilon(value, expected, expected * share);
}

/* What was measured is what the models say, at the points and between them. */
static void test_profile(void)
{
	g_autoptr(kvt_calibration) c = known_card(true);
	GError *error = NULL;
	profile p;
	profile_init(&p, c);
	g_assert_cmpuint(p.written->len, ==, 8);
	g_autofree char *gpu_path = path_of(&p, "card-gpu.ini");
	g_autoptr(kvt_gpu) gpu = kvt_gpu_load(gpu_path, &error);
	g_assert_no_error(error);
	g_assert_cmpint(gpu->launch_latency, ==, 9 * KVT_MICROSECOND);
	g_assert_cmpint(gpu->submit_time, ==, 3 * KVT_MICROSECOND);
	g_assert_cmpint(gpu->call_gap, ==, 1500 * KVT_NANOSECOND);
	g_assert_cmpint(gpu->stream_latency, ==, 2500 * KVT_NANOSECOND);
	g_assert_cmpint(gpu->append_time, ==, 4 * KVT_MICROSECOND);
	g_assert_cmpint(gpu->call_latency, ==, 3 * KVT_MICROSECOND);
	assert_near(gpu->merge_bandwidth, 2e12, 1e-9);
	assert_near(gpu->memory_bandwidth * gpu->memory_efficiency, 4.38e12, 0.01);
	assert_near(gpu->flops_fp8, 1979e12, 1e-9);
	g_assert_cmpint(gpu->sms, ==, 132);
	g_assert_true(g_str_has_suffix(gpu->collective_table, "h200-collective.table"));

	g_autofree char *host_path = path_of(&p, "card-host.ini");
	g_autoptr(kvt_host) host = kvt_host_load(host_path, &error);
	g_assert_no_error(error);
	g_assert_cmpuint(host->n_copy_points, ==, 13);
	assert_near(
		host->copy_to_gpu, (double)(16 << 20) / (2e-7 + (double)(16 << 20) / 55e9), 1e-6);
	assert_near(
		kvt_host_copy_seconds(host, 65536, host->copy_to_gpu), 2e-7 + 65536 / 55e9, 1e-4);
	assert_near(host->checksum_rate, 60e9, 1e-9);
	g_assert_cmpint(host->call_overhead, ==, 0);

	g_autoptr(kvt_attention_model) model =
		kvt_attention_model_load(gpu->attention_table, &error);
	g_assert_no_error(error);
	for (unsigned i = 0; i < c->gpu->attention->len; i++) {
		const kvt_gpu_attention_point *at =
			&g_array_index(c->gpu->attention, kvt_gpu_attention_point, i);
		kvt_attention_query query = {
			.phase = at->prefill ? KVT_ATTENTION_PREFILL : KVT_ATTENTION_DECODE,
			.dtype = "bfloat16",
			.kv_dtype = at->element == KVT_ELEMENT_E4M3 ? "fp8" : "bfloat16",
			.batch = 1,
			.heads = at->heads,
			.kv_heads = at->kv_heads,
			.head_dim = at->head_dim,
			.tokens = (int64_t)at->tokens,
			.prefix = (int64_t)at->prefix,
			.cold = !at->prefill,
		};
		kvt_attention_time time;
		g_assert_cmpint(kvt_attention_predict(model, &query, &time), ==, 0);
		assert_near(time.seconds, at->seconds.value, 0.03);
	}
	/* between points, and beyond them */
	kvt_gpu_attention_point between = { 7, 1, 128, KVT_ELEMENT_BF16, .tokens = 700000 };
	kvt_attention_query query = { .phase = KVT_ATTENTION_DECODE,
		.kv_dtype = "bfloat16",
		.batch = 1,
		.heads = 7,
		.kv_heads = 1,
		.head_dim = 128,
		.tokens = 700000,
		.cold = true };
	kvt_attention_time time;
	g_assert_cmpint(kvt_attention_predict(model, &query, &time), ==, 0);
	assert_near(time.seconds, decode_seconds(&between), 0.02);
	between.tokens = 3000000;
	query.tokens = 3000000;
	g_assert_cmpint(kvt_attention_predict(model, &query, &time), ==, 0);
	assert_near(time.seconds, decode_seconds(&between), 0.03);

	g_autoptr(kvt_gemm_model) products = kvt_gemm_model_load(gpu->gemm_table, &error);
	g_assert_no_error(error);
	for (unsigned i = 0; i < c->gpu->products->len; i++) {
		const kvt_gpu_product_point *at =
			&g_array_index(c->gpu->products, kvt_gpu_product_point, i);
		kvt_gemm_query ask = { .dtype = "bfloat16", .m = at->m, .n = at->n, .k = at->k };
		kvt_gemm_time found;
		g_assert_cmpint(kvt_gemm_predict(products, &ask, &found), ==, 0);
		assert_near(found.seconds, at->seconds, 0.05);
	}
	profile_clear(&p);
}

/* Without products the datasheet's are kept, and said to be so. */
static void test_profile_without_products(void)
{
	g_autoptr(kvt_calibration) c = known_card(false);
	c->gpu->why = g_strdup("matrix products, which stay the datasheet's: no cuBLAS");
	GError *error = NULL;
	profile p;
	profile_init(&p, c);
	g_autofree char *gpu_path = path_of(&p, "card-gpu.ini"), *text = NULL;
	g_autoptr(kvt_gpu) gpu = kvt_gpu_load(gpu_path, &error);
	g_assert_no_error(error);
	g_assert_true(g_str_has_suffix(gpu->gemm_table, "h200-gemm.table"));
	g_assert_true(g_file_get_contents(gpu_path, &text, NULL, NULL));
	g_assert_nonnull(strstr(text, "# Not measured: matrix products"));
	profile_clear(&p);
}

static const char EXPERIMENT[] =
	"[experiment]\ntitle = t\nkind = resume\n[model]\nname = qwen2.5-7b-instruct-1m\n"
	"[context]\ntokens = 131072\nprompt_tokens = 16\noutput_tokens = 4\n[prefill]\n"
	"overlap = none\n[decode]\nsamples = 0\n";

/* An experiment that includes the profile loads as fast as pages were copied. */
static void test_run(void)
{
	g_autoptr(kvt_calibration) c = known_card(true);
	GError *error = NULL;
	profile p;
	profile_init(&p, c);
	g_autofree char *path = path_of(&p, "experiment.ini");
	g_autofree char *text = g_strdup_printf("include = %s/card.ini\n%s", p.folder, EXPERIMENT);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
	g_ptr_array_add(p.written, g_strdup(path));
	g_autoptr(kvt_experiment) e = kvt_experiment_load(path, NULL, &error);
	g_assert_no_error(error);
	kvt_turn turn;
	g_assert_true(kvt_turn_run(e, KVT_RUN_RESUME, NULL, &turn, &error));
	g_assert_no_error(error);
	double bytes = 131072.0 * 57344;
	assert_near(turn.loading, bytes / 55e9, 0.02);
	g_assert_cmpfloat(turn.tpot, >,
		28 * decode_seconds(&(kvt_gpu_attention_point){ 28, 4, 128, .tokens = 131072 }));
	profile_clear(&p);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/calibrate-gpu/everything", test_everything);
	g_test_add_func("/calibrate-gpu/missing", test_missing);
	g_test_add_func("/calibrate-gpu/refusals", test_refusals);
	g_test_add_func("/calibrate-gpu/record", test_record);
	g_test_add_func("/calibrate-gpu/bad-records", test_bad_records);
	g_test_add_func("/calibrate-gpu/profile", test_profile);
	g_test_add_func("/calibrate-gpu/profile-without-products", test_profile_without_products);
	g_test_add_func("/calibrate-gpu/run", test_run);
	return g_test_run();
}
