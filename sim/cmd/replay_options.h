/*
 * replay_options.h: the options of `kvtier replay`: what they are called, and what their values
 * make of a replay's settings. Not what is done with a trace.
 */
#ifndef KVT_REPLAY_OPTIONS_H
#define KVT_REPLAY_OPTIONS_H

#include "sim/engine/replay.h"
#include "sim/engine/replay_trace.h"

/* What the options were given as; texts are NULL where they were not. */
typedef struct kvt_replay_options {
	char *steps, *budget, *hbm, *prefetch, *policy, *attention, *masses;
	char *query, *moves, *mass, *lead;
	char *tier, *model, *gpu, *system, *window, *timeline;
	int layer, depth;
	gint64 seed;
	gboolean rates, dense_prompt, compare;
	char *prefetchers, *policies; /* help on two options, which names what there is */
} kvt_replay_options;

/* The defaults. */
void kvt_replay_options_init(kvt_replay_options *given);
void kvt_replay_options_clear(kvt_replay_options *given);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_replay_options, kvt_replay_options_clear)

/* For the command line, a new array; `given` has to outlive it. */
GOptionEntry *kvt_replay_options_entries(kvt_replay_options *given);

/* What a replay does with them, and what it reads of the trace; an error of usage otherwise. */
gboolean kvt_replay_options_read(const kvt_replay_options *given, kvt_replay_settings *settings,
	kvt_replay_trace_spec *trace, GError **error);

#endif
