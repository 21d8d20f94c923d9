/*
 * forward_pass.h: new tokens of one sequence go through all layers while the KV of earlier tokens
 * is in HBM, arrives from a storage tier, or streams through it in windows. This is the whole of
 * the engine: a chunk of cold prefill, the resume of Turn 2 and a decode step are passes that
 * differ in their numbers. It runs on any loop, tier and device.
 *
 * In every layer: projections, attention over what is resident and over the new tokens themselves,
 * then over each window as it arrives (partial results carry their log-sum-exp and are merged
 * exactly), output projection, all-reduce, MLP, all-reduce. Loads run ahead of the computation, in
 * order of layers, as far as buffers allow.
 *
 * With a choice only the chosen pages of global layers' stored tokens are loaded and attended to.
 */
#ifndef KVT_FORWARD_PASS_H
#define KVT_FORWARD_PASS_H

#include "sim/cache/kv_layout.h"
#include "sim/engine/device.h"
#include "sim/engine/page_choice.h"

/* How far all-reduces are hidden behind computation. */
typedef enum kvt_overlap {
	KVT_OVERLAP_NONE,      /* fully exposed: each waits for the one before */
	KVT_OVERLAP_TWO_BATCH, /* the tokens run as two halves, one computes while one reduces */
	KVT_OVERLAP_FULL,      /* takes no time at all: the lower bound */
} kvt_overlap;

typedef struct kvt_lost_pages kvt_lost_pages;

/* The world a pass runs in. */
typedef struct kvt_engine {
	kvt_loop *loop;
	kvt_device *device;
	kvt_tier *storage;
	kvt_timeline *timeline; /* may be NULL */
	kvt_kv_layout layout;
	uint32_t tenant;
	unsigned load_track; /* of the timeline */
} kvt_engine;

typedef struct kvt_pass_spec {
	uint64_t position; /* earlier tokens */
	uint64_t tokens;   /* new tokens, at least 1 */
	kvt_overlap overlap;
	bool head; /* ends with the LM head: produces a token */
	/* NULL: everything. `resident`, `loaded` and `kept` count chosen tokens one after another
	 * then, and what is newer than the stored ones after them. */
	const kvt_page_choice *choice;
	/* Of the earlier tokens in global layers, [0, resident) are in HBM, and
	 * [resident, loaded) arrive from storage; [loaded, position) are in HBM (recent ones). */
	uint64_t resident, loaded;
	bool load_local; /* local layers' windows arrive from storage too */
	/* Of what is loaded, global layers' tokens below `kept` and all of local layers stay where
	 * they land in HBM: a layer's at once, `depth` loads under way. The rest goes through
	 * `buffers` staging buffers of window_tokens, `in_flight` of them loading while the others
	 * are attended to. */
	uint64_t kept;
	unsigned depth;
	uint64_t window_tokens;
	unsigned buffers, in_flight;
	kvt_time turnaround; /* from a buffer's becoming free to its next load's submission */
	bool write_out;      /* the new tokens' pages go to storage; the pass ends when they are */
	bool write_local;    /* with write_out: local layers' windows too */
	unsigned read_priority, write_priority;
	/* What the turn knows of lost pages (lost_pages.h): such a page is a miss, and made again
	 * before it is attended to (recompute.h). NULL: a load that fails ends the pass. */
	kvt_lost_pages *lost;
	/* A piece of that, from the input of `first_layer` to keys and values of `last_layer`; in a
	 * choice, positions are held ones. Nothing of it is written out. */
	bool again;
	unsigned first_layer, last_layer;
} kvt_pass_spec;

typedef struct kvt_pass_result {
	/* 0, or the first failed I/O's negative errno; -ENODATA: so much was lost that a turn is
	 * better computed from its beginning */
	int status;
	kvt_time started, first_load, last_load; /* first_load: the first window was there */
	kvt_time computed;                       /* the last layer (and head) was over */
	kvt_time ended;                          /* computed, and everything written out */
	uint64_t loads, read_bytes, written_bytes;
} kvt_pass_result;

/* Runs a pass; done(arg) is called on the loop when it has ended, and *result is filled. The engine
 * and *result must outlive it. */
void kvt_pass_start(kvt_engine *engine, const kvt_pass_spec *spec, kvt_pass_result *result,
	kvt_callback done, void *arg);

#endif
