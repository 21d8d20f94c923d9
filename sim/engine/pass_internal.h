/*
 * pass_internal.h: a forward pass under way, for the files that run one: forward_pass.c (layers in
 * order, writes behind) and pass_loads.c (which load comes next). Nobody else's.
 */
#ifndef KVT_PASS_INTERNAL_H
#define KVT_PASS_INTERNAL_H

#include "sim/engine/page_chooser.h"
#include "sim/engine/page_read.h"
#include "sim/engine/recompute.h"

typedef struct kvt_pass kvt_pass;

/* One load: a run of a layer's tokens, under way, arrived, or being attended to. */
typedef struct kvt_load_window {
	kvt_pass *owner;
	struct kvt_load_window *next; /* in order of submission, or in the free list */
	unsigned layer;
	uint64_t tokens;
	uint64_t first; /* of them */
	unsigned place; /* where they land in the device's memory */
	bool arrived, kept;
	bool whole; /* no page of it has yet to be made again */
	kvt_page_read read;
} kvt_load_window;

/* A place that windows are loaded into in turn. */
typedef struct kvt_staging_buffer {
	kvt_pass *owner;
	struct kvt_staging_buffer *next; /* in the list of free ones */
	unsigned place;
} kvt_staging_buffer;

/* The next load of one kind of layers. */
typedef struct kvt_load_cursor {
	unsigned layer;
	uint64_t offset; /* within the layer's range */
} kvt_load_cursor;

/* The pages of one layer on their way out. */
typedef struct kvt_layer_write {
	kvt_pass *owner;
	kvt_extent extent;
	void *memory;
	kvt_io io;
} kvt_layer_write;

enum { KVT_PASS_HALVES = 2 };

struct kvt_pass {
	kvt_engine *engine;
	kvt_pass_spec spec;
	kvt_pass_result *result;
	kvt_callback done;
	void *done_arg;
	unsigned end_layer;                 /* nothing is loaded for it, nor attended to */
	kvt_load_cursor next[2];            /* the next load to submit of local, global layers */
	unsigned in_flight, kept_in_flight; /* loads submitted or in their turnaround */
	kvt_staging_buffer *buffers, *free_buffers;
	kvt_load_window *queue, **queue_end; /* submitted and not yet attended to, by layer */
	unsigned last_queued;                /* layer of the last one */
	kvt_load_window *free_windows;
	/* computation */
	unsigned layer;
	uint64_t layer_remaining; /* tokens of this layer that have to arrive */
	unsigned halves;
	uint64_t half_tokens[KVT_PASS_HALVES];
	kvt_token ready[KVT_PASS_HALVES];    /* the half's hidden state */
	kvt_token attended[KVT_PASS_HALVES]; /* its last partial attention in this layer */
	bool computed, computed_pending;
	kvt_layer_write *writes;
	unsigned writes_pending;
	unsigned loads_pending; /* submitted and not yet completed */
	bool failed, finished;
	bool recomputing; /* the first window of the queue waits for it */
	kvt_recompute_outcome recomputed;
	kvt_page_chooser *chooser; /* NULL: nothing is chosen, or everything ahead */
};

static inline bool kvt_pass_is_global(const kvt_pass *p, unsigned layer)
{
	return kvt_kv_layer_is_global(&p->engine->layout, layer);
}

/* The next load in order, if there is room for it, to be started unless it has `arrived` already;
 * NULL otherwise. Its `read` lacks what is to be done when it is over. */
kvt_load_window *kvt_pass_next_load(kvt_pass *p);

/* Puts a load behind those of its own layer and earlier ones. */
void kvt_pass_enqueue(kvt_pass *p, kvt_load_window *window);

#endif
