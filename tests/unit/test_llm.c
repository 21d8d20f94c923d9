/* test_llm.c: language models: their files, KV and weight bytes, and work, against known figures.
 */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "models/llm_cost.h"
#include "models/model_file.h"
#include "sim/base/error.h"

static kvt_llm *load(const char *name)
{
	GError *error = NULL;
	kvt_llm *llm = kvt_llm_load(name, &error);
	g_assert_no_error(error);
	return llm;
}

static void assert_near(double value, double expected, double share)
{
	g_assert_cmpfloat_with_epsilon(value, expected, fabs(expected) * share);
}

/* Published counts: those that model cards round (7.6B, 109B and 17B active, ...) and those that
 * checkpoints state to the last parameter. */
static void test_parameters(void)
{
	static const struct {
		const char *name;
		uint64_t exact;
		double total, active;
	} known[] = {
		{ "qwen2.5-7b-instruct-1m", 7615616512, 7.61e9, 7.61e9 },
		{ "llama-4-scout-17b-16e-fp8", 108641793536, 109e9, 17.2e9 },
		{ "deepseek-r1-distill-llama-70b-fp8", 70553706496, 70.6e9, 70.6e9 },
		{ "llama-3-70b", 70553706496, 70.6e9, 70.6e9 },
		{ "yi-34b-200k", 34388917248, 34.4e9, 34.4e9 },
		{ "mixtral-8x7b", 46702792704, 46.7e9, 12.9e9 },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
		g_autoptr(kvt_llm) llm = load(known[i].name);
		g_assert_cmpuint(kvt_llm_parameters(llm), ==, known[i].exact);
		assert_near((double)kvt_llm_parameters(llm), known[i].total, 0.01);
		assert_near((double)kvt_llm_active_parameters(llm), known[i].active, 0.01);
	}
}

static void test_kv_bytes(void)
{
	g_autoptr(kvt_llm) qwen = load("qwen2.5-7b-instruct-1m");
	g_assert_cmpuint(kvt_llm_kv_bytes(qwen, 1, 1), ==, 57344);
	g_assert_cmpuint(kvt_llm_kv_bytes(qwen, 1000000, 1), ==, 57344000000);
	g_autoptr(kvt_llm) r1 = load("deepseek-r1-distill-llama-70b-fp8");
	g_assert_cmpuint(kvt_llm_kv_bytes(r1, 1, 1), ==, 163840);
	g_autoptr(kvt_llm) llama = load("llama-3-70b");
	g_assert_cmpuint(kvt_llm_kv_bytes(llama, 1, 1), ==, 327680);
	g_autoptr(kvt_llm) yi = load("yi-34b-200k");
	g_assert_cmpuint(kvt_llm_kv_bytes(yi, 50000, 1), ==, 12288000000);

	g_autoptr(kvt_llm) scout = load("llama-4-scout-17b-16e-fp8");
	g_assert_cmpuint(kvt_llm_count_attention(scout, KVT_ATTENTION_GLOBAL), ==, 12);
	g_assert_cmpuint(kvt_llm_count_attention(scout, KVT_ATTENTION_CHUNKED), ==, 36);
	for (unsigned layer = 0; layer < 48; layer++)
		g_assert_cmpint(scout->layers[layer].attention, ==,
			layer % 4 == 3 ? KVT_ATTENTION_GLOBAL : KVT_ATTENTION_CHUNKED);
	const uint64_t lengths[] = { 1, 8191, 8192, 8193, 400000, 819000, 10000000 };
	for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
		uint64_t t = lengths[i];
		g_assert_cmpuint(
			kvt_llm_kv_bytes(scout, t, 1), ==, 4096 * (12 * t + 36 * MIN(t, 8192)));
	}
}

/* Whatever the group's size, its ranks hold all KV together; above kv_heads they hold copies. */
static void test_kv_ranks(void)
{
	g_autoptr(kvt_llm) qwen = load("qwen2.5-7b-instruct-1m");
	for (unsigned ranks = 1; ranks <= 4; ranks *= 2)
		g_assert_cmpuint(kvt_llm_kv_bytes(qwen, 1000, ranks) * ranks, ==, 57344000);
	g_assert_cmpuint(kvt_llm_kv_bytes(qwen, 1000, 7), ==, 14336000);
	g_assert_cmpuint(kvt_llm_kv_bytes(qwen, 1000, 28), ==, 14336000);

	GError *error = NULL;
	g_assert_true(kvt_llm_check_ranks(qwen, 4, &error));
	g_assert_true(kvt_llm_check_ranks(qwen, 28, &error));
	g_assert_false(kvt_llm_check_ranks(qwen, 8, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_clear_error(&error);
	g_assert_false(kvt_llm_check_ranks(qwen, 0, NULL));
	g_assert_false(kvt_llm_check_ranks(qwen, 14, NULL));
}

static void test_weights(void)
{
	g_autoptr(kvt_llm) qwen = load("qwen2.5-7b-instruct-1m");
	g_assert_cmpuint(kvt_llm_weight_bytes(qwen, 1), ==, 2 * kvt_llm_parameters(qwen));
	/* Norms are on every rank; all else is cut in equal parts. */
	double copies = 3.0 * 2 * (28 * 2 + 1) * 3584;
	assert_near(4.0 * (double)kvt_llm_weight_bytes(qwen, 4),
		(double)kvt_llm_weight_bytes(qwen, 1) + copies, 1e-9);
	/* A dense model reads every weight but the embedding, of which one row. */
	assert_near(kvt_llm_read_bytes(qwen, 1, 1),
		(double)kvt_llm_weight_bytes(qwen, 1) - 2.0 * 152063 * 3584 - 2 * 3584, 1e-9);

	g_autoptr(kvt_llm) scout = load("llama-4-scout-17b-16e-fp8");
	double experts = 48.0 * 17 * 3 * 5120 * 8192; /* a byte each */
	double rest = 2 * ((double)kvt_llm_parameters(scout) - experts);
	double scales = 48.0 * 17 * (2 * 8192 + 5120) * 2;
	assert_near((double)kvt_llm_weight_bytes(scout, 1), experts + rest + scales, 1e-9);
}

/* Reads grow with the batch up to all experts, and start at per_token of them. */
static void test_experts(void)
{
	g_autoptr(kvt_llm) mixtral = load("mixtral-8x7b");
	assert_near(kvt_llm_distinct_experts(mixtral, 1), 2, 1e-12);
	assert_near(kvt_llm_distinct_experts(mixtral, 2), 2 + 2 * 0.75, 1e-12);
	assert_near(kvt_llm_distinct_experts(mixtral, 100000), 8, 1e-12);
	g_assert_cmpfloat(kvt_llm_distinct_experts(mixtral, 0), ==, 0);
	double last = 0;
	for (uint64_t batch = 1; batch <= 64; batch *= 2) {
		double bytes = kvt_llm_layer_read_bytes(mixtral, 5, batch, 1);
		g_assert_cmpfloat(bytes, >, last);
		g_assert_cmpfloat(bytes, <=, (double)kvt_llm_layer_weight_bytes(mixtral, 5, 1));
		last = bytes;
	}
	assert_near(last, (double)kvt_llm_layer_weight_bytes(mixtral, 5, 1), 1e-6);
	double one = kvt_llm_read_bytes(mixtral, 1, 1);
	assert_near(one, 2.0 * (12879925248.0 - 32000.0 * 4096), 1e-4);
}

static const kvt_llm_gemm *find(const kvt_llm_gemm *gemms, unsigned n, const char *label)
{
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(gemms[i].label, label) == 0)
			return &gemms[i];
	}
	g_error("no product %s", label);
}

static void test_gemms(void)
{
	kvt_llm_gemm gemms[KVT_LLM_GEMMS_MAX];
	g_autoptr(kvt_llm) qwen = load("qwen2.5-7b-instruct-1m");
	unsigned n = kvt_llm_layer_gemms(qwen, 0, 8192, 4, false, gemms);
	g_assert_cmpuint(n, ==, 4);
	const kvt_llm_gemm *qkv = find(gemms, n, "qkv"), *down = find(gemms, n, "down");
	g_assert_cmpuint(qkv->m, ==, 8192);
	g_assert_cmpuint(qkv->n, ==, 7 * 128 + 2 * 128);
	g_assert_cmpuint(qkv->k, ==, 3584);
	g_assert_cmpuint(down->n, ==, 3584);
	g_assert_cmpuint(down->k, ==, 4736);

	/* All products of a dense model are 2 FLOPs a token and matrix weight. */
	double flops = 0;
	for (unsigned layer = 0; layer < qwen->n_layers; layer++) {
		n = kvt_llm_layer_gemms(qwen, layer, 100, 1, false, gemms);
		for (unsigned i = 0; i < n; i++)
			flops += kvt_llm_gemm_flops(&gemms[i]);
	}
	kvt_llm_gemm head = kvt_llm_head_gemm(qwen, 100, 1);
	flops += kvt_llm_gemm_flops(&head);
	double outside = 152064.0 * 3584 + 28 * (2 * 3584 + 4608) + 3584;
	assert_near(flops, 200 * ((double)kvt_llm_parameters(qwen) - outside), 1e-12);

	g_autoptr(kvt_llm) scout = load("llama-4-scout-17b-16e-fp8");
	n = kvt_llm_layer_gemms(scout, 0, 8192, 4, false, gemms);
	const kvt_llm_gemm *up = find(gemms, n, "expert_gate_up");
	g_assert_cmpuint(up->groups, ==, 16);
	g_assert_cmpuint(up->m, ==, 512);
	g_assert_cmpuint(up->n, ==, 2 * 8192 / 4);
	g_assert_cmpint(up->dtype, ==, KVT_DTYPE_FP8);
	g_assert_cmpint(up->scale, ==, KVT_SCALE_CHANNEL);
	g_assert_cmpint(find(gemms, n, "qkv")->dtype, ==, KVT_DTYPE_BF16);
	n = kvt_llm_layer_gemms(scout, 0, 1, 4, false, gemms);
	g_assert_cmpuint(find(gemms, n, "expert_down")->groups, ==, 1);
	g_assert_cmpuint(find(gemms, n, "expert_down")->m, ==, 1);
}

/* Pairs against counting them. */
static void test_attention_pairs(void)
{
	static const char *const patterns[] = { "global", "chunked", "sliding" };
	kvt_llm *llm = load("qwen2.5-7b-instruct-1m");
	llm->window = 7;
	for (int kind = 0; kind < 3; kind++) {
		g_assert_true(kvt_llm_set_layers(llm, 1, patterns[kind], "dense", NULL));
		for (unsigned start = 0; start < 30; start++) {
			for (unsigned count = 0; count < 30; count++) {
				double pairs = 0;
				for (unsigned t = start; t < start + count; t++)
					pairs += kind == 0   ? t + 1
						 : kind == 1 ? t % 7 + 1
							     : MIN(t + 1, 7);
				g_assert_cmpfloat(
					kvt_llm_attention_pairs(llm, 0, start, count), ==, pairs);
			}
		}
	}
	kvt_llm_free(llm);

	/* 2 L T^2 H D over a whole causal prefill. */
	g_autoptr(kvt_llm) qwen = load("qwen2.5-7b-instruct-1m");
	double t = 1e6;
	assert_near(28 * kvt_llm_attention_flops(qwen, 0, 0, 1000000, 1, false),
		2 * 28 * t * t * 28 * 128, 1e-5);
	assert_near(kvt_llm_attention_flops(qwen, 0, 0, 1000, 4, false) * 4,
		kvt_llm_attention_flops(qwen, 0, 0, 1000, 1, false), 1e-12);
}

static void test_allreduce(void)
{
	g_autoptr(kvt_llm) llama = load("llama-3-70b");
	g_assert_cmpuint(kvt_llm_allreduces(llama, 1), ==, 0);
	g_assert_cmpuint(kvt_llm_allreduces(llama, 4), ==, 161);
	g_assert_cmpuint(kvt_llm_allreduce_bytes(llama, 1000), ==, 1000 * 8192 * 2);
}

static char *read_model(const char *name)
{
	g_autofree char *path = kvt_model_path(KVT_MODEL_LLM, name, NULL);
	char *text = NULL;
	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	return text;
}

/* text with its first `from` replaced. */
static char *replace(const char *text, const char *from, const char *to)
{
	GString *changed = g_string_new(text);
	g_assert_cmpuint(g_string_replace(changed, from, to, 1), ==, 1);
	return g_string_free(changed, FALSE);
}

static void test_patterns(void)
{
	g_autoptr(kvt_llm) llm = load("qwen2.5-7b-instruct-1m");
	static const struct {
		unsigned layers;
		const char *given, *shortest;
	} cases[] = {
		{ 48, "chunked*3 global", "chunked*3 global" },
		{ 48, "chunked chunked chunked global", "chunked*3 global" },
		{ 62, "sliding*5 global", "sliding*5 global" },
		{ 6, "global*2 sliding global*3", "global*2 sliding global" },
		{ 4, "sliding global sliding global", "sliding global" },
		{ 3, "global*3", "global" },
		{ 5, "sliding global", "sliding global" },
		{ 61, "global*3 sliding*58", "global*3 sliding*58" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		GError *error = NULL;
		kvt_llm_set_layers(llm, cases[i].layers, cases[i].given, "dense", &error);
		g_assert_no_error(error);
		g_autofree char *pattern = kvt_llm_attention_pattern(llm);
		g_assert_cmpstr(pattern, ==, cases[i].shortest);
	}
	static const char *const bad[] = { "", "  ", "global*", "global*0", "globl", "global*-1",
		"global*99999999999", "global*5", "*3", "global*3x" };
	for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(kvt_llm_set_layers(llm, 4, bad[i], "dense", NULL));
	g_assert_false(kvt_llm_set_layers(llm, 0, "global", "dense", NULL));
}

/* What kvt_llm_to_ini writes reads back the same. */
static void test_round_trip(void)
{
	g_auto(GStrv) names = kvt_model_names(KVT_MODEL_LLM, NULL);
	for (char **name = names; *name != NULL; name++) {
		g_autoptr(kvt_llm) llm = load(*name);
		g_autofree char *text = kvt_llm_to_ini(llm, "derived: a test");
		GError *error = NULL;
		g_autoptr(kvt_llm) again = kvt_llm_parse("again.ini", text, &error);
		g_assert_no_error(error);
		g_autofree char *second = kvt_llm_to_ini(again, "derived: a test");
		g_assert_cmpstr(second, ==, text);
		g_assert_cmpuint(kvt_llm_weight_bytes(again, 4), ==, kvt_llm_weight_bytes(llm, 4));
		g_assert_cmpuint(
			kvt_llm_kv_bytes(again, 123456, 2), ==, kvt_llm_kv_bytes(llm, 123456, 2));
		g_assert_cmpstr(again->name, ==, "again");
	}
}

static void test_refused(void)
{
	static const struct {
		const char *model, *from, *to, *message; /* NULL: it is allowed */
	} cases[] = {
		{ "llama-3-70b", "hidden = 8192", "hidden = 0", "hidden" },
		{ "llama-3-70b", "hidden = 8192", "hiden = 8192", "did you mean \"hidden\"" },
		{ "llama-3-70b", "hidden = 8192", "hidden = 8192GB", "hidden" },
		{ "llama-3-70b", "count = 80", "count = 1000000000000", "count" },
		{ "llama-3-70b", "width = 28672", "width = 4194304", NULL },
		{ "llama-3-70b", "head_dim = 128", "head_dim = 65536", "GiB" },
		{ "mixtral-8x7b", "count = 8", "count = 65536", NULL },
		{ "mixtral-8x7b", "count = 8\nper_token = 2\nwidth = 14336",
			"count = 65536\nper_token = 2\nwidth = 4194304", "parameters" },
		{ "llama-3-70b", "kv_heads = 8", "kv_heads = 7", "no multiple of 7" },
		{ "llama-3-70b", "kv_heads = 8", "kv_heads = 0", "kv_heads" },
		{ "llama-3-70b", "kv_heads = 8", "kv_heads.source = derived: it", "kv_heads" },
		{ "llama-3-70b", "attention = global", "attention = chunked", "window" },
		{ "llama-3-70b", "attention = global", "attention = globl", "globl" },
		{ "llama-3-70b", "mlp = dense", "mlp = moe", "experts" },
		{ "llama-3-70b", "[mlp]", "[mpl]", "mpl" },
		{ "llama-3-70b", "format = bf16", "format = bf17", "bf17" },
		{ "llama-3-70b", "source = published:", "source = rumour:", "rumour" },
		{ "llama-3-70b", "source = published: config.json", "note = published: config.json",
			"source" },
		{ "mixtral-8x7b", "per_token = 2", "per_token = 9", "9 experts a token" },
		{ "mixtral-8x7b", "width = 14336", "", "width" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *text = read_model(cases[i].model);
		g_autofree char *broken = replace(text, cases[i].from, cases[i].to);
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_llm) llm = kvt_llm_parse("x.ini", broken, &error);
		if (cases[i].message == NULL) {
			g_assert_no_error(error);
			continue;
		}
		g_assert_null(llm);
		g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
		if (strstr(error->message, cases[i].message) == NULL)
			g_error("case %u: '%s' does not name '%s'", i, error->message,
				cases[i].message);
		g_assert_true(g_str_has_prefix(error->message, "x.ini:"));
		g_assert_null(strchr(error->message, '\n'));
	}
	GError *error = NULL;
	g_assert_null(kvt_llm_load("llama3-70b", &error));
	g_assert_nonnull(strstr(error->message, "llama-3-70b"));
	g_clear_error(&error);
	g_assert_null(kvt_llm_load("no/such.ini", &error));
	g_clear_error(&error);
	g_assert_null(kvt_llm_load("", &error));
	g_clear_error(&error);
}

/* DeepSeek-V3's shape: a latent of 512 + 64 in BF16, 61 layers, is 70,272 bytes a token. */
static void test_latent(void)
{
	g_autoptr(kvt_llm) llm = load("mixtral-8x7b");
	g_assert_true(kvt_llm_set_layers(llm, 61, "global", "dense*3 moe*58", NULL));
	llm->hidden = 7168;
	llm->vocabulary = 129280;
	llm->attention.form = KVT_ATTENTION_LATENT;
	llm->attention.query_heads = 128;
	llm->attention.q_rank = 1536;
	llm->attention.kv_rank = 512;
	llm->attention.rope_dim = 64;
	llm->attention.nope_dim = llm->attention.value_dim = 128;
	llm->mlp_width = 18432;
	llm->experts.count = 256;
	llm->experts.per_token = 8;
	llm->experts.width = 2048;
	llm->experts.shared = 1;
	llm->experts.shared_width = 2048;
	g_assert_true(kvt_llm_check(llm, NULL));
	g_assert_cmpuint(kvt_llm_kv_bytes(llm, 1, 1), ==, 70272);
	g_assert_cmpuint(kvt_llm_kv_bytes(llm, 1, 8), ==, 70272);
	assert_near((double)kvt_llm_parameters(llm), 671e9, 0.001);
	assert_near((double)kvt_llm_active_parameters(llm), 37.5e9, 0.01);

	/* Absorbed or not, a decode step maps as many elements: the same FLOPs but for the context.
	 */
	kvt_llm_gemm plain[KVT_LLM_GEMMS_MAX], absorbed[KVT_LLM_GEMMS_MAX];
	double flops[2] = { 0, 0 };
	unsigned n = kvt_llm_layer_gemms(llm, 0, 16, 8, false, plain);
	for (unsigned i = 0; i < n; i++)
		flops[0] += kvt_llm_gemm_flops(&plain[i]);
	n = kvt_llm_layer_gemms(llm, 0, 16, 8, true, absorbed);
	for (unsigned i = 0; i < n; i++)
		flops[1] += kvt_llm_gemm_flops(&absorbed[i]);
	assert_near(flops[0], flops[1], 1e-12);
	kvt_llm_attention shape = kvt_llm_attention_shape(llm, 8, true);
	g_assert_cmpuint(shape.query_heads, ==, 16);
	g_assert_cmpuint(shape.kv_heads, ==, 1);
	g_assert_cmpuint(shape.head_dim, ==, 576);
	g_assert_cmpuint(shape.value_dim, ==, 512);
}

static void test_kv_scales(void)
{
	g_autoptr(kvt_llm) llm = load("llama-3-70b");
	llm->kv.format = KVT_DTYPE_FP8;
	llm->kv.scale_format = KVT_DTYPE_FP32;
	g_assert_cmpuint(kvt_llm_kv_token_bytes(llm, 1), ==, 2048);
	llm->kv.scale = KVT_KV_SCALE_TOKEN;
	g_assert_cmpuint(kvt_llm_kv_token_bytes(llm, 1), ==, 2048 + 8);
	llm->kv.scale = KVT_KV_SCALE_HEAD;
	g_assert_cmpuint(kvt_llm_kv_token_bytes(llm, 1), ==, 2048 + 64);
	g_assert_cmpuint(kvt_llm_kv_token_bytes(llm, 4), ==, 512 + 16);
	llm->kv.format = KVT_DTYPE_INT4;
	g_assert_cmpuint(kvt_llm_kv_token_bytes(llm, 1), ==, 1024 + 64);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/llm/parameters", test_parameters);
	g_test_add_func("/llm/kv-bytes", test_kv_bytes);
	g_test_add_func("/llm/kv-ranks", test_kv_ranks);
	g_test_add_func("/llm/kv-scales", test_kv_scales);
	g_test_add_func("/llm/weights", test_weights);
	g_test_add_func("/llm/experts", test_experts);
	g_test_add_func("/llm/gemms", test_gemms);
	g_test_add_func("/llm/attention-pairs", test_attention_pairs);
	g_test_add_func("/llm/allreduce", test_allreduce);
	g_test_add_func("/llm/latent", test_latent);
	g_test_add_func("/llm/patterns", test_patterns);
	g_test_add_func("/llm/round-trip", test_round_trip);
	g_test_add_func("/llm/refused", test_refused);
	return g_test_run();
}
