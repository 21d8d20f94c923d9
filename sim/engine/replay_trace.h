/*
 * replay_trace.h: a recorded attention trace as what a replay reads: which of its layers and steps,
 * and where masses are from. Its time is the reader's, kept apart from the engine's.
 */
#ifndef KVT_REPLAY_TRACE_H
#define KVT_REPLAY_TRACE_H

#include "sim/engine/replay_source.h"
#include "traces/attention_trace.h"

/* Recorded rows end at 0.99 of the mass or 1,024 pages. */
typedef enum kvt_replay_masses {
	KVT_REPLAY_MASSES_AUTO,       /* recorded rows, recomputed where one lists fewer pages than
					 the budget selects */
	KVT_REPLAY_MASSES_RECORDED,   /* recorded rows; pages they leave out count as none */
	KVT_REPLAY_MASSES_RECOMPUTED, /* from queries and keys, of every page */
} kvt_replay_masses;

/* "auto", "recorded", "recomputed", NULL. */
extern const char *const kvt_replay_masses_names[];

typedef struct kvt_replay_trace_spec {
	int64_t layer;                 /* its number in the model; -1: all that were recorded */
	uint64_t first_step, end_step; /* steps first_step .. end_step - 1; end 0: to the last */
	int masses;                    /* kvt_replay_masses */
} kvt_replay_trace_spec;

typedef struct kvt_replay_trace_stats {
	uint64_t rows;            /* given out */
	uint64_t recomputed;      /* of them, from queries and keys */
	uint64_t too_short;       /* that list fewer pages than the budget selects, and cannot be
				     recomputed since the trace has no queries or keys */
	double seconds;           /* wall time of all of that */
	double processor_seconds; /* of this thread */
} kvt_replay_trace_stats;

/* A source over the trace, which must outlive it. NULL with an error when the trace lacks the layer
 * (the message names those it has) or the steps, or what recomputing needs. */
kvt_replay_source *kvt_replay_trace_new(
	kvt_attention_trace *trace, const kvt_replay_trace_spec *spec, GError **error);
void kvt_replay_trace_free(kvt_replay_source *source);

/* The number of the trace's step that is the source's step 0. */
uint64_t kvt_replay_trace_first_step(const kvt_replay_source *source);

kvt_replay_trace_stats kvt_replay_trace_get_stats(const kvt_replay_source *source);

#endif
