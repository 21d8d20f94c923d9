/*
 * test_forward_pass.c: the pass on a device and a tier that record what they are asked: every
 * earlier token attended to exactly once in every layer, loads within their bounds, failures that
 * end the pass.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/engine/forward_pass.h"

enum { LAYERS = 8, WINDOW = 512, PAGE = 16 };

/* A device whose calls take a random time and which adds up what each layer attended to. */
typedef struct recorder {
	kvt_device base;
	kvt_loop *loop;
	kvt_rng rng;
	kvt_time free_at[KVT_STREAMS];
	uint64_t calls[KVT_WORK_KINDS];
	/* (query, key) pairs of earlier tokens, and new tokens that saw each other, by layer */
	uint64_t pairs[LAYERS], causal[LAYERS], merges[LAYERS];
	unsigned last_layer;
	bool out_of_order;
} recorder;

static kvt_token record_submit(kvt_device *base, kvt_stream stream, const kvt_work *work,
	const kvt_token *after, unsigned n_after)
{
	recorder *device = (recorder *)base;
	uint64_t batch = MAX(work->batch, 1);
	device->calls[work->kind]++;
	device->out_of_order |= work->layer < device->last_layer;
	device->last_layer = work->layer;
	if (work->kind == KVT_WORK_ATTENTION) {
		device->pairs[work->layer] += work->tokens * work->kv_tokens * batch;
		if (work->causal)
			device->causal[work->layer] += work->tokens * batch;
	}
	if (work->kind == KVT_WORK_MERGE)
		device->merges[work->layer]++;
	kvt_time start = MAX(kvt_loop_now(device->loop), device->free_at[stream]);
	for (unsigned i = 0; i < n_after; i++)
		start = MAX(start, after[i]);
	device->free_at[stream] =
		start + (kvt_time)kvt_rng_below(&device->rng, 1000) * KVT_MICROSECOND;
	return device->free_at[stream];
}

static void record_notify(kvt_device *base, kvt_token token, kvt_callback callback, void *arg)
{
	kvt_loop_at(((recorder *)base)->loop, token, callback, arg);
}

static const kvt_device_ops recorder_ops = {
	.name = "recorder",
	.submit = record_submit,
	.notify = record_notify,
};

/* A tier that takes a random time, counts what is under way, and fails one I/O when told to. */
typedef struct slow_tier {
	kvt_tier base;
	kvt_loop *loop;
	kvt_rng rng;
	unsigned in_flight, most_in_flight, submitted, refused;
	int fail_at;    /* the I/O that fails, from 0; -1: none */
	int refuse_mod; /* every n-th submission is refused once; 0: none */
	uint64_t read_pages[LAYERS];
} slow_tier;

static void slow_done(void *arg)
{
	kvt_io *io = arg;
	slow_tier *tier = io->tier_state;
	tier->in_flight--;
	io->done(io);
}

static int slow_submit(kvt_tier *base, kvt_io *io)
{
	slow_tier *tier = (slow_tier *)base;
	if (tier->refuse_mod > 0 && ++tier->refused % (unsigned)tier->refuse_mod == 0)
		return -EAGAIN;
	io->status = (int)tier->submitted == tier->fail_at ? -EIO : 0;
	io->bytes = 0;
	for (unsigned i = 0; i < io->n_extents && io->status == 0; i++) {
		io->bytes += kvt_extent_bytes(&io->extents[i]);
		if (io->op == KVT_IO_READ)
			tier->read_pages[io->extents[i].layer] += io->extents[i].n_pages;
	}
	tier->submitted++;
	tier->in_flight++;
	tier->most_in_flight = MAX(tier->most_in_flight, tier->in_flight);
	io->tier_state = tier;
	kvt_time wait = (kvt_time)kvt_rng_below(&tier->rng, 3000) * KVT_MICROSECOND;
	kvt_loop_after(tier->loop, wait, slow_done, io);
	return 0;
}

static const kvt_tier_ops slow_ops = { .name = "slow", .submit = slow_submit };

typedef struct world {
	kvt_llm llm;
	kvt_layer layers[LAYERS];
	recorder device;
	slow_tier tier;
	kvt_engine engine;
	unsigned ended;
} world;

/* A model of 8 layers, every 4th global, the others chunked over 512 tokens. */
static void world_init(world *w, uint64_t seed)
{
	memset(w, 0, sizeof *w);
	for (unsigned i = 0; i < LAYERS; i++)
		w->layers[i].attention = i % 4 == 3 ? KVT_ATTENTION_GLOBAL : KVT_ATTENTION_CHUNKED;
	w->llm = (kvt_llm){ .n_layers = LAYERS,
		.layers = w->layers,
		.window = WINDOW,
		.hidden = 256,
		.attention = { .query_heads = 4, .kv_heads = 2, .head_dim = 64 },
		.kv = { .format = KVT_DTYPE_BF16 } };
	kvt_loop *loop = kvt_virtual_loop_new();
	w->device =
		(recorder){ .base.ops = &recorder_ops, .loop = loop, .rng = kvt_rng_init(seed, 1) };
	w->tier = (slow_tier){
		.base.ops = &slow_ops, .loop = loop, .rng = kvt_rng_init(seed, 2), .fail_at = -1
	};
	w->engine =
		(kvt_engine){ .loop = loop, .device = &w->device.base, .storage = &w->tier.base };
	kvt_kv_layout_init(&w->engine.layout, &w->llm, 2, 1, PAGE);
}

static void on_end(void *arg)
{
	((world *)arg)->ended++;
}

static kvt_pass_result world_run(world *w, const kvt_pass_spec *spec)
{
	kvt_pass_result result;
	kvt_pass_start(&w->engine, spec, &result, on_end, w);
	g_assert_cmpuint(w->ended, ==, 0); /* never inline */
	kvt_loop_run(w->engine.loop);
	g_assert_cmpuint(w->ended, ==, 1);
	g_assert_cmpuint(w->tier.in_flight, ==, 0);
	kvt_loop_free(w->engine.loop);
	return result;
}

static uint64_t below(kvt_rng *rng, uint64_t n)
{
	return kvt_rng_below(rng, n);
}

static kvt_pass_spec random_spec(kvt_rng *rng)
{
	kvt_pass_spec spec = {
		.position = below(rng, 20000),
		.tokens = 1 + below(rng, 600),
		.overlap = (kvt_overlap)below(rng, 3),
		.head = below(rng, 2),
		.load_local = below(rng, 2),
		.depth = 1 + (unsigned)below(rng, 4),
		.window_tokens = PAGE * (1 + below(rng, 100)),
		.buffers = 1 + (unsigned)below(rng, 4),
		.turnaround = (kvt_time)below(rng, 2) * KVT_MICROSECOND,
		.write_out = below(rng, 2),
		.write_local = below(rng, 2),
	};
	spec.in_flight = 1 + (unsigned)below(rng, spec.buffers);
	spec.resident = below(rng, spec.position + 1) / PAGE * PAGE;
	spec.loaded = spec.resident + below(rng, spec.position - spec.resident + 1);
	spec.kept = below(rng, 3) > 0 ? below(rng, spec.position + 1) / PAGE * PAGE : spec.position;
	return spec;
}

/* Whatever the windows, buffers and times: the attention of every layer is complete and exact. */
static void test_exact(void)
{
	kvt_rng rng = kvt_rng_init(11, 0);
	for (unsigned round = 0; round < 400; round++) {
		world w;
		world_init(&w, round);
		w.tier.refuse_mod = round % 5 == 0 ? 3 : 0;
		kvt_pass_spec spec = random_spec(&rng);
		kvt_pass_result result = world_run(&w, &spec);
		g_assert_cmpint(result.status, ==, 0);
		g_assert_false(w.device.out_of_order);
		uint64_t halves = spec.overlap == KVT_OVERLAP_TWO_BATCH && spec.tokens > 1 ? 2 : 1;
		uint64_t second = halves == 2 ? spec.tokens / 2 : 0;
		uint64_t arriving = spec.loaded - spec.resident;
		for (unsigned layer = 0; layer < LAYERS; layer++) {
			bool global = layer % 4 == 3;
			if (!global) {
				/* as many pairs as the layer's mask has, but for rounding */
				g_assert_cmpuint(w.device.causal[layer], >=, spec.tokens);
				g_assert_cmpuint(w.device.merges[layer], ==, 0);
				continue;
			}
			/* every new token sees every earlier one; the second half the first */
			uint64_t pairs =
				spec.tokens * spec.position + second * (spec.tokens - second);
			g_assert_cmpuint(w.device.pairs[layer], ==, pairs);
			g_assert_cmpuint(w.device.causal[layer], ==, spec.tokens);
			uint64_t pages = (spec.loaded + PAGE - 1) / PAGE - spec.resident / PAGE;
			g_assert_cmpuint(w.tier.read_pages[layer], >=, arriving > 0 ? pages : 0);
		}
		unsigned bound = spec.depth + spec.in_flight + (spec.write_out ? LAYERS : 0);
		g_assert_cmpuint(w.tier.most_in_flight, <=, bound);
		g_assert_cmpuint(w.device.calls[KVT_WORK_HEAD], ==, spec.head);
		g_assert_cmpint(result.ended, >=, result.computed);
		uint64_t token_bytes = w.engine.layout.token_bytes;
		if (spec.write_out)
			g_assert_cmpuint(result.written_bytes, >=, 2 * spec.tokens * token_bytes);
		else
			g_assert_cmpuint(result.written_bytes, ==, 0);
	}
}

/* A failed read or write ends the pass with its error, whichever it is, and nothing is left. */
static void test_failures(void)
{
	kvt_rng rng = kvt_rng_init(12, 0);
	unsigned failed = 0;
	for (unsigned round = 0; round < 400; round++) {
		world w;
		world_init(&w, round);
		kvt_pass_spec spec = random_spec(&rng);
		w.tier.fail_at = (int)below(&rng, 12);
		kvt_pass_result result = world_run(&w, &spec);
		bool happened = (int)w.tier.submitted > w.tier.fail_at;
		g_assert_cmpint(result.status, ==, happened ? -EIO : 0);
		failed += happened;
	}
	g_assert_cmpuint(failed, >, 100);
}

/* All-reduces: two a layer and half, none when hidden or with one rank. */
static void test_overlap(void)
{
	const struct {
		kvt_overlap overlap;
		unsigned ranks;
		uint64_t calls;
	} cases[] = { { KVT_OVERLAP_NONE, 2, 16 }, { KVT_OVERLAP_TWO_BATCH, 2, 32 },
		{ KVT_OVERLAP_FULL, 2, 0 }, { KVT_OVERLAP_NONE, 1, 0 } };
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		world w;
		world_init(&w, 1);
		w.engine.layout.ranks = cases[i].ranks;
		kvt_pass_spec spec = { .tokens = 100, .overlap = cases[i].overlap, .depth = 1 };
		world_run(&w, &spec);
		g_assert_cmpuint(w.device.calls[KVT_WORK_ALL_REDUCE], ==, cases[i].calls);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/forward-pass/exact", test_exact);
	g_test_add_func("/forward-pass/failures", test_failures);
	g_test_add_func("/forward-pass/overlap", test_overlap);
	return g_test_run();
}
