/*
 * lost_pages.h: what a turn knows of pages that storage did not deliver: which were made again and
 * stay in HBM, and have yet to be stored again, how far through the layers their tokens have come,
 * what that cost, and how much more of it is worth while. It runs nothing; recompute.h does, and
 * settle.h stores them.
 */
#ifndef KVT_LOST_PAGES_H
#define KVT_LOST_PAGES_H

#include "sim/engine/page_read.h"
#include "sim/tier/page_runs.h"

/* Where a person wants to know. All 0 without faults. */
typedef struct kvt_lost_counts {
	uint64_t pages[KVT_LOSSES]; /* of one layer each; again when they are lost again */
	uint64_t rereads;           /* I/Os that found out which they were */
	uint64_t tokens;            /* distinct, that went through layers again */
	uint64_t token_layers;      /* and whole layers that each did, in all */
	kvt_time time;              /* that passes waited for it */
} kvt_lost_counts;

/* One piece of recomputation: tokens [position, position + tokens) go from the input of layer
 * `from` to the keys and values of layer `to`. */
typedef struct kvt_recompute_job {
	uint64_t position, tokens;
	unsigned from, to;
	bool edge; /* only for what comes behind it to see; not right itself */
} kvt_recompute_job;

/* Bounds of what is recomputed, beyond which it is better, or the only way, to compute the turn
 * from its beginning. */
typedef struct kvt_lost_limits {
	/* tokens times layers, a piece of few tokens counted as KVT_RECOMPUTE_LEAST of them, whose
	 * dense work takes about as long; UINT64_MAX: any, for what cannot be had otherwise */
	uint64_t token_layers;
	uint64_t room; /* bytes of HBM for hidden states, and for pages that else pass through */
} kvt_lost_limits;

enum { KVT_RECOMPUTE_LEAST = 256 };

/* `chunk_tokens`: of a piece, at most. The engine must outlive it. */
kvt_lost_pages *kvt_lost_pages_new(
	const kvt_engine *engine, uint64_t chunk_tokens, const kvt_lost_limits *limits);
void kvt_lost_pages_free(kvt_lost_pages *lost);

/* From now on whatever is lost is worth recomputing: there is no way back. */
void kvt_lost_pages_go_on(kvt_lost_pages *lost);

/* For a read (page_read.h): little where the last one brought nothing at all, as of a tier that is
 * gone. */
unsigned kvt_lost_pages_patience(const kvt_lost_pages *lost);

/* A read is over. */
void kvt_lost_pages_count(kvt_lost_pages *lost, const kvt_page_read *read);

/*
 * Appends the pieces, kvt_recompute_job, that make keys and values of `layer` for tokens [first,
 * end) again, in their order. Tokens that went through layers before go on from there. Where layers
 * below are local, what these tokens see has to be computed with them: keys and values there are
 * kept of the newest tokens only. With chunks that is from the chunk's beginning on, with k sliding
 * layers below from k windows before `first` on. `keep`: pages that were to pass through HBM will
 * stay. False when the limits do not allow as much.
 */
bool kvt_lost_pages_plan(kvt_lost_pages *lost, unsigned layer, uint64_t first, uint64_t end,
	bool keep, GArray *jobs);

/* A piece of the plan was done, or has taken so long that a pass of the turn waited for it. */
void kvt_lost_pages_done(kvt_lost_pages *lost, const kvt_recompute_job *job);
void kvt_lost_pages_waited(kvt_lost_pages *lost, kvt_time time);

/* Sketches were lost. */
void kvt_lost_pages_count_sketches(kvt_lost_pages *lost, int status, uint64_t n_pages);

/* Pages were made again: storage lacks them, of which each run is one of its own. */
void kvt_lost_pages_made(kvt_lost_pages *lost, const kvt_page_run *run);

/* All that were made since this was last called (kvt_page_run): the caller's. */
GArray *kvt_lost_pages_take_made(kvt_lost_pages *lost);

/* Pages of a layer that else pass through HBM were made again, and stay. */
void kvt_lost_pages_keep(kvt_lost_pages *lost, unsigned layer, uint64_t first, uint64_t end);

/* Whether the token's page of a layer stays so, and, in *end, up to where that is the answer. */
bool kvt_lost_pages_kept(const kvt_lost_pages *lost, unsigned layer, uint64_t token, uint64_t *end);

kvt_lost_counts kvt_lost_pages_counts(const kvt_lost_pages *lost);

/* Bytes of HBM, all ranks, that it takes beyond what a turn without losses does. */
uint64_t kvt_lost_pages_bytes(const kvt_lost_pages *lost);

#endif
