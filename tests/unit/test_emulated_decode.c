/*
 * test_emulated_decode.c: decode steps in real time over chosen pages of a recorded trace: whatever
 * chooses them, whatever leaves HBM and wherever they come back from, attention equals double
 * precision on the recorded numbers, decisions are those of virtual time, and a page that is lost
 * or changed is noticed.
 */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/engine/replay_trace.h"
#include "tests/unit/page_damage.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/lossy_tier.h"
#include "tests/unit/trace_emulation.h"

/* Steps 0 to 7 of the trace are before the context's end, 6 more are the prompt. */
enum { FIRST_STEP = 14 };

static trace_reference trace;

typedef struct comparison {
	trace_errors errors;
	uint64_t steps_all; /* of a KV head, that attended to everything */
} comparison;

static void compare(void *arg, const kvt_replay_call *call, const float *output, const float *lse)
{
	comparison *c = arg;
	uint64_t step = FIRST_STEP + call->step, position = trace.steps[step].position;
	g_autofree uint64_t *tokens = g_new(uint64_t, trace.n_tokens);
	for (unsigned head = 0; head < call->n_heads; head++) {
		const kvt_replay_reads *reads = &call->heads[head];
		uint64_t n = 0;
		for (uint64_t t = 0; reads->all && t <= position; t++)
			tokens[n++] = t;
		for (uint32_t i = 0; !reads->all && i < reads->selection->n; i++)
			for (uint64_t t = reads->selection->pages[i] * (uint64_t)TRACE_BLOCK;
				t < (reads->selection->pages[i] + 1) * (uint64_t)TRACE_BLOCK &&
				t <= position;
				t++)
				tokens[n++] = t;
		trace_reference_compare(&trace, step, head, tokens, n,
			output + head * TRACE_GROUP * TRACE_DIM, &c->errors);
		c->steps_all += reads->all;
	}
}

/* 12 tokens are generated from pages that slap chooses, where nothing else is set. */
static bool emulate(const char *sets, const kvt_emulation_hooks *hooks,
	kvt_emulation_result *result, GError **error)
{
	g_autofree char *all = g_strconcat(
		"context.output_tokens=12\nemulation decode.prefetch=slap\n", sets, NULL);
	return trace_emulate(all, hooks, result, error);
}

/* The same steps in virtual time over a tier that moves nothing, and may lose pages. */
static void replay_virtually(const kvt_emulated_decode *decode, lossy_settings *lossy)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_replay_result) virtual = { 0 };
	uint32_t steps = decode->replay.steps;
	kvt_replay_trace_spec spec = {
		.layer = -1, .first_step = FIRST_STEP, .end_step = FIRST_STEP + steps
	};
	kvt_replay_source *source = kvt_replay_trace_new(trace.trace, &spec, &error);
	g_assert_no_error(error);
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *network = kvt_network_new(loop);
	kvt_tier_env env = { .loop = loop, .network = network, .seed = 1 };
	kvt_tier *tier = kvt_tier_open("null", &env, NULL, &error);
	if (lossy)
		tier = lossy_tier_new(tier, lossy);
	kvt_replay_world world = {
		.loop = loop, .storage = tier, .first_context = 16, .recomputes = lossy != NULL
	};
	g_assert_true(kvt_replay_run(source, &decode->settings, &world, &virtual, &error));
	g_assert_cmpmem(&virtual.counts, sizeof(virtual.counts), &decode->replay.counts,
		sizeof(virtual.counts));
	g_assert_true(virtual.mass_kept == decode->replay.mass_kept);
	g_assert_true(virtual.selection == decode->replay.selection);
	g_assert_cmpuint(virtual.moved_bytes, ==, decode->replay.moved_bytes);
	g_assert_cmpuint(virtual.written_bytes, ==, decode->replay.written_bytes);
	g_assert_cmpuint(virtual.lost.pages, ==, decode->replay.lost.pages);
	g_assert_cmpuint(virtual.lost.tokens, ==, decode->replay.lost.tokens);
	kvt_tier_close(tier);
	kvt_network_free(network);
	kvt_loop_free(loop);
	kvt_replay_trace_free(source);
}

static void check_decisions(const kvt_emulated_decode *decode)
{
	replay_virtually(decode, NULL);
}

static void check(const char *sets, unsigned steps)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	comparison c = { 0 };
	kvt_emulation_hooks hooks = { .decode_attended = compare, .arg = &c };
	g_assert_true(emulate(sets, &hooks, &result, &error));
	g_assert_no_error(error);
	const kvt_emulated_decode *decode = &result.decode;
	g_assert_true(decode->ran);
	g_assert_cmpuint(c.errors.outputs, ==, TRACE_KV_HEADS * steps);
	g_assert_cmpfloat(c.errors.error, >, 0);
	g_assert_cmpfloat(c.errors.error, <=, c.errors.resident);
	g_assert_true(kvt_attention_errors_pass(&decode->errors));
	g_assert_cmpuint(decode->first_position, ==, 2134);
	g_assert_cmpuint(decode->last_position, ==, 2133 + steps);
	g_assert_cmpuint(decode->stored_bytes, ==, 133 * TRACE_KV_HEADS * TRACE_PAGE_BYTES);
	g_assert_cmpuint(decode->replay.written_bytes, >, 0);
	bool all = c.steps_all == c.errors.outputs;
	if (decode->settings.target == 0)
		g_assert_true(all == (decode->settings.attention == KVT_REPLAY_EXACT));
	/* what attention says of itself, and the rows that were recorded */
	if (all)
		g_assert_cmpfloat_with_epsilon(decode->mass, 1, 1e-5);
	else if (c.steps_all == 0)
		g_assert_cmpfloat_with_epsilon(decode->mass, decode->replay.mass_kept, 2e-3);
	else
		g_assert_cmpfloat(decode->mass, >, decode->replay.mass_kept);
	kvt_emulated_step step = kvt_emulated_decode_step(decode);
	g_assert_cmpfloat(step.all, >, 0);
	g_assert_cmpfloat(step.attention, >, 0);
	check_decisions(decode);
}

#define DECODE(key, value) "emulation decode." key "=" value "\n"

/* Every prefetcher, and some policies, queries and sizes of HBM. */
static void test_budgeted(void)
{
	static const char *const modes[] = { "", DECODE("hbm", "12%") DECODE("query", "previous"),
		DECODE("policy", "fifo") DECODE("budget", "10%"),
		DECODE("moves", "1%") DECODE("hbm", "20%") DECODE("policy", "arc"),
		DECODE("mass", "60%") DECODE("budget", "10%") };
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++)
		check(modes[i], 12);
	for (const kvt_prefetcher_ops *const *ops = kvt_prefetcher_registry(); *ops; ops++) {
		g_autofree char *sets =
			g_strdup_printf("emulation decode.prefetch=%s\nemulation.threads=%u",
				(*ops)->name, 1 + (unsigned)strlen((*ops)->name) % 3);
		check(sets, 12);
	}
}

/* Every order in which pages leave. */
static void test_policies(void)
{
	for (const kvt_policy_ops *const *ops = kvt_policy_registry(); *ops; ops++) {
		g_autofree char *sets = g_strdup_printf("emulation decode.policy=%s\n%s%s",
			(*ops)->name, DECODE("attention", "exact") DECODE("hbm", "30%"),
			DECODE("prefetch", "last-step"));
		check(sets, 12);
	}
}

static void test_store(void)
{
	static const char *const modes[] = { DECODE("hbm", "8%"), DECODE("attention", "exact") };
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
		char *folder = store_folder_new();
		g_autofree char *sets =
			g_strdup_printf("%s\nemulation.tier=store\nemulation store.path=%s\n"
					"emulation store.capacity=32MiB",
				modes[i], folder);
		check(sets, 12);
		store_folder_free(folder);
	}
}

/* The first page, which every step reads: it goes, or a bit of it changes. */
static void damage_page(void *arg, kvt_tier *tier)
{
	const kvt_extent page = { 17, 7, 0, 1, TRACE_PAGE_BYTES };
	const trace_damage *d = arg;
	page_damage(tier, &page, d->drop);
}

static void test_damage(void)
{
	g_auto(kvt_emulation_result) plain = { 0 };
	g_assert_true(emulate("", NULL, &plain, NULL));
	for (int drop = 0; drop < 2; drop++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 }, refused = { 0 };
		trace_damage d = { .drop = drop };
		kvt_emulation_hooks hooks = { .decode_stored = damage_page, .arg = &d };
		g_assert_true(emulate("", &hooks, &result, &error));
		g_assert_no_error(error);
		/* it is made again, attended to, and stored again */
		const kvt_emulated_decode *decode = &result.decode;
		g_assert_cmpuint(decode->replay.lost.pages, ==, 1);
		g_assert_cmpuint(decode->replay.lost.tokens, ==, TRACE_BLOCK);
		g_assert_cmpint(decode->replay.lost.time, >, 0);
		g_assert_cmpuint(decode->replay.lost.stored_again_bytes, ==, TRACE_PAGE_BYTES);
		g_assert_cmpuint(decode->replay.moved_bytes + TRACE_PAGE_BYTES, ==,
			plain.decode.replay.moved_bytes);
		g_assert_true(decode->mass == plain.decode.mass);
		g_assert_true(kvt_attention_errors_pass(&decode->errors));
		/* unless nothing may be recomputed */
		g_assert_false(emulate("storage.lost=fail", &hooks, &refused, &error));
		g_assert_nonnull(strstr(error->message, "tier memory: read of"));
	}
}

/* Pages are lost from when decode steps begin. */
typedef struct losing {
	lossy_settings lossy;
	double rate;
} losing;

static kvt_tier *wrap_lossy(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier)
{
	return lossy_tier_new(tier, &((losing *)arg)->lossy);
}

static void begin_losing(void *arg, kvt_tier *tier)
{
	losing *l = arg;
	l->lossy.rate = l->rate;
	l->lossy.mends = true;
}

/* Of whatever error, few and all; what is lost is the same in virtual time. */
static void test_lost(void)
{
	static const char *const modes[] = { DECODE("hbm", "6%"), DECODE("attention", "exact") };
	static const double rates[] = { 0.2, 0.5, 1 };
	for (unsigned i = 0; i < G_N_ELEMENTS(modes) * G_N_ELEMENTS(rates); i++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		losing l = { .lossy = { .seed = i }, .rate = rates[i / 2] };
		kvt_emulation_hooks hooks = {
			.wrap = wrap_lossy, .decode_stored = begin_losing, .arg = &l
		};
		g_assert_true(emulate(modes[i % 2], &hooks, &result, &error));
		g_assert_no_error(error);
		const kvt_emulated_decode *decode = &result.decode;
		const kvt_replay_lost *lost = &decode->replay.lost;
		g_assert_true(kvt_attention_errors_pass(&decode->errors));
		g_assert_cmpuint(lost->pages, >, 0);
		g_assert_cmpuint(lost->stored_again_bytes, >, 0);
		g_assert_cmpuint(lost->failed_bytes, ==, 0);
		if (rates[i / 2] < 1)
			g_assert_cmpuint(decode->replay.moved_bytes, >, 0);
		else
			g_assert_cmpuint(decode->replay.moved_bytes, ==, 0);
		replay_virtually(decode, &l.lossy);
	}
}

/* What has been stored again is there: no page is lost twice. */
static void test_stored_again(void)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	g_autoptr(GHashTable) mended = g_hash_table_new(NULL, NULL);
	losing l = { .lossy = { .seed = 3, .mended = mended }, .rate = 0.5 };
	kvt_emulation_hooks hooks = {
		.wrap = wrap_lossy, .decode_stored = begin_losing, .arg = &l
	};
	g_assert_true(
		emulate(DECODE("attention", "exact") DECODE("hbm", "6%"), &hooks, &result, &error));
	g_assert_no_error(error);
	const kvt_replay_result *replay = &result.decode.replay;
	g_assert_true(kvt_attention_errors_pass(&result.decode.errors));
	/* every step reads nearly all pages of both KV heads; about half of these were lost, once
	 */
	g_assert_cmpuint(replay->lost.pages, >, 100);
	g_assert_cmpuint(replay->lost.pages, <, 2 * 140);
	g_assert_cmpuint(
		replay->lost.stored_again_bytes, ==, replay->lost.pages * TRACE_PAGE_BYTES);
}

/* Reads of pages that decode itself completed: context 16 and 17, from page 133 on. */
static void count_born(void *arg, kvt_io *io)
{
	unsigned *born = arg;
	for (unsigned i = 0; i < io->n_extents; i++)
		*born += io->extents[i].context >= 16 &&
			 io->extents[i].first_page + io->extents[i].n_pages > 133;
}

/* To the trace's end: pages that decode has completed leave HBM, and come back. */
static void test_long(void)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	unsigned born = 0;
	recording log = { .arrived = count_born, .arg = &born };
	kvt_emulation_hooks hooks = { .wrap = trace_wrap, .arg = &log };
	g_assert_true(emulate("emulation.checks=24\ncontext.output_tokens=74\n" DECODE(
				      "attention", "exact") DECODE("prefetch", "random"),
		&hooks, &result, &error));
	g_assert_no_error(error);
	g_assert_cmpuint(born, >, 0);
	g_assert_true(kvt_attention_errors_pass(&result.decode.errors));
	g_assert_cmpuint(result.decode.errors.outputs, ==, 74 * TRACE_KV_HEADS);
	check_decisions(&result.decode);
}

/* A bit of the exponent of one number of a page by KV head. */
static void flip_bit(void *arg, kvt_io *io)
{
	trace_damage *d = arg;
	if (io->memory && io->extents[0].context >= 16 && d->countdown-- == 0)
		((uint8_t *)io->memory[0])[TRACE_PAGE_BYTES / 2 + 1] ^= 0x10;
}

/* What no checksum sees, and pages that nobody moved. */
static void test_undetected_damage(void)
{
	for (unsigned read = 0; read < 3; read++) {
		g_autoptr(GError) error = NULL;
		g_auto(kvt_emulation_result) result = { 0 };
		trace_damage d = { .countdown = read };
		d.log = (recording){ .arrived = flip_bit, .arg = &d };
		kvt_emulation_hooks hooks = { .wrap = trace_wrap, .arg = &d.log };
		g_assert_true(emulate("emulation.checks=0", &hooks, &result, &error));
		g_assert_no_error(error);
		g_assert_true(kvt_attention_errors_pass(&result.errors));
		const kvt_attention_errors *errors;
		g_assert_false(kvt_emulation_exact(&result, &errors));
		g_assert_true(errors == &result.decode.errors);
	}
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	g_assert_true(emulate("emulation.tier=null", NULL, &result, &error));
	g_assert_no_error(error);
	g_assert_false(kvt_attention_errors_pass(&result.decode.errors));
	g_assert_true(isnan(result.decode.errors.most));
}

static void test_refused(void)
{
	trace_refused(DECODE("prefetch", "slap") "emulation.trace=", "expected [emulation] trace");
	trace_refused(DECODE("prefetch", "slip"), "did you mean");
	trace_refused(DECODE("prefetch", "slap") DECODE("policy", "lro"), "did you mean");
	trace_refused(DECODE("prefetch", "slap") DECODE("budget", "0%"), "budget 0");
	trace_refused(DECODE("prefetch", "slap") DECODE("hbm", "2%"), "hbm 0.02");
	trace_refused(DECODE("prefetch", "slap") DECODE("speed", "2"), "speed");
	trace_refused(DECODE("prefetch", "quest") DECODE("mass", "50%"), "does not estimate mass");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	trace_reference_open(&trace);
	g_test_add_func("/emulated-decode/budgeted", test_budgeted);
	g_test_add_func("/emulated-decode/policies", test_policies);
	g_test_add_func("/emulated-decode/long", test_long);
	g_test_add_func("/emulated-decode/store", test_store);
	g_test_add_func("/emulated-decode/damage", test_damage);
	g_test_add_func("/emulated-decode/lost", test_lost);
	g_test_add_func("/emulated-decode/stored-again", test_stored_again);
	g_test_add_func("/emulated-decode/undetected-damage", test_undetected_damage);
	g_test_add_func("/emulated-decode/refused", test_refused);
	int status = g_test_run();
	trace_reference_close(&trace);
	return status;
}
