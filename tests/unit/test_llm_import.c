/* test_llm_import.c: config.json files of public models against their known sizes, and bad ones. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "models/llm_cost.h"
#include "models/llm_import.h"
#include "sim/base/error.h"

static char *data_path(const char *name)
{
	g_autofree char *file = g_strconcat(name, ".json", NULL);
	return g_build_filename("tests/unit/data/hf", file, NULL);
}

static kvt_llm *import(const char *name, char **source)
{
	GError *error = NULL;
	g_autofree char *path = data_path(name);
	kvt_llm *llm = kvt_llm_import(path, NULL, source, &error);
	g_assert_no_error(error);
	return llm;
}

/* Parameters as the published checkpoints have them (DeepSeek-V3 without its 14,848 routing biases
 * and its extra prediction layer); KV bytes of the first token and of 100,000. */
static const struct {
	const char *name, *attention, *mlp;
	uint64_t parameters;
	double active;
	uint64_t first, kv;
} models[] = {
	{ "qwen2.5-7b-instruct-1m", "global", "dense", 7615616512, 7.62e9, 57344, 5734400000 },
	{ "llama-3-70b", "global", "dense", 70553706496, 70.6e9, 327680, 32768000000 },
	{ "deepseek-r1-distill-llama-70b-fp8", "global", "dense", 70553706496, 70.6e9, 327680,
		32768000000 },
	{ "llama-4-scout-17b-16e-fp8", "chunked*3 global", "moe", 108641793536, 17.17e9, 196608,
		4096ull * (12 * 100000 + 36 * 8192) },
	{ "mixtral-8x7b", "global", "moe", 46702792704, 12.9e9, 131072, 13107200000 },
	{ "yi-34b-200k", "global", "dense", 34388917248, 34.4e9, 245760, 24576000000 },
	{ "deepseek-v3", "global", "dense*3 moe*58", 671026404352, 37.5e9, 70272, 7027200000 },
	{ "deepseek-v2-lite", "global", "dense moe*26", 15706484224, 2.66e9, 31104, 3110400000 },
	{ "gemma-2-9b-it", "sliding global", "dense", 9241705984, 9.24e9, 344064,
		8192ull * 21 * (4096 + 100000) },
	{ "gemma-3-27b-it", "sliding*5 global", "dense", 27432406640, 27.0e9, 507904,
		8192ull * (52 * 1024 + 10 * 100000) },
	{ "qwen3-30b-a3b", "global", "moe", 30532122624, 3.35e9, 98304, 9830400000 },
	{ "qwen1.5-moe-a2.7b", "global", "moe", 14315784192, 2.69e9, 196608, 19660800000 },
	{ "mistral-7b", "sliding", "dense", 7241732096, 7.24e9, 131072, 131072ull * 4096 },
};

static void test_known(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(models); i++) {
		g_autoptr(kvt_llm) llm = import(models[i].name, NULL);
		g_autofree char *attention = kvt_llm_attention_pattern(llm);
		g_autofree char *mlp = kvt_llm_mlp_pattern(llm);
		g_assert_cmpstr(attention, ==, models[i].attention);
		g_assert_cmpstr(mlp, ==, models[i].mlp);
		g_assert_cmpuint(kvt_llm_parameters(llm), ==, models[i].parameters);
		g_assert_cmpfloat_with_epsilon((double)kvt_llm_active_parameters(llm),
			models[i].active, 0.005 * models[i].active);
		g_assert_cmpuint(kvt_llm_kv_bytes(llm, 1, 1), ==, models[i].first);
		g_assert_cmpuint(kvt_llm_kv_bytes(llm, 100000, 1), ==, models[i].kv);
		g_assert_cmpstr(llm->title, ==, models[i].name);
	}
}

/* What is imported is what was shipped. */
static void test_shipped(void)
{
	for (unsigned i = 0; i < 6; i++) {
		g_autoptr(kvt_llm) imported = import(models[i].name, NULL);
		g_autoptr(kvt_llm) shipped = kvt_llm_load(models[i].name, NULL);
		g_assert_nonnull(shipped);
		/* The distilled R1 is run with FP8 KV, which its file does not say. */
		if (strstr(models[i].name, "r1") != NULL) {
			g_assert_cmpint(shipped->kv.format, ==, KVT_DTYPE_FP8);
			imported->kv.format = KVT_DTYPE_FP8;
		}
		for (unsigned ranks = 1; ranks <= 4; ranks *= 2) {
			g_assert_cmpuint(kvt_llm_kv_bytes(imported, 123456, ranks), ==,
				kvt_llm_kv_bytes(shipped, 123456, ranks));
			g_assert_cmpuint(kvt_llm_weight_bytes(imported, ranks), ==,
				kvt_llm_weight_bytes(shipped, ranks));
		}
		g_assert_cmpint(imported->context_limit, ==, shipped->context_limit);
		g_assert_cmpint(imported->extra_parameters, ==, shipped->extra_parameters);
	}
}

static void test_round_trip(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(models); i++) {
		g_autofree char *source = NULL;
		g_autoptr(kvt_llm) llm = import(models[i].name, &source);
		g_assert_true(g_str_has_prefix(source, "imported: "));
		g_autofree char *text = kvt_llm_to_ini(llm, source);
		GError *error = NULL;
		g_autoptr(kvt_llm) again = kvt_llm_parse("again.ini", text, &error);
		g_assert_no_error(error);
		g_autofree char *second = kvt_llm_to_ini(again, source);
		g_assert_cmpstr(second, ==, text);
		for (unsigned ranks = 1; ranks <= 8; ranks *= 2)
			g_assert_cmpuint(kvt_llm_weight_bytes(again, ranks), ==,
				kvt_llm_weight_bytes(llm, ranks));
	}
}

/* The model's file with `from` replaced. */
static char *changed(const char *name, const char *from, const char *to)
{
	g_autofree char *path = data_path(name);
	g_autofree char *text = NULL;
	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	GString *string = g_string_new(text);
	if (g_string_replace(string, from, to, 1) != 1)
		g_error("%s has no %s", name, from);
	return g_string_free(string, FALSE);
}

static void test_weight_formats(void)
{
	g_autoptr(kvt_llm) v3 = import("deepseek-v3", NULL);
	g_assert_cmpint(v3->precision.scale, ==, KVT_SCALE_BLOCK);
	g_assert_cmpint(v3->precision.group, ==, 128);
	g_assert_cmpint(v3->precision.format[KVT_PART_EXPERTS], ==, KVT_DTYPE_FP8);
	g_assert_cmpint(v3->precision.format[KVT_PART_HEAD], ==, KVT_DTYPE_BF16);
	g_assert_cmpint(v3->kv.format, ==, KVT_DTYPE_BF16);

	static const struct {
		const char *quantization;
		kvt_dtype attention, mlp, head, kv;
		kvt_weight_scale scale;
	} cases[] = {
		{ "\"gptq\", \"bits\": 4, \"group_size\": 128, \"desc_act\": false", KVT_DTYPE_INT4,
			KVT_DTYPE_INT4, KVT_DTYPE_BF16, KVT_DTYPE_BF16, KVT_SCALE_GROUP },
		{ "\"gptq\", \"bits\": 8, \"group_size\": -1", KVT_DTYPE_INT8, KVT_DTYPE_INT8,
			KVT_DTYPE_BF16, KVT_DTYPE_BF16, KVT_SCALE_CHANNEL },
		{ "\"awq\", \"bits\": 4, \"group_size\": 64, \"modules_to_not_convert\": "
		  "[\"self_attn\"]",
			KVT_DTYPE_BF16, KVT_DTYPE_INT4, KVT_DTYPE_BF16, KVT_DTYPE_BF16,
			KVT_SCALE_GROUP },
		{ "\"fp8\", \"activation_scheme\": \"static\"", KVT_DTYPE_FP8, KVT_DTYPE_FP8,
			KVT_DTYPE_BF16, KVT_DTYPE_BF16, KVT_SCALE_TENSOR },
		{ "\"compressed-tensors\", \"config_groups\": {\"group_0\": {\"targets\": "
		  "[\"Linear\"], \"weights\": {\"num_bits\": 8, \"type\": \"float\", \"strategy\": "
		  "\"tensor\"}}}, \"kv_cache_scheme\": {\"num_bits\": 8, \"type\": \"float\", "
		  "\"strategy\": \"tensor\"}, \"ignore\": []",
			KVT_DTYPE_FP8, KVT_DTYPE_FP8, KVT_DTYPE_FP8, KVT_DTYPE_FP8,
			KVT_SCALE_TENSOR },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *added = g_strdup_printf(
			"\"quantization_config\": {\"quant_method\": %s}, \"hidden_act\"",
			cases[i].quantization);
		g_autofree char *text = changed("llama-3-70b", "\"hidden_act\"", added);
		GError *error = NULL;
		g_autoptr(kvt_llm) llm =
			kvt_llm_import_text("c.json", text, strlen(text), NULL, NULL, &error);
		g_assert_no_error(error);
		const int *format = llm->precision.format;
		g_assert_cmpint(format[KVT_PART_ATTENTION], ==, cases[i].attention);
		g_assert_cmpint(format[KVT_PART_MLP], ==, cases[i].mlp);
		g_assert_cmpint(format[KVT_PART_HEAD], ==, cases[i].head);
		g_assert_cmpint(format[KVT_PART_EMBEDDING], ==, KVT_DTYPE_BF16);
		g_assert_cmpint(llm->kv.format, ==, cases[i].kv);
		g_assert_cmpint(llm->precision.scale, ==, cases[i].scale);
	}
}

/* Ways the same thing can be said. */
static void test_variants(void)
{
	static const struct {
		const char *model, *from, *to, *attention, *mlp;
	} cases[] = {
		{ "llama-3-70b", "\"torch_dtype\"", "\"dtype\"", "global", "dense" },
		{ "llama-3-70b", "\"architectures\": [\"LlamaForCausalLM\"],", "", "global",
			"dense" },
		{ "llama-3-70b", "\"model_type\": \"llama\",", "", "global", "dense" },
		{ "mistral-7b", "\"sliding_window\": 4096", "\"sliding_window\": null", "global",
			"dense" },
		{ "mistral-7b", "\"hidden_act\"", "\"head_dim\": 128, \"hidden_act\"", "sliding",
			"dense" },
		{ "qwen2.5-7b-instruct-1m", "\"use_sliding_window\": false",
			"\"use_sliding_window\": true", "global", "dense" },
		{ "qwen3-30b-a3b", "\"mlp_only_layers\": []", "\"mlp_only_layers\": [0, 47]",
			"global", "dense moe*46" },
		{ "qwen3-30b-a3b", "\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 2",
			"global", "dense moe" },
		{ "llama-4-scout-17b-16e-fp8", "\"interleave_moe_layer_step\": 1",
			"\"interleave_moe_layer_step\": 2", "chunked*3 global", "dense moe" },
		{ "llama-4-scout-17b-16e-fp8", "\"attention_chunk_size\": 8192",
			"\"attention_chunk_size\": null", "global", "moe" },
		{ "gemma-3-27b-it", "\"head_dim\"", "\"sliding_window_pattern\": 2, \"head_dim\"",
			"sliding global", "dense" },
		{ "deepseek-v3", "\"moe_layer_freq\": 1", "\"moe_layer_freq\": 2", "global",
			"dense*4 moe" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *text = changed(cases[i].model, cases[i].from, cases[i].to);
		GError *error = NULL;
		g_autoptr(kvt_llm) llm =
			kvt_llm_import_text("c.json", text, strlen(text), "a title", NULL, &error);
		g_assert_no_error(error);
		g_autofree char *attention = kvt_llm_attention_pattern(llm);
		g_autofree char *mlp = kvt_llm_mlp_pattern(llm);
		g_assert_cmpstr(attention, ==, cases[i].attention);
		if (strcmp(cases[i].mlp, "dense*4 moe") == 0)
			g_assert_cmpuint(kvt_llm_count_mlp(llm, KVT_MLP_MOE), ==, 29);
		else
			g_assert_cmpstr(mlp, ==, cases[i].mlp);
		g_assert_cmpstr(llm->title, ==, "a title");
	}
}

static const struct {
	const char *model, *from, *to, *message;
} refusals[] = {
	{ "llama-3-70b", "\"llama\"", "\"gpt2\"", "model_type: \"gpt2\" is not known" },
	{ "llama-3-70b", "LlamaForCausalLM", "LlamaForSequenceClassification",
		"expected LlamaForCausalLM" },
	{ "llama-3-70b", "[\"LlamaForCausalLM\"]", "[\"LlamaForCausalLM\", \"X\"]",
		"architectures" },
	{ "llama-3-70b", "[\"LlamaForCausalLM\"]", "7", "architectures: is a number" },
	{ "llama-3-70b", "\"num_hidden_layers\": 80", "\"num_hidden_layers\": 0",
		"num_hidden_layers: is 0" },
	{ "llama-3-70b", "\"num_hidden_layers\": 80", "\"num_hidden_layers\": 1000000000000",
		"num_hidden_layers: is 1000000000000" },
	{ "llama-3-70b", "\"num_hidden_layers\": 80", "\"num_hidden_layers\": -80", "is -80" },
	{ "llama-3-70b", "\"num_hidden_layers\": 80", "\"num_hidden_layers\": \"80\"",
		"is a string" },
	{ "llama-3-70b", "\"num_hidden_layers\": 80", "\"num_hidden_layers\": 80.5",
		"a number with a fraction" },
	{ "llama-3-70b", "\"num_hidden_layers\": 80", "\"num_hidden_layers\": 1e999", "not JSON" },
	{ "llama-3-70b", "\"num_hidden_layers\": 80", "\"num_layers\": 80",
		"num_hidden_layers: is missing" },
	{ "llama-3-70b", "\"num_attention_heads\": 64", "\"num_attention_heads\": 0",
		"num_attention_heads: is 0" },
	{ "llama-3-70b", "\"num_attention_heads\": 64", "\"num_attention_heads\": 72",
		"hidden_size" },
	{ "llama-3-70b", "\"num_key_value_heads\": 8", "\"num_key_value_heads\": 7",
		"expected a divisor" },
	{ "llama-3-70b", "\"num_key_value_heads\": 8", "\"num_key_value_heads\": [8]",
		"is an array" },
	{ "llama-3-70b", "\"vocab_size\": 128256", "\"vocab_size\": null",
		"vocab_size: is missing" },
	{ "llama-3-70b", "\"torch_dtype\": \"bfloat16\"", "\"torch_dtype\": \"int3\"", "int3" },
	{ "llama-3-70b", "\"torch_dtype\": \"bfloat16\",", "", "torch_dtype: is missing" },
	{ "llama-3-70b", "\"use_cache\": true", "\"sliding_window\": 4096",
		"sliding_window: is not understood" },
	{ "llama-3-70b", "\"use_cache\": true", "\"num_kv_shared_layers\": 4",
		"num_kv_shared_layers: is not understood" },
	{ "llama-3-70b", "\"use_cache\": true", "\"n\\nkv\": 4", "\"n\\x0akv\"" },
	{ "llama-3-70b", "\"use_cache\": true", "\"layer_types\": [\"full_attention\"]",
		"layer_types: has 1 entries" },
	{ "llama-3-70b", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": 0",
		"tie_word_embeddings: is a number" },
	{ "llama-3-70b", "\"rope_scaling\": null,", "\"hidden_size\": 8192,", "llama-3-70b" },
	{ "deepseek-v3", "\"q_lora_rank\": 1536", "\"q_lora_rank\": 0", "q_lora_rank: is 0" },
	{ "deepseek-v3", "\"kv_lora_rank\": 512,", "", "kv_lora_rank: is missing" },
	{ "deepseek-v3", "\"v_head_dim\": 128", "\"v_head_dim\": 128, \"index_topk\": 2048",
		"index_topk: is not understood" },
	{ "deepseek-v3", "[128, 128]", "[128]", "weight_block_size" },
	{ "deepseek-v3", "\"fp8\"", "\"mxfp4\"", "quant_method: \"mxfp4\" is not known" },
	{ "deepseek-v3", "\"n_shared_experts\": 1", "\"n_shared_experts\": 5000",
		"n_shared_experts" },
	{ "mixtral-8x7b", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9",
		"9 experts a token" },
	{ "qwen3-30b-a3b", "\"mlp_only_layers\": []", "\"mlp_only_layers\": [48]",
		"mlp_only_layers: entry 0" },
	{ "qwen2.5-7b-instruct-1m", "\"use_sliding_window\": false",
		"\"use_sliding_window\": \"no\"", "use_sliding_window: is a string" },
	{ "gemma-3-27b-it", "\"text_config\"", "\"txt_config\"", "text_config: is missing" },
	{ "gemma-3-27b-it", "siglip_vision_model", "clip", "vision_config.model_type" },
	{ "gemma-3-27b-it", "\"patch_size\": 14", "\"patch_size\": 0", "vision_config.patch_size" },
	{ "gemma-3-27b-it", "\"num_hidden_layers\": 62", "\"num_hidden_layers\": {}",
		"text_config.num_hidden_layers: is an object" },
	{ "llama-4-scout-17b-16e-fp8", "1, 1, 1, 0, 1, 1,", "1, 1, 1, 2, 1, 1,",
		"no_rope_layers: entry 3" },
	{ "llama-4-scout-17b-16e-fp8", "1, 1, 1, 0, 1, 1,", "1, 1,", "has 44 entries" },
	{ "llama-4-scout-17b-16e-fp8", "\"re:.*router\"",
		"\"model.layers.3.feed_forward.experts.down_proj\"", "expected all or none" },
	{ "llama-4-scout-17b-16e-fp8", "\"re:.*router\"", "\"re:.*o_proj_or_so\"",
		"names no part" },
	{ "llama-4-scout-17b-16e-fp8", "[\"Linear\"]", "[\"Conv2d\"]", "targets" },
	{ "llama-4-scout-17b-16e-fp8", "\"strategy\": \"channel\"", "\"strategy\": \"tile\"",
		"tile" },
};

static void check_message(const GError *error, const char *file)
{
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_true(g_str_has_prefix(error->message, file));
	g_assert_null(strchr(error->message, '\n'));
	g_assert_true(g_utf8_validate(error->message, -1, NULL));
}

static void test_refused(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(refusals); i++) {
		g_autofree char *text =
			changed(refusals[i].model, refusals[i].from, refusals[i].to);
		g_autoptr(GError) error = NULL;
		g_autofree char *path = data_path(refusals[i].model);
		g_assert_null(kvt_llm_import_text(path, text, strlen(text), NULL, NULL, &error));
		check_message(error, path);
		if (strstr(error->message, refusals[i].message) == NULL)
			g_error("case %u: '%s' does not say '%s'", i, error->message,
				refusals[i].message);
	}
}

static void test_not_json(void)
{
	g_autoptr(GString) deep = g_string_new(NULL);
	for (unsigned i = 0; i < 100000; i++)
		g_string_append(deep, "{\"a\":");
	static const char *const texts[] = { "", "{", "[]", "7", "null", "\"llama\"", "{}",
		"{\"model_type\": \"llama\"", "{\"a\": 1, \"a\": 2}", "\xff\xfe", "{\"a\": NaN}" };
	GError *error = NULL;
	for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_assert_null(kvt_llm_import_text(
			"c.json", texts[i], strlen(texts[i]), NULL, NULL, &error));
		check_message(error, "c.json:");
		g_clear_error(&error);
	}
	g_assert_null(kvt_llm_import_text("c.json", deep->str, deep->len, NULL, NULL, &error));
	check_message(error, "c.json:");
	g_clear_error(&error);

	g_assert_null(
		kvt_llm_import_text("c.json", "{\n\"a\": 1,\n\"b\" 2}", 16, NULL, NULL, &error));
	check_message(error, "c.json:3: not JSON");
	g_clear_error(&error);
	g_assert_null(kvt_llm_import_text("c.json", "{\"a\0\": 1}", 9, NULL, NULL, &error));
	check_message(error, "c.json:");
	g_clear_error(&error);

	g_assert_null(kvt_llm_import("tests/unit/data", NULL, NULL, &error));
	check_message(error, "tests/unit/data: cannot read");
	g_clear_error(&error);
	g_assert_null(kvt_llm_import("no-such.json", NULL, NULL, &error));
	check_message(error, "no-such.json: cannot read");
	g_clear_error(&error);
	g_autofree char *path = data_path("llama-3-70b");
	g_assert_null(kvt_llm_import(path, "two\nlines", NULL, &error));
	g_assert_null(strchr(error->message, '\n'));
	g_clear_error(&error);
}

/* Every file cut at every byte, and with every byte changed once, is read or refused in one line.
 */
static void test_damaged(void)
{
	static const char bytes[] = { '\0', '"', '9', '-', '}', ',', '\xff', 'e' };
	unsigned read = 0, refused = 0;
	for (unsigned i = 0; i < G_N_ELEMENTS(models); i++) {
		g_autofree char *path = data_path(models[i].name);
		g_autofree char *text = NULL;
		gsize length;
		g_assert_true(g_file_get_contents(path, &text, &length, NULL));
		for (gsize at = 0; at < length; at++) {
			char kept = text[at];
			text[at] = bytes[at % G_N_ELEMENTS(bytes)];
			for (unsigned cut = 0; cut < 2; cut++) {
				g_autoptr(GError) error = NULL;
				g_autoptr(kvt_llm) llm = kvt_llm_import_text(
					"c.json", text, cut ? at : length, NULL, NULL, &error);
				if (llm == NULL)
					check_message(error, "c.json");
				else
					g_assert_cmpuint(kvt_llm_weight_bytes(llm, 3), >, 0);
				read += llm != NULL;
				refused += llm == NULL;
			}
			text[at] = kept;
		}
	}
	g_assert_cmpuint(read, >, 1000);
	g_assert_cmpuint(refused, >, 10000);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/llm-import/known", test_known);
	g_test_add_func("/llm-import/shipped", test_shipped);
	g_test_add_func("/llm-import/round-trip", test_round_trip);
	g_test_add_func("/llm-import/weight-formats", test_weight_formats);
	g_test_add_func("/llm-import/variants", test_variants);
	g_test_add_func("/llm-import/refused", test_refused);
	g_test_add_func("/llm-import/not-json", test_not_json);
	g_test_add_func("/llm-import/damaged", test_damaged);
	return g_test_run();
}
