/* test_attention_model.c: the attention cost model: what it predicts, what it fits, what it
 * refuses. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "models/attention_model.h"
#include "models/kernel_check.h"
#include "sim/base/error.h"
#include "sim/base/rng.h"

static const char *const GPUS[] = { "l40s", "a100", "h100", "h200", "b200" };

/* Query and KV heads of a rank that the simulator asks for: Qwen2.5-7B, Scout and Llama-3-70B over
 * 4 GPUs, the whole Llama-3-8B, Yi-34B over 4, and some that lie off every measured one. */
static const int64_t HEADS[][2] = { { 7, 1 }, { 10, 2 }, { 16, 2 }, { 32, 8 }, { 14, 2 }, { 5, 5 },
	{ 9, 3 }, { 28, 4 }, { 128, 1 }, { 48, 24 } };

static kvt_attention_model *load(const char *gpu)
{
	g_autofree char *path = g_strdup_printf("models/gpu/kernels/%s-attention.table", gpu);
	g_autoptr(GError) error = NULL;
	kvt_attention_model *model = kvt_attention_model_load(path, &error);
	g_assert_no_error(error);
	return model;
}

static kvt_attention_query decode(int64_t batch, int64_t heads, int64_t kv_heads, int64_t tokens)
{
	return (kvt_attention_query){ .phase = KVT_ATTENTION_DECODE,
		.dtype = "bfloat16",
		.kv_dtype = "bfloat16",
		.batch = batch,
		.heads = heads,
		.kv_heads = kv_heads,
		.head_dim = 128,
		.tokens = tokens };
}

static kvt_attention_query prefill(int64_t heads, int64_t kv_heads, int64_t tokens, int64_t prefix)
{
	kvt_attention_query query = decode(1, heads, kv_heads, tokens);
	query.phase = KVT_ATTENTION_PREFILL;
	query.prefix = prefix;
	return query;
}

static kvt_attention_time ask(const kvt_attention_model *model, kvt_attention_query query)
{
	kvt_attention_time time;
	g_assert_cmpint(kvt_attention_predict(model, &query, &time), ==, 0);
	g_assert_true(isfinite(time.seconds) && time.seconds > 0);
	return time;
}

static double seconds(const kvt_attention_model *model, kvt_attention_query query)
{
	return ask(model, query).seconds;
}

/* Never faster with more tokens or sequences, on and off the grid and far beyond it. */
static void test_rising(void)
{
	for (unsigned g = 0; g < G_N_ELEMENTS(GPUS); g++) {
		g_autoptr(kvt_attention_model) model = load(GPUS[g]);
		for (unsigned h = 0; h < G_N_ELEMENTS(HEADS); h++)
			for (int phase = 0; phase < 2; phase++)
				for (int64_t batch = 1; batch <= 96; batch += 1 + batch / 3) {
					double last = 0;
					for (double t = 1; t < 2e7; t *= 1.19) {
						kvt_attention_query q = decode(batch, HEADS[h][0],
							HEADS[h][1], (int64_t)t);
						q.phase = (kvt_attention_phase)phase;
						kvt_attention_time at = ask(model, q);
						double now = at.seconds;
						/* what was not measured may waver a little */
						double slack = at.extrapolated ? 5e-3 : 1e-9;
						g_assert_cmpfloat(now, >=, last * (1 - slack));
						last = now;
						q.batch++;
						g_assert_cmpfloat(
							seconds(model, q), >=, now * (1 - slack));
					}
				}
	}
}

/* Rates that the L40S measurements show: KV that fits the 96 MB L2 beats memory by far, KV that
 * does not runs near its 864 GB/s; whole prompts of 16K run at 160 to 210 TFLOP/s. */
static void test_l40s_anchors(void)
{
	g_autoptr(kvt_attention_model) model = load("l40s");
	kvt_attention_time fits = ask(model, decode(16, 8, 1, 8192));    /* 67 MB */
	kvt_attention_time spills = ask(model, decode(16, 8, 1, 32768)); /* 268 MB */
	g_assert_cmpfloat(kvt_attention_rate(KVT_ATTENTION_DECODE, &fits), >, 1.5e12);
	g_assert_cmpfloat(kvt_attention_rate(KVT_ATTENTION_DECODE, &spills), <, 864e9);
	g_assert_cmpfloat(kvt_attention_rate(KVT_ATTENTION_DECODE, &spills), >, 600e9);
	g_assert_cmpfloat(fits.bytes, ==, 16.0 * 8192 * 2 * 128 * 2);
	/* 33.5 MB and 67 MB are in, 134 MB and 268 MB out: four times the time or more a step */
	g_assert_cmpfloat(seconds(model, decode(16, 8, 1, 16384)), >, 4 * fits.seconds);
	/* what other layers have pushed out of L2 runs at the speed of memory */
	kvt_attention_query cold = decode(16, 8, 1, 8192);
	cold.cold = true;
	kvt_attention_time at = ask(model, cold);
	g_assert_cmpfloat(kvt_attention_rate(KVT_ATTENTION_DECODE, &at), <, 864e9);
	g_assert_cmpfloat(kvt_attention_rate(KVT_ATTENTION_DECODE, &at), >, 500e9);
	kvt_attention_time whole = ask(model, prefill(64, 8, 16384, 0));
	g_assert_cmpfloat(kvt_attention_rate(KVT_ATTENTION_PREFILL, &whole), >, 160e12);
	g_assert_cmpfloat(kvt_attention_rate(KVT_ATTENTION_PREFILL, &whole), <, 210e12);
	g_assert_cmpstr(whole.source, ==, "vllm_flash_attn_fa2");
	g_assert_false(whole.extrapolated);
}

/* Beyond the grid: linear in the KV length at the measured bandwidth, quadratic in a prompt's, and
 * said to be extrapolated. */
static void test_beyond(void)
{
	static const double bandwidth[] = { 864e9, 2039e9, 3350e9, 4800e9, 8000e9 };
	for (unsigned g = 0; g < G_N_ELEMENTS(GPUS); g++) {
		g_autoptr(kvt_attention_model) model = load(GPUS[g]);
		for (unsigned h = 0; h < 5; h++) {
			int64_t q = HEADS[h][0], kv = HEADS[h][1];
			kvt_attention_time one = ask(model, decode(1, q, kv, 4000000));
			kvt_attention_time two = ask(model, decode(1, q, kv, 8000000));
			g_assert_true(one.extrapolated && two.extrapolated);
			double rate = (two.bytes - one.bytes) / (two.seconds - one.seconds);
			g_assert_cmpfloat(rate, <, bandwidth[g]);
			/* FA3 splits one KV head's tokens over 32 blocks at most: 0.4 of an H200 */
			g_assert_cmpfloat(rate, >, 0.35 * bandwidth[g]);
			double a = seconds(model, prefill(q, kv, 1 << 20, 0));
			double b = seconds(model, prefill(q, kv, 1 << 21, 0));
			g_assert_cmpfloat(b / a, >, 3.8);
			g_assert_cmpfloat(b / a, <, 4.1);
			g_assert_false(ask(model, decode(1, q, kv, 20000)).extrapolated);
			g_assert_false(ask(model, prefill(q, kv, 9000, 0)).extrapolated);
		}
	}
}

/* The chunks of a prompt together take what the whole takes, and the launches. */
static void test_chunks(void)
{
	for (unsigned g = 0; g < G_N_ELEMENTS(GPUS); g++) {
		g_autoptr(kvt_attention_model) model = load(GPUS[g]);
		for (unsigned h = 0; h < 5; h++)
			for (int64_t chunk = 2048; chunk <= 8192; chunk *= 2) {
				int64_t q = HEADS[h][0], kv = HEADS[h][1];
				double whole = seconds(model, prefill(q, kv, 16384, 0));
				double launch = seconds(model, prefill(q, kv, 1, 0));
				double sum = launch - launch * 16384 / (double)chunk;
				for (int64_t at = 0; at < 16384; at += chunk)
					sum += seconds(model, prefill(q, kv, chunk, at));
				g_test_message("%s %d:%d chunk %d: %.3f", GPUS[g], (int)q, (int)kv,
					(int)chunk, sum / whole);
				g_assert_cmpfloat(sum / whole, >, 0.95);
				g_assert_cmpfloat(sum / whole, <, 1.1);
			}
		/* however long the call, no faster than a prompt of as much work */
		kvt_attention_time call = ask(model, prefill(16, 2, 4096, 500000));
		kvt_attention_time prompt = ask(model, prefill(16, 2, 65536, 0));
		g_assert_cmpfloat(kvt_attention_rate(KVT_ATTENTION_PREFILL, &call), <,
			1.06 * kvt_attention_rate(KVT_ATTENTION_PREFILL, &prompt));
		/* ten times the earlier tokens, about ten times the rectangle */
		double near = seconds(model, prefill(16, 2, 2048, 100000));
		double far = seconds(model, prefill(16, 2, 2048, 1000000));
		g_assert_cmpfloat(far / near, >, 9);
		g_assert_cmpfloat(far / near, <, 10.1);
	}
}

static void test_other_shapes(void)
{
	g_autoptr(kvt_attention_model) model = load("a100");
	kvt_attention_query q = decode(8, 16, 2, 65536);
	double same = seconds(model, q);
	q.head_dim = 64; /* half the bytes, which were not measured */
	kvt_attention_time half = ask(model, q);
	g_assert_true(half.extrapolated);
	g_assert_cmpfloat(half.seconds / same, >, 0.45);
	g_assert_cmpfloat(half.seconds / same, <, 0.65);
	q = decode(8, 16, 2, 65536);
	q.kv_dtype = "fp8";
	kvt_attention_time fp8 = ask(model, q);
	g_assert_true(fp8.extrapolated);
	g_assert_cmpfloat(fp8.seconds / same, >, 0.45);
	g_assert_cmpfloat(fp8.seconds / same, <, 0.65);
	q.kv_dtype = "bf16";
	g_assert_cmpfloat(seconds(model, q), ==, same);
	kvt_attention_time time;
	q.source = "no_such_kernel";
	g_assert_cmpint(kvt_attention_predict(model, &q, &time), ==, -ENOENT);
	q = decode(8, 2, 16, 65536);
	g_assert_cmpint(kvt_attention_predict(model, &q, &time), ==, -EINVAL);
	q = decode(8, 16, 2, 0);
	g_assert_cmpint(kvt_attention_predict(model, &q, &time), ==, -EINVAL);
}

static const kvt_attention_gpu CARD = { 100, 50e6, 2e12, 300e12 };

/* What a card of known constants would have measured. */
static GArray *measure(const kvt_attention_base *base, double noise)
{
	GArray *rows = g_array_new(FALSE, FALSE, sizeof(kvt_kernel_row));
	kvt_rng rng = kvt_rng_init(7, base->decode);
	for (int64_t batch = 1; batch <= 64; batch *= 2)
		for (int64_t kv = 1; kv <= 8; kv *= 2)
			for (int64_t group = 1; group <= 8; group *= 4)
				for (int64_t t = 64; t <= (base->decode ? 131072 : 16384); t *= 2) {
					kvt_attention_work work = { .batch = (double)batch,
						.heads = (double)(kv * group),
						.kv_heads = (double)kv,
						.head_dim = 128,
						.tokens = (double)t,
						.kv_bytes = 2 };
					kvt_kernel_row row = { .kind = base->decode
									       ? KVT_KERNEL_DECODE
									       : KVT_KERNEL_PREFILL,
						.source = "made",
						.op = "made",
						.dtype = "bfloat16",
						.kv_dtype = "bfloat16",
						.attention = { batch, kv * group, kv, 128,
							base->decode ? 1 : t,
							base->decode ? t - 1 : 0 } };
					row.seconds =
						kvt_attention_base_seconds(base, &CARD, &work) *
						exp(noise * kvt_rng_normal(&rng));
					g_array_append_val(rows, row);
				}
	return rows;
}

static kvt_attention_base made_base(bool of_decode)
{
	kvt_attention_base base = { .decode = of_decode, .tile = of_decode ? 0 : 128 };
	kvt_attention_base_guess(&base, &CARD);
	base.constants[KVT_BASE_FLOOR] = 6e-6;
	base.constants[KVT_BASE_MEMORY] = 1.5e12;
	base.constants[KVT_BASE_CACHE] = 4e12;
	if (!of_decode)
		base.constants[KVT_BASE_RATE] = 220e12;
	return base;
}

/* A fit finds the constants that made the rows, and predicts rows it has not seen. */
static void test_fit_recovers(void)
{
	for (int of_decode = 0; of_decode < 2; of_decode++) {
		kvt_attention_base base = made_base(of_decode);
		g_autoptr(GArray) rows = measure(&base, 0.01);
		const kvt_kernel_row *data = (const kvt_kernel_row *)(const void *)rows->data;
		g_autoptr(GError) error = NULL;
		kvt_kernel_check check;
		g_assert_true(kvt_kernel_check_leave_out(&kvt_attention_fitter, &CARD, data,
			rows->len, 0.3, 1, 1e-4, &check, &error));
		g_test_message("%u rows, mape %.4f", (unsigned)check.rows, check.mape);
		g_assert_cmpuint(check.rows, >, 40);
		g_assert_cmpuint(check.rows + check.small + check.fitted, ==, rows->len);
		g_assert_cmpfloat(check.mape, <, 0.03);
		g_assert_true(kvt_kernel_check_train_below(
			&kvt_attention_fitter, &CARD, data, rows->len, 0.25, 1e-4, &check, &error));
		g_assert_cmpuint(check.rows, >, 0);
		g_assert_cmpfloat(check.mape, <, 0.05);
		g_autoptr(kvt_attention_model) model =
			kvt_attention_model_fit("made", &CARD, data, rows->len, &error);
		g_assert_no_error(error);
		if (of_decode) {
			kvt_attention_time a = ask(model, decode(8, 8, 8, 1 << 20));
			kvt_attention_time b = ask(model, decode(8, 8, 8, 1 << 21));
			double rate = (b.bytes - a.bytes) / (b.seconds - a.seconds);
			g_assert_cmpfloat_with_epsilon(rate / 1.5e12, 1, 0.05);
		} else {
			kvt_attention_time a = ask(model, prefill(64, 8, 1 << 18, 0));
			double rate = kvt_attention_rate(KVT_ATTENTION_PREFILL, &a);
			g_assert_cmpfloat_with_epsilon(rate / 220e12, 1, 0.05);
		}
	}
}

/* What was measured behind a prefix is what is said there, and near there about as much more. */
static void test_behind(void)
{
	kvt_attention_base base = made_base(false);
	g_autoptr(GArray) rows = measure(&base, 0);
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_model) plain = kvt_attention_model_fit(
		"made", &CARD, (const kvt_kernel_row *)(const void *)rows->data, rows->len, &error);
	g_assert_no_error(error);
	kvt_kernel_row behind = g_array_index(rows, kvt_kernel_row, 0);
	behind.attention.batch = 1;
	behind.attention.heads = 64;
	behind.attention.kv_heads = 8;
	behind.attention.isl = 256;
	behind.attention.step = 16384;
	behind.seconds = 1.25 * seconds(plain, prefill(64, 8, 256, 16384));
	g_array_append_val(rows, behind);
	behind.attention.isl = 4096;
	behind.seconds = 0.8 * seconds(plain, prefill(64, 8, 4096, 16384));
	g_array_append_val(rows, behind);
	g_autoptr(kvt_attention_model) model = kvt_attention_model_fit(
		"made", &CARD, (const kvt_kernel_row *)(const void *)rows->data, rows->len, &error);
	g_assert_no_error(error);
	for (unsigned i = 0; i < 2; i++) {
		g_autofree char *text = kvt_attention_model_text(model);
		g_autoptr(kvt_attention_model) read =
			kvt_attention_model_parse("t", text, strlen(text), &error);
		g_assert_no_error(error);
		const kvt_attention_model *m = i ? read : model;
		static const struct {
			int64_t tokens, prefix;
			double low, high;
		} cases[] = {
			{ 256, 16384, 1.249, 1.251 },
			{ 256, 20000, 1.23, 1.25 },
			{ 300, 16384, 1.2, 1.25 },
			{ 1024, 16384, 0.97, 1.03 }, /* in the middle: the mean of logarithms */
			{ 4096, 16384, 0.799, 0.801 },
			{ 256, 0, 1, 1 },
		};
		for (unsigned c = 0; c < G_N_ELEMENTS(cases); c++) {
			kvt_attention_query query =
				prefill(64, 8, cases[c].tokens, cases[c].prefix);
			double factor = seconds(m, query) / seconds(plain, query);
			g_assert_cmpfloat(factor, >=, cases[c].low);
			g_assert_cmpfloat(factor, <=, cases[c].high);
		}
	}
}

/* The same rows make the same bytes, and the text of a model is the model. */
static void test_text(void)
{
	kvt_attention_base base = made_base(true);
	g_autoptr(GArray) rows = measure(&base, 0.05);
	const kvt_kernel_row *data = (const kvt_kernel_row *)(const void *)rows->data;
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_model) one =
		kvt_attention_model_fit("made", &CARD, data, rows->len, &error);
	g_autoptr(kvt_attention_model) two =
		kvt_attention_model_fit("made", &CARD, data, rows->len, &error);
	g_autofree char *text = kvt_attention_model_text(one);
	g_autofree char *again = kvt_attention_model_text(two);
	g_assert_cmpstr(text, ==, again);
	g_autoptr(kvt_attention_model) read =
		kvt_attention_model_parse("t", text, strlen(text), &error);
	g_assert_no_error(error);
	g_assert_cmpstr(kvt_attention_model_name(read), ==, "made");
	for (int64_t t = 1; t < 1000000; t = t * 3 + 1)
		for (int64_t batch = 1; batch < 100; batch += 7)
			g_assert_cmpfloat(seconds(one, decode(batch, 7, 1, t)), ==,
				seconds(read, decode(batch, 7, 1, t)));
	kvt_kernel_check check;
	kvt_kernel_check_rows(
		&kvt_attention_fitter, read, data, rows->len, KVT_KERNEL_CHECK_SECONDS, &check);
	g_assert_cmpuint(check.rows + check.small, ==, rows->len);
	g_assert_cmpfloat(check.mape, <, 0.05);
	g_assert_cmpfloat(check.p50, <=, check.p90);
	g_assert_cmpfloat(check.p90, <=, check.worst);
}

#define HEAD "kvtier-table attention 1\ngpu x 10 1e6 1e12 1e14\n"
#define KERNEL HEAD "kernel prefill k bfloat16 fp8 128\n"
#define AXES KERNEL "tile 64 head\nbatches 1 2\ntokens 1 16 32\n"

static void test_refused(void)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{ "", "t:" },
		{ "kvtier-table gemm 1\n", "t:1: not a attention table" },
		{ "kvtier-table attention 9\n", "t:1: version 9" },
		{ HEAD, "t:2: cut short" },
		{ "kvtier-table attention 1\ngpu x 0 1 1 1\n", "t:2: gpu: SMs: '0'" },
		{ "kvtier-table attention 1\ngpu x 1 1 nan 1\n", "t:2: gpu: memory: 'nan'" },
		{ "kvtier-table attention 1\nbatches 1\n", "t:2: batches: expected gpu or kernel" },
		{ HEAD "kernel train k bfloat16 fp8 128\n", "t:3: kernel: 'train'" },
		{ HEAD "kernel prefill k bfloat16 fp9 128\n", "t:3: kernel: 'fp9'" },
		{ HEAD "kernel prefill k bfloat16 fp8 0\n", "t:3: kernel: head_dim: '0'" },
		{ HEAD "kernel prefill k bfloat16 fp8\n", "t:3: kernel: 4 fields, expected 5" },
		{ KERNEL, "t:3: kernel k: cut short" },
		{ KERNEL "tile 0 head\n", "t:4: tile: '0'" },
		{ KERNEL "tile 64 tail\n", "t:4: tile: 'tail'" },
		{ KERNEL "constant speed 1\n", "t:4: constant: unknown name 'speed'" },
		{ KERNEL "constant rate -1\n", "t:4: rate: '-1'" },
		{ KERNEL "constant serial 1\n", "t:4: constant: unknown name 'serial'" },
		{ KERNEL "batches 2 1\n", "t:4: batches: '1'" },
		{ KERNEL "batches\n", "t:4: batches: 0 values" },
		{ KERNEL "batches 1\nbatches 1\n", "t:5: batches: given twice" },
		{ KERNEL "heads 1 1\n", "t:4: heads: expected batches and tokens" },
		{ KERNEL "color red\n", "t:4: unknown keyword 'color'" },
		{ KERNEL "behind 8 1 16 4096\n", "t:4: behind: 4 fields, expected 5" },
		{ KERNEL "behind 8 9 16 4096 1\n", "t:4: behind: KV heads: '9'" },
		{ KERNEL "behind 8 1 16 0 1\n", "t:4: behind: prefix: '0'" },
		{ KERNEL "behind 8 1 16 1 -2\n", "t:4: behind: factor: '-2'" },
		{ AXES "t 3 888888\n", "t:7: t: one line too many" },
		{ AXES "heads 1 2\n", "t:7: heads: KV heads: '2'" },
		{ AXES "heads 1 1\nt 3 8888\n", "t:8: t: 4 characters, expected 6" },
		{ AXES "heads 1 1\nt 4 888888\n", "t:8: t: reach: '4'" },
		{ AXES "heads 1 1\nt 3 88!888\n", "t:8: t: '!8' is no time" },
		{ AXES "heads 1 1\nt 3 889977\n", "t:8: t: '77' falls" },
		{ AXES "heads 1 1\nt 3 888888\nt 3 788888\n", "t:9: t: '78' falls" },
		{ AXES "heads 1 1\nt 3 888888\nheads 2 1\n", "t:9: kernel k: cut short" },
		{ AXES "heads 2 1\nt 3 888888\nt 3 888888\nheads 1 1\n",
			"t:10: heads: expected them by KV heads" },
		{ AXES "heads 1 1\nt 3 888888\nt 3 888888\n", "t:9: kernel k: no constant floor" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		g_assert_null(
			kvt_attention_model_parse("t", bad[i].text, strlen(bad[i].text), &error));
		g_assert_nonnull(error);
		if (!g_str_has_prefix(error->message, bad[i].message))
			g_error("'%s' does not begin with '%s'", error->message, bad[i].message);
	}
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_attention_model_load("/nonexistent", &error));
	g_assert_nonnull(error);
	g_clear_error(&error);
	kvt_kernel_row row = { .kind = KVT_KERNEL_GEMM };
	g_assert_null(kvt_attention_model_fit("x", &CARD, &row, 1, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
}

/* Every prefix of a good table is refused or is whole, and never crashes. */
static void test_cut_short(void)
{
	g_autofree char *text = NULL;
	gsize length = 0;
	g_assert_true(g_file_get_contents(
		"models/gpu/kernels/a100-attention.table", &text, &length, NULL));
	for (gsize cut = 0; cut < length; cut += cut < 3000 ? 37 : 1543) {
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_attention_model) model =
			kvt_attention_model_parse("t", text, cut, &error);
		g_assert_true((model == NULL) == (error != NULL));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/attention-model/rising", test_rising);
	g_test_add_func("/attention-model/l40s-anchors", test_l40s_anchors);
	g_test_add_func("/attention-model/beyond", test_beyond);
	g_test_add_func("/attention-model/chunks", test_chunks);
	g_test_add_func("/attention-model/other-shapes", test_other_shapes);
	g_test_add_func("/attention-model/fit-recovers", test_fit_recovers);
	g_test_add_func("/attention-model/behind", test_behind);
	g_test_add_func("/attention-model/text", test_text);
	g_test_add_func("/attention-model/refused", test_refused);
	g_test_add_func("/attention-model/cut-short", test_cut_short);
	return g_test_run();
}
