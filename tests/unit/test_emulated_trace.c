/*
 * test_emulated_trace.c: turns in real time over the pages of a recorded trace: attention to keys
 * and values that went out and came back, with the recorded queries, equals double precision on the
 * trace itself, read here by its own reader; a page that is lost or changed is noticed.
 */
#include <glib.h>
#include <string.h>

#include "tests/unit/page_damage.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/trace_emulation.h"

/* Both layers of the model are the recording's layer 7. */
enum { LAYERS = 2 };

static trace_reference trace;

/* What a run's attention is compared with, and came to. */
typedef struct comparison {
	uint64_t stored, from, first_step; /* of its queries */
	trace_errors errors;
} comparison;

static void compare(void *arg, unsigned layer, uint64_t position, uint64_t tokens,
	const float *output, const float *lse)
{
	comparison *c = arg;
	g_autofree uint64_t *seen = g_new(uint64_t, trace.n_tokens);
	g_assert_cmpuint(layer, <, LAYERS);
	for (uint64_t token = 0; token < tokens; token++) {
		uint64_t step = c->first_step + position + token - c->stored, n = 0;
		for (uint64_t t = 0; t <= trace.steps[step].position; t++)
			if (t < c->stored || t >= c->from)
				seen[n++] = t;
		for (unsigned head = 0; head < TRACE_KV_HEADS; head++)
			trace_reference_compare(&trace, step, head, seen, n,
				output + (head * tokens + token) * TRACE_GROUP * TRACE_DIM,
				&c->errors);
	}
}

/* Windows of a size through so many buffers. */
#define WINDOWS(tokens, n)                                                                         \
	"stream.mode=always\nstream.window_tokens=" #tokens "\nstream.buffers=" #n "\n"

static void check_exact(const char *sets, comparison *c)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	kvt_emulation_hooks hooks = { .attended = compare, .arg = c };
	g_assert_true(trace_emulate(sets, &hooks, &result, &error));
	g_assert_no_error(error);
	g_assert_cmpuint(c->errors.outputs, ==, LAYERS * TRACE_KV_HEADS * result.data.query_tokens);
	g_assert_cmpfloat(c->errors.error, >, 0);
	g_assert_cmpfloat(c->errors.error, <=, c->errors.resident);
	g_assert_true(kvt_attention_errors_pass(&result.errors));
	g_assert_true(result.data.recorded && !result.data.rounded);
	g_assert_cmpuint(result.data.stored_tokens, ==, c->stored);
	g_assert_cmpuint(result.data.left_out, ==, c->from - c->stored);
	g_assert_cmpuint(result.data.first_position, ==, c->from);
	g_assert_cmpuint(result.turn.read_bytes[0], >=,
		LAYERS * c->stored / TRACE_BLOCK * TRACE_KV_HEADS * TRACE_PAGE_BYTES);
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

/* The second layer's page 7 goes, or a bit of it changes. */
static void damage_page(void *arg, kvt_tier *tier)
{
	const kvt_extent page = { 1, 1, 7, 1, TRACE_KV_HEADS * TRACE_PAGE_BYTES };
	const trace_damage *d = arg;
	page_damage(tier, &page, d->drop);
}

static void test_damage(void)
{
	for (int drop = 0; drop < 2; drop++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		trace_damage d = { .drop = drop };
		kvt_emulation_hooks hooks = { .stored = damage_page, .arg = &d };
		g_assert_false(trace_emulate("storage.lost=fail", &hooks, &result, &error));
		g_assert_nonnull(strstr(error->message,
			drop ? "does not hold the pages" : "a page whose checksum is wrong"));
	}
}

/* The newest page of a read becomes the one before it, behind every checksum's back. */
static void repeat_page(void *arg, kvt_io *io)
{
	trace_damage *d = arg;
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
		trace_damage d = { .countdown = read };
		d.log = (recording){ .arrived = repeat_page, .arg = &d };
		kvt_emulation_hooks hooks = { .wrap = trace_wrap, .arg = &d.log };
		g_assert_true(trace_emulate("emulation.checks=0", &hooks, &result, &error));
		g_assert_no_error(error);
		g_assert_false(kvt_attention_errors_pass(&result.errors));
		g_assert_cmpfloat(result.errors.most, >, 1e-5);
	}
}

static void test_refused(void)
{
	trace_refused("emulation.trace=nowhere.h5", "nowhere.h5");
	trace_refused("emulation.trace=code-32k-keys.h5", "has no values");
	trace_refused("emulation.trace=code-32k-layer7.h5", "has no keys");
	trace_refused("resume.policy=recompute", "[resume] policy");
	trace_refused("context.prompt_tokens=48\ncontext.output_tokens=33",
		"has queries of 80 from there on (positions 2120 to 2207 in all)");
	trace_refused("context.tokens=3000", "has queries of 0 from there on");
	trace_refused("model.name=qwen2.5-7b-instruct-1m", "expected a model of its shape");
}

/* A model of other numbers rounds what was recorded, and says so. */
static void test_rounded(void)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	g_assert_true(trace_emulate("model.kv_format=bf16", NULL, &result, &error));
	g_assert_no_error(error);
	g_assert_true(result.data.rounded && kvt_attention_errors_pass(&result.errors));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	trace_reference_open(&trace);
	g_test_add_func("/emulated-trace/exact", test_exact);
	g_test_add_func("/emulated-trace/left-out", test_left_out);
	g_test_add_func("/emulated-trace/store", test_store);
	g_test_add_func("/emulated-trace/damage", test_damage);
	g_test_add_func("/emulated-trace/undetected-damage", test_undetected_damage);
	g_test_add_func("/emulated-trace/refused", test_refused);
	g_test_add_func("/emulated-trace/rounded", test_rounded);
	int status = g_test_run();
	trace_reference_close(&trace);
	return status;
}
