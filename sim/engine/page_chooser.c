/* page_chooser.c: sketches on their way, queries known, and scoring, layer after layer. */
#include "sim/engine/page_chooser.h"

#include <errno.h>
#include <limits.h>

#include "sim/core/timeline.h"

/* One global layer. */
typedef struct chooser_layer {
	kvt_page_chooser *owner;
	unsigned layer;
	bool sketched, queried;
	kvt_extent extent;
	kvt_io io;
} chooser_layer;

struct kvt_page_chooser {
	kvt_engine *engine;
	const kvt_page_choice *choice;
	unsigned depth, priority;
	kvt_callback changed;
	void *arg;
	chooser_layer *layers; /* the global ones */
	unsigned n, loading, scored, in_flight;
	bool scoring;
	int status;
	uint64_t read_bytes;
};

kvt_page_chooser *kvt_page_chooser_new(kvt_engine *engine, const kvt_page_choice *choice,
	unsigned depth, unsigned priority, kvt_callback changed, void *arg)
{
	kvt_page_chooser *chooser = g_new(kvt_page_chooser, 1);
	*chooser = (kvt_page_chooser){ .engine = engine,
		.choice = choice,
		.depth = MAX(depth, 1),
		.priority = priority,
		.changed = changed,
		.arg = arg };
	const kvt_kv_layout *layout = &engine->layout;
	chooser->layers = g_new0(chooser_layer, layout->global_layers);
	for (unsigned layer = 0; layer < layout->llm->n_layers; layer++)
		if (kvt_kv_layer_is_global(layout, layer))
			chooser->layers[chooser->n++] = (chooser_layer){ .owner = chooser,
				.layer = layer,
				.sketched = choice->sketch_bytes == 0,
				.queried = !choice->late };
	return chooser;
}

void kvt_page_chooser_free(kvt_page_chooser *chooser)
{
	if (!chooser)
		return;
	g_assert(chooser->in_flight == 0);
	g_free(chooser->layers);
	g_free(chooser);
}

static void score(kvt_page_chooser *chooser);

static void score_done(void *arg)
{
	kvt_page_chooser *chooser = arg;
	chooser->scoring = false;
	chooser->scored++;
	score(chooser);
	chooser->changed(chooser->arg);
}

/* Chooses the next layer's pages, when all is there that it takes. */
static void score(kvt_page_chooser *chooser)
{
	while (!chooser->scoring && chooser->scored < chooser->n) {
		const chooser_layer *next = &chooser->layers[chooser->scored];
		if (!next->sketched || !next->queried)
			return;
		if (chooser->choice->score_time == 0) {
			chooser->scored++;
			continue;
		}
		chooser->scoring = true;
		kvt_loop_after(
			chooser->engine->loop, chooser->choice->score_time, score_done, chooser);
	}
}

static void load_next(kvt_page_chooser *chooser);

static void sketches_there(kvt_io *io)
{
	chooser_layer *layer = io->arg;
	kvt_page_chooser *chooser = layer->owner;
	chooser->in_flight--;
	chooser->read_bytes += io->bytes;
	if (io->status != 0 && chooser->status == 0)
		chooser->status = io->status;
	layer->sketched = io->status == 0;
	kvt_timeline_span_bytes(chooser->engine->timeline, chooser->engine->load_track,
		"load sketches", io->submitted, kvt_loop_now(chooser->engine->loop), io->bytes);
	load_next(chooser);
	score(chooser);
	chooser->changed(chooser->arg);
}

static void start_load(void *arg)
{
	chooser_layer *layer = arg;
	kvt_engine *engine = layer->owner->engine;
	int error = kvt_tier_submit(engine->storage, &layer->io);
	if (error == -EAGAIN) {
		kvt_loop_after(engine->loop, 10 * KVT_MICROSECOND, start_load, layer);
		return;
	}
	g_assert(error == 0);
	kvt_tier_commit(engine->storage);
}

static void load_next(kvt_page_chooser *chooser)
{
	if (chooser->choice->sketch_bytes == 0)
		return;
	while (chooser->status == 0 && chooser->loading < chooser->n &&
		chooser->in_flight < chooser->depth) {
		chooser_layer *layer = &chooser->layers[chooser->loading++];
		layer->extent = kvt_page_choice_sketches(
			chooser->choice, &chooser->engine->layout, layer->layer);
		layer->io = (kvt_io){ .op = KVT_IO_READ,
			.tenant = chooser->engine->tenant,
			.priority = chooser->priority,
			.extents = &layer->extent,
			.n_extents = 1,
			.done = sketches_there,
			.arg = layer };
		chooser->in_flight++;
		start_load(layer);
	}
}

void kvt_page_chooser_start(kvt_page_chooser *chooser)
{
	load_next(chooser);
	score(chooser);
}

void kvt_page_chooser_queries(kvt_page_chooser *chooser, unsigned layer)
{
	for (unsigned i = 0; i < chooser->n; i++)
		if (chooser->layers[i].layer == layer)
			chooser->layers[i].queried = true;
	score(chooser);
	chooser->changed(chooser->arg);
}

unsigned kvt_page_chooser_chosen(const kvt_page_chooser *chooser)
{
	return chooser->scored < chooser->n ? chooser->layers[chooser->scored].layer : UINT_MAX;
}

bool kvt_page_chooser_busy(const kvt_page_chooser *chooser)
{
	return chooser->in_flight > 0 || chooser->scoring;
}

int kvt_page_chooser_status(const kvt_page_chooser *chooser)
{
	return chooser->status;
}

uint64_t kvt_page_chooser_read_bytes(const kvt_page_chooser *chooser)
{
	return chooser->read_bytes;
}
