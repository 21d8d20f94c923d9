/*
 * turn.h: the turns of a conversation on a system: a cold prefill of the whole context, the resume
 * of Turn 2 from stored KV, and the tokens that follow. Each is a series of forward passes; this
 * file decides their numbers (what is resident, what streams, how long a chunk is) and adds up.
 */
#ifndef KVT_TURN_H
#define KVT_TURN_H

#include "sim/engine/lost_pages.h"
#include "sim/engine/system.h"

/* What one turn took. Times in seconds of the sequence's own clock, bytes over all ranks. */
typedef struct kvt_turn {
	double ttft; /* from the request to the first token */
	double tpot; /* a further token, mean over the output */
	double tpot_median, tpot_p99;
	double tokens_per_s; /* output tokens over the whole turn: output / (ttft + output x tpot)
			      */
	/* of ttft */
	double first_window;  /* until the first stored pages were in HBM; 0: none were loaded */
	double loading;       /* from the first load's submission to the last's arrival */
	double after_loading; /* from the last arrival to the token */
	double waiting;       /* GPUs computed nothing: they waited for pages or for all-reduces */
	double work[KVT_WORK_KINDS]; /* busy time by kind of work */
	double written_out;          /* after ttft, until the turn's pages were stored */
	/* of a mean decode step */
	double step_waiting, step_work[KVT_WORK_KINDS];
	uint64_t read_bytes[KVT_SYSTEM_STORES_MAX], written_bytes[KVT_SYSTEM_STORES_MAX];
	uint64_t hbm_peak; /* weights, activations, KV pages and staging buffers */
	uint64_t loaded_tokens, computed_tokens; /* of context and prompt */
	uint64_t loads;                          /* windows or layers */
	bool streamed;            /* the KV did not fit: it goes through HBM in windows */
	bool recomputed;          /* the policy chose not to load, or too much was lost */
	uint64_t resident_tokens; /* of global layers, when streamed */
	/* pages that storage did not deliver, of all passes that were simulated; and seconds that
	 * were spent, of ttft, when a resume was given up because too much was lost */
	kvt_lost_counts lost;
	double given_up;
	kvt_page_writes stored_again; /* of these, after the first token, and after the others */
	kvt_page_writes kept;         /* by [migrate] keep_tier, after the first token */
	unsigned chunks_simulated, chunks;
	bool chooses;                      /* some pages of global layers are not loaded at all */
	kvt_selectivity_point selectivity; /* the choice, then */
	/* break-even of the resume policy, by estimate: seconds to load what is stored, to compute
	 * it, and the link rate, bytes/s, at which both take as long */
	double load_estimate, compute_estimate, break_even_rate;
} kvt_turn;

/*
 * Runs one turn on a fresh system: the context is stored before it begins (KVT_RUN_RESUME) or not
 * (KVT_RUN_COLD). Pages that storage does not deliver are recomputed (recompute.h); a resume that
 * lost more than that is worth is given up and the context computed from its beginning. What was
 * made again is stored again when the first token is there; that may fail. False with an error when
 * something does not fit, another write fails, or, with [storage] lost = fail, a read.
 */
bool kvt_turn_run(const kvt_experiment *experiment, kvt_run_kind kind, kvt_timeline *timeline,
	kvt_turn *turn, GError **error);

/* The same in another world (system.h). */
bool kvt_turn_run_in(const kvt_world *world, const kvt_experiment *experiment, kvt_run_kind kind,
	kvt_timeline *timeline, kvt_turn *turn, GError **error);

#endif
