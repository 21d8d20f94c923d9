/*
 * emulated_decode.h: decode steps in real time that attend to chosen pages: the engine's replay
 * (sim/engine/replay.h) over a recording, on a real loop and a real tier, with attention on this
 * machine (page_device.h). Prefetchers score real keys with real queries; what is missing is read
 * from the tier; how much of the attention is kept is measured. Nothing of it is decided here.
 */
#ifndef KVT_EMULATED_DECODE_H
#define KVT_EMULATED_DECODE_H

#include "emu/device/attention_check.h"
#include "emu/loop/cores.h"
#include "emu/device/kv_recording.h"
#include "sim/engine/replay.h"
#include "sim/engine/system.h"

/* [emulation decode] of an experiment file. Shares are of the pages present. */
typedef struct kvt_emulated_decode_settings {
	char *prefetch, *policy;         /* names; prefetch "": there are no such steps */
	int attention, query;            /* kvt_replay_attention, kvt_replay_query */
	double budget, hbm, moves, mass; /* as in kvt_replay_settings */
	int64_t depth;
} kvt_emulated_decode_settings;

/* For `kvtier help`. */
extern const kvt_option kvt_emulated_decode_options[];

typedef struct kvt_emulated_decode_job {
	const kvt_emulated_decode_settings *settings;
	const kvt_experiment *experiment;
	const kvt_kv_recording *recording;
	uint64_t first_step, n_steps; /* of the recording */
	const kvt_world *world;       /* the loop, and open_store */
	const char *tier;             /* in messages */
	kvt_timeline *timeline;       /* may be NULL */
	unsigned threads;
	kvt_cores *cores; /* the caller's, to release: threads are placed on them if they suffice */
	/* called with memory that pages are read into */
	void (*region)(void *arg, void *memory, uint64_t bytes);
	void *region_arg;
	uint64_t checks, run_bytes; /* as in kvt_emulation_settings */
	/* for tests, may be NULL: pages are stored; what attention came to (page_device.h) */
	void (*stored)(void *arg, kvt_tier *tier);
	void (*attended)(
		void *arg, const kvt_replay_call *call, const float *output, const float *lse);
	void *arg;
} kvt_emulated_decode_job;

typedef struct kvt_emulated_decode {
	bool ran;
	kvt_replay_settings settings;
	kvt_replay_result replay;
	uint64_t first_position, last_position; /* of the steps' tokens, in the recording */
	uint64_t stored_bytes;
	double written; /* seconds of Turn 1's writes */
	/* against double precision over the pages that were attended to */
	kvt_attention_errors errors;
	double mass; /* mean share of all attention that lay on them, by log-sum-exps */
} kvt_emulated_decode;

/* False with an error when settings do not fit together, I/O fails or a page does not come back as
 * it was. Clear *decode in any case. */
bool kvt_emulated_decode_run(
	const kvt_emulated_decode_job *job, kvt_emulated_decode *decode, GError **error);
void kvt_emulated_decode_clear(kvt_emulated_decode *decode);

/* Where a step's time goes, seconds, means over the steps after the first. */
typedef struct kvt_emulated_step {
	double all, median;
	double planning;    /* of prefetchers: scoring, and sketches of new pages */
	double bookkeeping; /* of the replay: what leaves, and counts that no engine would keep */
	double attention, waiting; /* over all steps, the first one too */
	double modelled;           /* timed waits */
} kvt_emulated_step;

kvt_emulated_step kvt_emulated_decode_step(const kvt_emulated_decode *decode);

#endif
