/*
 * turn_plan.h: the numbers of a turn before it runs: what is loaded and what is computed, whether
 * the KV fits, how much of it stays resident when it does not, which chunks stand for the others.
 */
#ifndef KVT_TURN_PLAN_H
#define KVT_TURN_PLAN_H

#include "sim/engine/system.h"

typedef struct kvt_turn_plan {
	uint64_t prefill_tokens; /* context and prompt */
	uint64_t stored_tokens;  /* of them, brought back from storage; 0 for a cold turn */
	uint64_t total_tokens;   /* with the output */
	bool recomputed;         /* something was stored, and the policy computes it all the same */
	/* what the policy weighs: bringing the stored tokens back, and computing them, seconds */
	double load_estimate, compute_estimate;
	/* Of the stored pages of global layers some are chosen, and the others neither loaded nor
	 * attended to. Tokens of global layers below are counted without those. */
	bool chooses;
	kvt_page_choice choice;
	kvt_selectivity_point selectivity; /* where `choice` is from */
	uint64_t skipped_tokens;           /* 0 when nothing is left out */
	uint64_t sketch_bytes;             /* in HBM at once */
	uint64_t window_tokens;            /* that are loaded, or written, at once */
	bool streamed;
	/* when streamed: of each global layer, [0, resident_tokens) stay in HBM, the newest
	 * tail_tokens too (they are being written), and the rest goes through `buffers` staging
	 * buffers of window_tokens */
	uint64_t resident_tokens, tail_tokens, buffers;
} kvt_turn_plan;

/* Tokens of the context whose KV is found in storage: whole pages. */
uint64_t kvt_turn_plan_storable(const kvt_experiment *experiment);

/* False with an error when not even the windows fit. */
bool kvt_turn_plan_make(
	kvt_turn_plan *plan, const kvt_system *system, kvt_run_kind kind, GError **error);

/*
 * Which of `chunks` chunks of `chunk` tokens to simulate, at most about `samples`, rising; *picks
 * is to be freed. Always the first two, the last two, and the two around the point where
 * streaming begins.
 */
unsigned kvt_turn_pick_chunks(const kvt_turn_plan *plan, uint64_t chunk, uint64_t chunks,
	uint64_t samples, uint64_t **picks);

#endif
