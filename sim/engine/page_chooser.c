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
	kvt_page_read keys; /* of all its pages, where sketches are lost */
} chooser_layer;

struct kvt_page_chooser {
	kvt_engine *engine;
	const kvt_page_choice *choice;
	kvt_page_choice all; /* the same of every page */
	kvt_lost_pages *lost;
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
	kvt_lost_pages *lost, unsigned depth, unsigned priority, kvt_callback changed, void *arg)
{
	kvt_page_chooser *chooser = g_new(kvt_page_chooser, 1);
	*chooser = (kvt_page_chooser){ .engine = engine,
		.choice = choice,
		.all = *choice,
		.lost = lost,
		.depth = MAX(depth, 1),
		.priority = priority,
		.changed = changed,
		.arg = arg };
	chooser->all.chosen_pages = choice->stored_pages;
	chooser->all.run_pages = (double)choice->stored_pages;
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
	for (unsigned i = 0; i < chooser->n; i++)
		kvt_page_read_clear(&chooser->layers[i].keys);
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

/* A layer has its sketches, or cannot have them. */
static void end_load(chooser_layer *layer, int status)
{
	kvt_page_chooser *chooser = layer->owner;
	chooser->in_flight--;
	if (status != 0 && chooser->status == 0)
		chooser->status = status;
	layer->sketched = status == 0;
	load_next(chooser);
	score(chooser);
	chooser->changed(chooser->arg);
}

static void count_read(kvt_page_chooser *chooser, const char *what, kvt_time from, uint64_t bytes)
{
	chooser->read_bytes += bytes;
	kvt_timeline_span_bytes(chooser->engine->timeline, chooser->engine->load_track, what, from,
		kvt_loop_now(chooser->engine->loop), bytes);
}

/* Pages that are lost themselves have no sketch; those that are chosen all the same are found to be
 * when they are loaded. */
static void keys_there(kvt_page_read *read)
{
	chooser_layer *layer = read->arg;
	const kvt_page_run sketches = { layer->extent, NULL };
	count_read(layer->owner, "load for sketches", read->submitted, read->bytes);
	if (read->status == 0)
		kvt_lost_pages_made(layer->owner->lost, &sketches);
	end_load(layer, read->status);
}

/* Sketches are of keys: all of the layer's pages bring them back. */
static void load_keys(chooser_layer *layer)
{
	kvt_page_chooser *chooser = layer->owner;
	const kvt_kv_layout *layout = &chooser->engine->layout;
	kvt_page_read *read = &layer->keys;
	read->engine = chooser->engine;
	read->choice = &chooser->all;
	read->extent = kvt_kv_extent(
		layout, layer->layer, 0, chooser->all.stored_pages * layout->page_tokens);
	read->priority = chooser->priority;
	read->patience = kvt_lost_pages_patience(chooser->lost);
	read->done = keys_there;
	read->arg = layer;
	kvt_page_read_start(read);
}

static void sketches_there(kvt_io *io)
{
	chooser_layer *layer = io->arg;
	kvt_page_chooser *chooser = layer->owner;
	kvt_loss loss;
	count_read(chooser, "load sketches", io->submitted, io->bytes);
	if (io->status == 0 || !chooser->lost || !kvt_loss_of(io->status, &loss)) {
		end_load(layer, io->status);
		return;
	}
	kvt_lost_pages_count_sketches(chooser->lost, io->status, layer->extent.n_pages);
	load_keys(layer);
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
