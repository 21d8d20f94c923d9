/*
 * test_emulated_trace.c: turns in real time over the pages of a recorded trace: attention to keys
 * and values that went out and came back, with the recorded queries, equals double precision on the
 * trace itself, read here by its own reader; a page that is lost or changed is noticed.
 */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "emu/emulation.h"
#include "emu/host_tier.h"
#include "sim/base/datadir.h"
#include "sim/base/error.h"
#include "tests/unit/recording_tier.h"
#include "tests/unit/store_fixture.h"
#include "traces/attention_trace.h"

/* code-32k-window.h5: layer 7; both layers of the model are it. */
enum { LAYERS = 2, KV_HEADS = 2, GROUP = 4, DIM = 64, ROWS = KV_HEADS * GROUP * DIM };

static char *trace_path;

/* The trace's keys and values, and what attention of a step is in double precision and, all in
 * memory, in FP32. */
typedef struct recorded {
	kvt_attention_trace *trace;
	kvt_attention_layer *layer;
	const kvt_attention_step *steps;
	uint64_t n_steps, n_tokens;
	float *keys[KV_HEADS], *values[KV_HEADS]; /* [n_tokens][DIM] */
} recorded;

static recorded trace;

static void open_trace(void)
{
	g_autoptr(GError) error = NULL;
	recorded *r = &trace;
	r->trace = kvt_attention_trace_open(trace_path, &error);
	g_assert_no_error(error);
	r->layer = kvt_attention_layer_open(r->trace, 7, 0, &error);
	g_assert_no_error(error);
	r->steps = kvt_attention_trace_steps(r->trace, &r->n_steps);
	r->n_tokens = r->steps[r->n_steps - 1].position + 1;
	for (unsigned head = 0; head < KV_HEADS; head++) {
		r->keys[head] = g_new(float, r->n_tokens *DIM);
		r->values[head] = g_new(float, r->n_tokens *DIM);
		g_assert_true(kvt_attention_layer_keys(
			r->layer, head, 0, r->n_tokens, r->keys[head], &error));
		g_assert_true(kvt_attention_layer_values(
			r->layer, head, 0, r->n_tokens, r->values[head], &error));
	}
}

static void close_trace(void)
{
	for (unsigned head = 0; head < KV_HEADS; head++) {
		g_free(trace.keys[head]);
		g_free(trace.values[head]);
	}
	kvt_attention_layer_close(trace.layer);
	kvt_attention_trace_close(trace.trace);
}

/* One query head, over tokens [0, stored) and those from `from` to the step's own. */
static void attend(uint64_t step, unsigned head, uint64_t stored, uint64_t from, double *exact,
	float *resident)
{
	const recorded *r = &trace;
	float queries[ROWS];
	g_assert_true(kvt_attention_layer_queries(r->layer, step, queries, NULL));
	const float *query = queries + head * DIM;
	const float *keys = r->keys[head / GROUP], *values = r->values[head / GROUP];
	const double scale = 1 / sqrt(DIM);
	uint64_t end = r->steps[step].position + 1;
	g_autofree double *logits = g_new(double, end);
	g_autofree float *rounded = g_new(float, end);
	double most = -INFINITY, sum = 0;
	float rounded_most = -INFINITY, rounded_sum = 0;
	for (uint64_t t = 0; t < end; t = t + 1 == stored ? from : t + 1) {
		float dot = 0;
		logits[t] = 0;
		for (unsigned i = 0; i < DIM; i++) {
			logits[t] += (double)query[i] * keys[t * DIM + i];
			dot += query[i] * keys[t * DIM + i];
		}
		logits[t] *= scale;
		rounded[t] = dot * (float)scale;
		most = MAX(most, logits[t]);
		rounded_most = MAX(rounded_most, rounded[t]);
	}
	memset(exact, 0, DIM * sizeof(*exact));
	memset(resident, 0, DIM * sizeof(*resident));
	for (uint64_t t = 0; t < end; t = t + 1 == stored ? from : t + 1) {
		double share = exp(logits[t] - most);
		float rounded_share = expf(rounded[t] - rounded_most);
		sum += share;
		rounded_sum += rounded_share;
		for (unsigned i = 0; i < DIM; i++) {
			exact[i] += share * values[t * DIM + i];
			resident[i] += rounded_share * values[t * DIM + i];
		}
	}
	for (unsigned i = 0; i < DIM; i++) {
		exact[i] /= sum;
		resident[i] /= rounded_sum;
	}
}

/* What a run's attention is compared with, and came to. */
typedef struct comparison {
	uint64_t stored, from, first_step; /* of its queries */
	uint64_t outputs;
	double error, resident; /* sums of squares */
} comparison;

static void compare(void *arg, unsigned layer, uint64_t position, uint64_t tokens,
	const float *output, const float *lse)
{
	comparison *c = arg;
	g_assert_cmpuint(layer, <, LAYERS);
	for (uint64_t token = 0; token < tokens; token++) {
		uint64_t step = c->first_step + position + token - c->stored;
		for (unsigned head = 0; head < KV_HEADS * GROUP; head++) {
			double exact[DIM];
			float resident[DIM];
			attend(step, head, c->stored, c->from, exact, resident);
			const float *row =
				output +
				((head / GROUP * tokens + token) * GROUP + head % GROUP) * DIM;
			for (unsigned i = 0; i < DIM; i++) {
				c->error += pow(row[i] - exact[i], 2);
				c->resident += pow(resident[i] - exact[i], 2);
			}
			c->outputs++;
		}
	}
}

/* The window's tokens and what else is set: "section.key=value" lines. */
static bool emulate(const char *sets, const kvt_emulation_hooks *hooks,
	kvt_emulation_result *result, GError **error)
{
	static const char text[] =
		"[experiment]\nkind = resume\n[model]\nname = mini-irope-28m-global\n"
		"[gpu]\nname = l40s\n[context]\ntokens = 2128\nprompt_tokens = 6\n"
		"output_tokens = 2\n[storage]\ntier = null\n[prefill]\noverlap = none\n"
		"[decode]\nsamples = 0\n[emulation]\ntrace = code-32k-window.h5\nchecks = 4\n";
	kvt_config *config = kvt_config_parse("test.ini", text, error);
	g_assert_nonnull(config);
	g_auto(GStrv) lines = g_strsplit(sets, "\n", -1);
	for (char **line = lines; *line; line++)
		g_assert_true(**line == '\0' || kvt_config_set(config, *line, error));
	g_autoptr(kvt_experiment) experiment = kvt_experiment_new(config, error);
	g_assert_nonnull(experiment);
	return kvt_emulation_run(experiment, hooks, NULL, result, error);
}

/* Windows of a size through so many buffers. */
#define WINDOWS(tokens, n)                                                                         \
	"stream.mode=always\nstream.window_tokens=" #tokens "\nstream.buffers=" #n "\n"

static void check_exact(const char *sets, comparison *c)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	kvt_emulation_hooks hooks = { .attended = compare, .arg = c };
	g_assert_true(emulate(sets, &hooks, &result, &error));
	g_assert_no_error(error);
	g_assert_cmpuint(c->outputs, ==, LAYERS * KV_HEADS * GROUP * result.data.query_tokens);
	g_assert_cmpfloat(c->error, >, 0);
	g_assert_cmpfloat(c->error, <=, c->resident);
	g_assert_true(kvt_attention_errors_pass(&result.errors));
	g_assert_true(result.data.recorded && !result.data.rounded);
	g_assert_cmpuint(result.data.stored_tokens, ==, c->stored);
	g_assert_cmpuint(result.data.left_out, ==, c->from - c->stored);
	g_assert_cmpuint(result.data.first_position, ==, c->from);
	g_assert_cmpuint(
		result.turn.read_bytes[0], >=, LAYERS * c->stored * KV_HEADS * 2 * DIM * 2);
}

/* Resident; windows of many sizes; chunks of the prompt; pages larger than the recording's. */
static void test_exact(void)
{
	static const char *const modes[] = {
		"",
		WINDOWS(16, 1),
		WINDOWS(176, 3),
		WINDOWS(2000, 2) "prefill.chunk_tokens=4\nprefill.overlap=two-batch",
		WINDOWS(4096, 2) "emulation.threads=3",
		WINDOWS(192, 2) "model.page_tokens=64",
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
		comparison c = { .stored = 2128, .from = 2128, .first_step = 8 };
		if (strstr(modes[i], "page_tokens"))
			c = (comparison){ .stored = 2112, .from = 2120, .first_step = 0 };
		check_exact(modes[i], &c);
	}
}

/* The queries begin at position 2,120; 2,112 tokens fill whole pages. */
static void test_left_out(void)
{
	comparison c = { .stored = 2112, .from = 2120, .first_step = 0 };
	check_exact(
		"context.tokens=2120\ncontext.prompt_tokens=1\ncontext.output_tokens=1\n" WINDOWS(
			512, 2),
		&c);
}

/* Out to files and back. */
static void test_store(void)
{
	static const char *const modes[] = { "", WINDOWS(256, 2) };
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
		char *folder = store_folder_new();
		comparison c = { .stored = 2128, .from = 2128, .first_step = 8 };
		g_autofree char *sets =
			g_strdup_printf("%s\nemulation.tier=store\nemulation store.path=%s\n"
					"emulation store.capacity=32MiB",
				modes[i], folder);
		check_exact(sets, &c);
		store_folder_free(folder);
	}
}

typedef struct damage {
	bool drop;
	recording log;
	unsigned countdown;
} damage;

/* The second layer's page 7 goes, or a bit of it changes. */
static void damage_page(void *arg, kvt_tier *tier)
{
	const damage *d = arg;
	kvt_extent extent = { 1, 1, 7, 1, 16 * KV_HEADS * 2 * DIM * 2 };
	if (d->drop) {
		g_assert_cmpuint(tier->ops->discard(tier, 0, &extent), >, 0);
		return;
	}
	uint8_t *page = kvt_host_tier_page(tier, 0, 1, 1, 7);
	g_assert_nonnull(page);
	page[1234] ^= 0x01;
}

static void test_damage(void)
{
	for (int drop = 0; drop < 2; drop++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		damage d = { .drop = drop };
		kvt_emulation_hooks hooks = { .stored = damage_page, .arg = &d };
		g_assert_false(emulate("", &hooks, &result, &error));
		g_assert_nonnull(strstr(error->message,
			drop ? "does not hold the pages" : "a page whose checksum is wrong"));
	}
}

static kvt_tier *wrap(void *arg, const kvt_tier_env *env, kvt_tier *tier)
{
	return recording_tier_new(tier, arg);
}

/* The newest page of a read becomes the one before it, behind every checksum's back. */
static void repeat_page(void *arg, kvt_io *io)
{
	damage *d = arg;
	const kvt_extent *extent = &io->extents[0];
	if (io->memory && extent->n_pages > 1 && d->countdown-- == 0) {
		char *last = (char *)io->memory[0] + (extent->n_pages - 1) * extent->page_bytes;
		memcpy(last, last - extent->page_bytes, extent->page_bytes);
	}
}

static void test_undetected_damage(void)
{
	for (unsigned read = 0; read < 2; read++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		damage d = { .countdown = read };
		d.log = (recording){ .arrived = repeat_page, .arg = &d };
		kvt_emulation_hooks hooks = { .wrap = wrap, .arg = &d.log };
		g_assert_true(emulate("emulation.checks=0", &hooks, &result, &error));
		g_assert_no_error(error);
		g_assert_false(kvt_attention_errors_pass(&result.errors));
		g_assert_cmpfloat(result.errors.most, >, 1e-5);
	}
}

static void assert_refused(const char *sets, const char *reason)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	g_assert_false(emulate(sets, NULL, &result, &error));
	g_test_message("%s", error->message);
	g_assert_nonnull(strstr(error->message, reason));
}

static void test_refused(void)
{
	assert_refused("emulation.trace=nowhere.h5", "nowhere.h5");
	assert_refused("emulation.trace=code-32k-keys.h5", "has no values");
	assert_refused("emulation.trace=code-32k-layer7.h5", "has no keys");
	assert_refused("resume.policy=recompute", "[resume] policy");
	assert_refused("context.prompt_tokens=48\ncontext.output_tokens=33",
		"has queries of 80 from there on (positions 2120 to 2207 in all)");
	assert_refused("context.tokens=3000", "has queries of 0 from there on");
	assert_refused("model.name=qwen2.5-7b-instruct-1m", "expected a model of its shape");
}

/* A model of other numbers rounds what was recorded, and says so. */
static void test_rounded(void)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	g_assert_true(emulate("model.kv_format=bf16", NULL, &result, &error));
	g_assert_no_error(error);
	g_assert_true(result.data.rounded && kvt_attention_errors_pass(&result.errors));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	trace_path = kvt_datadir_find("traces/samples/code-32k-window.h5", NULL);
	g_assert_nonnull(trace_path);
	open_trace();
	g_test_add_func("/emulated-trace/exact", test_exact);
	g_test_add_func("/emulated-trace/left-out", test_left_out);
	g_test_add_func("/emulated-trace/store", test_store);
	g_test_add_func("/emulated-trace/damage", test_damage);
	g_test_add_func("/emulated-trace/undetected-damage", test_undetected_damage);
	g_test_add_func("/emulated-trace/refused", test_refused);
	g_test_add_func("/emulated-trace/rounded", test_rounded);
	int status = g_test_run();
	close_trace();
	g_free(trace_path);
	return status;
}
