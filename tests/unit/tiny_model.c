/* tiny_model.c: a model's file in a folder of its own. */
#include "tests/unit/tiny_model.h"

#include <glib/gstdio.h>

#include "models/llm_cost.h"

static char *folder, *path;

void tiny_model_make(void)
{
	static const char text[] =
		"[llm]\ntitle = tiny\nsource = assumed: a test\nhidden = 256\nvocabulary = 512\n"
		"context_limit = 100000\ntied_embeddings = no\n"
		"[layers]\nsource = assumed: a test\ncount = 3\nattention = global\nmlp = dense\n"
		"[attention]\nsource = assumed: a test\nform = grouped\nquery_heads = 8\n"
		"kv_heads = 2\nhead_dim = 64\nqkv_bias = no\noutput_bias = no\n"
		"[mlp]\nsource = assumed: a test\nwidth = 512\n"
		"[precision]\nsource = assumed: a test\nembedding = bf16\nhead = bf16\n"
		"attention = bf16\nmlp = bf16\nnorm = bf16\n"
		"[kv]\nsource = assumed: a test\nformat = bf16\n";
	folder = g_dir_make_tmp("kvtier-tiny-XXXXXX", NULL);
	path = g_build_filename(folder, "tiny.ini", NULL);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

void tiny_model_remove(void)
{
	g_unlink(path);
	g_rmdir(folder);
	g_clear_pointer(&path, g_free);
	g_clear_pointer(&folder, g_free);
}

kvt_experiment *tiny_experiment(const char *format, const char *more)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf(
		"[experiment]\nkind = resume\n[model]\nname = %s\nkv_format = %s\n"
		"[gpu]\nname = l40s\n[context]\ntokens = 600\nprompt_tokens = 20\noutput_tokens = "
		"3\n"
		"[storage]\ntier = null\n[prefill]\noverlap = none\n[decode]\nsamples = 0\n%s",
		path, format, more);
	kvt_config *config = kvt_config_parse("test.ini", text, &error);
	g_assert_no_error(error);
	/* what a spinning thread takes, others on the same processor have not */
	g_assert_true(kvt_config_set(config, "emulation.spin=0s", &error));
	kvt_experiment *experiment = kvt_experiment_new(config, &error);
	g_assert_no_error(error);
	return experiment;
}

void tiny_limit_memory(kvt_experiment *e, uint64_t bytes)
{
	uint64_t usable = (uint64_t)((double)e->gpu->memory * e->memory_share);
	e->activation_bytes = usable - kvt_llm_weight_bytes(e->llm, 1) - bytes;
}
