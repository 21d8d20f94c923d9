/*
 * test_emulated_random.c: emulations of random traces whose queries are of sampled positions: turns
 * leave out the tokens between them, decode steps find these in storage; both attend exactly, and
 * steps decide as in virtual time.
 */
#include <glib.h>
#include <glib/gstdio.h>

#include "emu/turn/emulation.h"
#include "sim/base/rng.h"
#include "sim/engine/replay_trace.h"
#include "tests/unit/attention_fixture.h"
#include "tests/unit/store_fixture.h"

enum { KV_HEADS = 3, GROUP = 2, DIM = 32, LAYERS = 2, STEPS = 40, CONTEXT = 203 };

static char *folder, *model;

static void write_model(void)
{
	static const char text[] =
		"[llm]\ntitle = tiny\nsource = assumed: a test\nhidden = 192\nvocabulary = 512\n"
		"context_limit = 100000\ntied_embeddings = no\n"
		"[layers]\nsource = assumed: a test\ncount = 3\nattention = global\nmlp = dense\n"
		"[attention]\nsource = assumed: a test\nform = grouped\nquery_heads = 6\n"
		"kv_heads = 3\nhead_dim = 32\nqkv_bias = no\noutput_bias = no\n"
		"[mlp]\nsource = assumed: a test\nwidth = 512\n"
		"[precision]\nsource = assumed: a test\nembedding = bf16\nhead = bf16\n"
		"attention = bf16\nmlp = bf16\nnorm = bf16\n"
		"[kv]\nsource = assumed: a test\nformat = fp16\n";
	model = g_build_filename(folder, "tiny.ini", NULL);
	g_assert_true(g_file_set_contents(model, text, -1, NULL));
}

/* Steps from token CONTEXT on, with gaps of up to `gap` tokens between them; both layers are
 * global. A new path; *left_out: the tokens in the gaps. */
static char *write_trace(uint32_t block_tokens, unsigned gap, uint64_t seed, uint64_t *left_out)
{
	kvt_rng rng = kvt_rng_init(seed, 1);
	uint64_t positions[STEPS], position = CONTEXT;
	for (unsigned i = 0; i < STEPS; i++) {
		position += kvt_rng_below(&rng, gap + 1);
		positions[i] = position++;
	}
	const kvt_attention_header header = { .query_heads = KV_HEADS * GROUP,
		.kv_heads = KV_HEADS,
		.head_dim = DIM,
		.block_tokens = block_tokens,
		.local_chunk_tokens = 16,
		.context_tokens = CONTEXT,
		.total_tokens = position };
	g_autoptr(attention_fixture) fixture = attention_fixture_new(&header, STEPS, seed);
	fixture->kinds[1] = KVT_TRACE_LAYER_GLOBAL;
	for (unsigned i = 0; i < STEPS; i++) {
		fixture->steps[i].position = positions[i];
		fixture->steps[i].token = fixture->tokens[positions[i]];
	}
	char *path = g_strdup_printf("%s/trace-%u.h5", folder, gap);
	attention_fixture_write(fixture, path);
	*left_out = position - CONTEXT - STEPS;
	return path;
}

/* All steps: 25 are a prompt, 15 its output. */
static void emulate(const char *trace, const char *sets, kvt_emulation_result *result)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf(
		"[experiment]\nkind = resume\n[model]\nname = %s\n[gpu]\nname = l40s\n"
		"[context]\ntokens = %u\nprompt_tokens = 25\noutput_tokens = 15\n"
		"[storage]\ntier = null\n[prefill]\noverlap = none\n[decode]\nsamples = 0\n"
		"[emulation]\ntrace = %s\nchecks = 0\n",
		model, CONTEXT / 16 * 16, trace);
	kvt_config *config = kvt_config_parse("test.ini", text, &error);
	g_auto(GStrv) lines = g_strsplit(sets, "\n", -1);
	for (char **line = lines; *line; line++)
		g_assert_true(**line == '\0' || kvt_config_set(config, *line, &error));
	g_autoptr(kvt_experiment) experiment = kvt_experiment_new(config, &error);
	g_assert_no_error(error);
	g_assert_true(kvt_emulation_run(experiment, NULL, NULL, result, &error));
	g_assert_no_error(error);
}

/* The steps of the output in virtual time. */
static void check_decisions(const char *path, const kvt_emulated_decode *decode)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_replay_result) virtual = { 0 };
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(path, &error);
	kvt_replay_trace_spec spec = { .layer = -1, .first_step = 25 };
	kvt_replay_source *source = kvt_replay_trace_new(trace, &spec, &error);
	g_assert_no_error(error);
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *network = kvt_network_new(loop);
	kvt_tier_env env = { .loop = loop, .network = network, .seed = 1 };
	kvt_tier *tier = kvt_tier_open("null", &env, NULL, &error);
	kvt_replay_world world = { .loop = loop, .storage = tier };
	g_assert_true(kvt_replay_run(source, &decode->settings, &world, &virtual, &error));
	g_assert_cmpmem(&virtual.counts, sizeof(virtual.counts), &decode->replay.counts,
		sizeof(virtual.counts));
	g_assert_cmpuint(virtual.written_bytes, ==, decode->replay.written_bytes);
	kvt_tier_close(tier);
	kvt_network_free(network);
	kvt_loop_free(loop);
	kvt_replay_trace_free(source);
}

#define DECODE(key, value) "emulation decode." key "=" value "\n"
#define WINDOWS(tokens, n)                                                                         \
	"stream.mode=always\nstream.window_tokens=" #tokens "\nstream.buffers=" #n "\n"

static const char *const modes[] = {
	DECODE("prefetch", "quest") DECODE("budget", "20%"),
	WINDOWS(48, 2) DECODE("prefetch", "last-step") DECODE("attention", "exact")
		DECODE("hbm", "40%") DECODE("policy", "clock"),
	WINDOWS(128, 3) DECODE("prefetch", "oracle")
		DECODE("query", "previous") "emulation.threads=2",
};

static void check(uint32_t block_tokens, unsigned gap, uint64_t seed, const char *store)
{
	uint64_t left_out;
	g_autofree char *trace = write_trace(block_tokens, gap, seed, &left_out);
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
		g_auto(kvt_emulation_result) result = { 0 };
		g_autofree char *sets = g_strconcat(modes[i], store, NULL);
		emulate(trace, sets, &result);
		/* 192 tokens fill pages of 16; 11 more are before the first query */
		g_assert_cmpuint(result.data.left_out, ==, left_out + CONTEXT % 16);
		g_assert_cmpuint(result.data.query_tokens, ==, STEPS);
		g_assert_cmpuint(result.errors.compared, ==, 3 * KV_HEADS * STEPS);
		g_assert_true(kvt_attention_errors_pass(&result.errors));
		g_assert_cmpuint(result.decode.errors.compared, ==, LAYERS * KV_HEADS * 15);
		g_assert_true(kvt_attention_errors_pass(&result.decode.errors));
		g_assert_cmpfloat_with_epsilon(result.decode.mass,
			result.decode.settings.attention == KVT_REPLAY_EXACT
				? 1
				: result.decode.replay.mass_kept,
			5e-3);
		check_decisions(trace, &result.decode);
	}
	g_unlink(trace);
}

static void test_neighbours(void)
{
	check(16, 0, 1, "");
	check(8, 0, 2, "");
}

static void test_gaps(void)
{
	check(16, 3, 3, "");
	check(8, 30, 4, "");
}

/* Pages that are smaller than a sector. */
static void test_store(void)
{
	char *path = store_folder_new();
	g_autofree char *store = g_strdup_printf("\nemulation.tier=store\nemulation store.path=%s"
						 "\nemulation store.capacity=32MiB",
		path);
	check(8, 5, 5, store);
	store_folder_free(path);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	folder = attention_fixture_folder();
	write_model();
	g_test_add_func("/emulated-random/neighbours", test_neighbours);
	g_test_add_func("/emulated-random/gaps", test_gaps);
	g_test_add_func("/emulated-random/store", test_store);
	int status = g_test_run();
	attention_fixture_remove(folder);
	g_free(model);
	return status;
}
