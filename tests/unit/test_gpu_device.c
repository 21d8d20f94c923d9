/*
 * test_gpu_device.c: turns of the engine on a GPU device, over a GPU in memory: attention equals
 * double precision whatever is resident, passes through windows or is made again; memory that is
 * not there is refused in a line, and a GPU that fails ends the turn.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "emu/device/attention_check.h"
#include "emu/gpu/gpu_device.h"
#include "emu/loop/real_loop.h"
#include "sim/engine/turn.h"
#include "sim/engine/turn_plan.h"
#include "tests/unit/lossy_tier.h"
#include "tests/unit/memory_gpu.h"
#include "tests/unit/recording_tier.h"
#include "tests/unit/tiny_model.h"

/* A world of a GPU whose pages arrive out of the source, as reads of a null tier end. */
typedef struct gpu_world {
	const kvt_experiment *experiment;
	kvt_loop *loop;
	kvt_real_gpu *gpu;
	kvt_kv_source source;
	kvt_attention_check *check;
	recording arrivals;
	lossy_settings *losses; /* NULL: none */
	bool some;              /* only every third token is looked at */
	int status;
	uint64_t regions, region_bytes, outputs;
} gpu_world;

static void bring_pages(void *arg, kvt_io *io)
{
	gpu_world *w = arg;
	const uint64_t page_tokens = w->source.shape.page_tokens;
	for (unsigned i = 0; io->memory && i < io->n_extents; i++) {
		const kvt_extent *e = &io->extents[i];
		uint64_t first = e->first_page * page_tokens, bytes = kvt_extent_bytes(e);
		g_autofree uint8_t *pages = g_malloc(bytes);
		kvt_kv_source_fill(&w->source, e->layer, first, e->n_pages * page_tokens, pages);
		g_assert_true(memory_gpu_owns(w->gpu, io->memory[i], bytes));
		memory_gpu_poke(w->gpu, io->memory[i], bytes, pages);
	}
}

static kvt_tier *open_store(void *arg, const kvt_tier_env *env, const char *name, GError **error)
{
	gpu_world *w = arg;
	kvt_tier *tier = kvt_tier_open("null", env, NULL, error);
	if (w->losses)
		tier = lossy_tier_new(tier, w->losses);
	return recording_tier_new(tier, &w->arrivals);
}

static void attended(void *arg, unsigned layer, uint64_t position, uint64_t tokens,
	const float *output, const float *lse)
{
	gpu_world *w = arg;
	w->outputs += tokens;
	kvt_attention_check_keep(w->check, layer, position, tokens, output, lse);
}

static bool every_third(void *arg, unsigned layer, uint64_t position)
{
	const gpu_world *w = arg;
	return !w->some || (position + layer) % 3 == 0;
}

static kvt_device *open_device(void *arg, kvt_system *system, GError **error)
{
	gpu_world *w = arg;
	const kvt_experiment *e = w->experiment;
	g_assert_true(kvt_kv_shape_init(&w->source.shape, &system->engine.layout, error));
	w->check = kvt_attention_check_new(&w->source);
	uint64_t tokens = (uint64_t)(e->context_tokens + e->prompt_tokens + e->output_tokens);
	uint64_t stored = kvt_turn_plan_storable(e);
	const kvt_gpu_device_settings settings = { .loop = w->loop,
		.gpu = w->gpu,
		.cost = system->cost,
		.timeline = system->timeline,
		.attention = { .source = &w->source,
			.tokens = tokens,
			.first_new = stored,
			.pass_tokens = MIN((uint64_t)e->chunk_tokens, tokens - stored),
			.attended = attended,
			.wanted = every_third,
			.attended_arg = w },
		.window_tokens = (uint64_t)e->window_tokens,
		.buffers = (unsigned)e->buffers,
		.status = &w->status };
	return kvt_gpu_device_new(&settings, error);
}

static void count_region(void *arg, void *memory, uint64_t bytes)
{
	gpu_world *w = arg;
	g_assert_true(memory_gpu_owns(w->gpu, memory, bytes));
	w->regions++;
	w->region_bytes += bytes;
}

static bool make_room(
	void *arg, kvt_system *system, uint64_t resident, uint64_t newest, GError **error)
{
	return kvt_gpu_device_commit(system->device, resident, newest, count_region, arg, error);
}

/* Runs a turn; what it left is in *w. */
static bool take_turn(gpu_world *w, const kvt_experiment *experiment,
	const memory_gpu_settings *settings, kvt_timeline *timeline, kvt_turn *turn,
	kvt_attention_errors *errors, GError **error)
{
	w->experiment = experiment;
	w->loop = kvt_real_loop_new(NULL);
	w->gpu = memory_gpu_new(settings);
	w->source.seed = 7;
	w->arrivals = (recording){ .arrived = bring_pages, .arg = w };
	const kvt_world world = { .loop = w->loop,
		.open_store = open_store,
		.open_device = open_device,
		.make_room = make_room,
		.arg = w,
		.stored_only = true };
	bool done = kvt_turn_run_in(&world, experiment, KVT_RUN_RESUME, timeline, turn, error);
	if (done && w->status == 0)
		kvt_attention_check_compare(w->check, 0, errors);
	kvt_attention_check_free(w->check);
	w->gpu->ops->free(w->gpu);
	kvt_loop_free(w->loop);
	return done;
}

typedef struct mode {
	const char *format, *more;
	int64_t chunk;
	int overlap;
	uint64_t room; /* bytes for KV; 0: as much as there is */
} mode;

static const mode modes[] = {
	{ "bf16", "", 8192, KVT_OVERLAP_NONE, 0 },
	{ "fp8", "", 8192, KVT_OVERLAP_TWO_BATCH, 0 },
	{ "bf16", "", 16, KVT_OVERLAP_NONE, 0 },
	{ "bf16", "[stream]\nmode = always\nwindow_tokens = 16\nbuffers = 1\n", 8192,
		KVT_OVERLAP_NONE, 0 },
	{ "bf16", "[stream]\nmode = always\nwindow_tokens = 48\nbuffers = 2\n", 16,
		KVT_OVERLAP_TWO_BATCH, 0 },
	{ "fp8", "[stream]\nmode = always\nwindow_tokens = 592\nbuffers = 5\n", 8192,
		KVT_OVERLAP_NONE, 0 },
	{ "bf16", "[stream]\nmode = always\nwindow_tokens = 1024\nbuffers = 2\n", 8192,
		KVT_OVERLAP_NONE, 0 },
	/* some of it stays, and what comes after leaves a gap: 16 pages of 3 layers, and windows */
	{ "bf16", "[stream]\nwindow_tokens = 64\nbuffers = 3\n", 8192, KVT_OVERLAP_NONE,
		(12 + 16 * 3 + 6 * 3) * 8192 },
	{ "bf16", "[stream]\nwindow_tokens = 32\nbuffers = 2\n", 16, KVT_OVERLAP_TWO_BATCH,
		(4 + 9 * 3 + 6 * 3) * 8192 },
};

static kvt_experiment *experiment_of(const mode *m)
{
	kvt_experiment *e = tiny_experiment(m->format, m->more);
	e->chunk_tokens = m->chunk;
	e->overlap = m->overlap;
	if (m->room > 0)
		tiny_limit_memory(e, m->room);
	return e;
}

static void test_exact(gconstpointer late)
{
	const memory_gpu_settings settings = { .late = late != NULL };
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_experiment) e = experiment_of(&modes[i]);
		gpu_world w = { 0 };
		kvt_turn turn;
		kvt_attention_errors errors;
		bool done = take_turn(&w, e, &settings, NULL, &turn, &errors, &error);
		g_assert_no_error(error);
		g_assert_true(done);
		g_assert_cmpint(w.status, ==, 0);
		/* 592 of 600 tokens fill whole pages; 28 and 3 are computed */
		g_assert_cmpuint(errors.compared, ==, 3 * 2 * (28 + 3));
		g_assert_true(kvt_attention_errors_pass(&errors));
		g_assert_cmpuint(w.regions, ==, turn.streamed ? 2 : 1);
		g_assert_true(modes[i].room == 0 || turn.resident_tokens > 0);
		g_assert_true(modes[i].room == 0 || turn.resident_tokens < 592);
		for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++)
			g_assert_cmpint(turn.work[kind] > 0, ==,
				kind != KVT_WORK_ALL_REDUCE &&
					(kind != KVT_WORK_MERGE || turn.loads > 0));
	}
}

/* What nobody asks for is not shown, and what is, is right. */
static void test_wanted(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_experiment) e = tiny_experiment("bf16", "");
	gpu_world w = { .some = true };
	kvt_turn turn;
	kvt_attention_errors errors;
	g_assert_true(take_turn(&w, e, NULL, NULL, &turn, &errors, &error));
	unsigned wanted = 0;
	for (unsigned layer = 0; layer < 3; layer++)
		for (uint64_t t = 592; t < 623; t++)
			wanted += (t + layer) % 3 == 0;
	g_assert_cmpuint(w.outputs, ==, wanted);
	g_assert_cmpuint(errors.compared, ==, 2 * wanted);
	g_assert_true(kvt_attention_errors_pass(&errors));
}

typedef struct spans {
	unsigned n;
	kvt_time end;
} spans;

static void count_span(void *arg, const char *track, const char *name, kvt_time start, kvt_time end)
{
	spans *s = arg;
	if (!g_str_equal(track, "compute"))
		return;
	/* one after the other, by the device's clock */
	g_assert_cmpint(start, >=, s->end - KVT_MICROSECOND);
	s->end = end;
	s->n++;
}

static void test_timeline(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_experiment) e = tiny_experiment("bf16", "");
	g_autoptr(kvt_timeline) timeline = kvt_timeline_new(KVT_TIMELINE_DEFAULT_LIMIT);
	gpu_world w = { 0 };
	kvt_turn turn;
	kvt_attention_errors errors;
	g_assert_true(take_turn(&w, e, NULL, timeline, &turn, &errors, &error));
	spans s = { 0 };
	kvt_timeline_each_span(timeline, count_span, &s);
	/* of 3 layers: QKV, attention, of the first pass a window and its merge, output, MLP; the
	 * head. There are 4 passes. */
	g_assert_cmpuint(s.n, ==, 4 * (3 * 4 + 1) + 3 * 2);
}

/* Pages that are lost are made again, also those that only pass through. */
static void test_losses(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_experiment) e = experiment_of(&modes[i]);
		lossy_settings losses = { .seed = 3 + i, .rate = 0.04 };
		gpu_world w = { .losses = &losses };
		kvt_turn turn;
		kvt_attention_errors errors = { 0 };
		bool done = take_turn(&w, e, NULL, NULL, &turn, &errors, &error);
		if (!done) {
			/* no room for them beside what HBM holds */
			g_assert_nonnull(strstr(error->message, "more than can be recomputed"));
			continue;
		}
		g_assert_cmpint(w.status, ==, 0);
		g_assert_cmpuint(losses.failed, >, 0);
		g_assert_cmpuint(errors.compared, ==, 3 * 2 * (28 + 3));
		g_assert_true(kvt_attention_errors_pass(&errors));
	}
}

/* A cap that is too small for one thing or another. */
static void test_cap(void)
{
	unsigned refused = 0;
	for (uint64_t cap = 4096; cap < 8 << 20; cap += 150000) {
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_experiment) e = experiment_of(&modes[7]);
		const memory_gpu_settings settings = { .cap = cap };
		gpu_world w = { 0 };
		kvt_turn turn;
		kvt_attention_errors errors;
		if (take_turn(&w, e, &settings, NULL, &turn, &errors, &error)) {
			g_assert_true(kvt_attention_errors_pass(&errors));
			break;
		}
		g_assert_nonnull(strstr(error->message, "no memory on the GPU for"));
		g_assert_nonnull(strstr(error->message, "expected a larger [emulation] hbm"));
		g_assert_null(strchr(error->message, '\n'));
		refused++;
	}
	g_assert_cmpuint(refused, >, 3);
	g_assert_cmpuint(refused, <, 50);
	for (unsigned refuse = 1; refuse < 18; refuse++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_experiment) e = experiment_of(&modes[7]);
		const memory_gpu_settings settings = { .refuse = refuse };
		gpu_world w = { 0 };
		kvt_turn turn;
		kvt_attention_errors errors;
		g_assert_false(take_turn(&w, e, &settings, NULL, &turn, &errors, &error));
		g_assert_nonnull(strstr(error->message, "no memory on the GPU for"));
	}
}

/* Whenever the GPU fails, the turn ends, and nobody takes its results for any. */
static void test_fault(void)
{
	unsigned before = 0, during = 0;
	for (uint64_t after = 1;; after += after < 12 ? 1 : 23) {
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_experiment) e = experiment_of(&modes[7]);
		const memory_gpu_settings settings = { .fail_after = after };
		gpu_world w = { 0 };
		kvt_turn turn;
		kvt_attention_errors errors;
		bool done = take_turn(&w, e, &settings, NULL, &turn, &errors, &error);
		if (done && w.status == 0)
			break;
		if (!done)
			g_assert_nonnull(strstr(error->message, "the GPU"));
		else
			g_assert_cmpint(w.status, ==, -EIO);
		*(done ? &during : &before) += 1;
	}
	g_assert_cmpuint(before, >, 5);
	g_assert_cmpuint(during, >, 5);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	tiny_model_make();
	g_test_add_data_func("/gpu-device/exact", NULL, test_exact);
	g_test_add_data_func("/gpu-device/exact-late", "late", test_exact);
	g_test_add_func("/gpu-device/wanted", test_wanted);
	g_test_add_func("/gpu-device/timeline", test_timeline);
	g_test_add_func("/gpu-device/losses", test_losses);
	g_test_add_func("/gpu-device/cap", test_cap);
	g_test_add_func("/gpu-device/fault", test_fault);
	int status = g_test_run();
	tiny_model_remove();
	return status;
}
