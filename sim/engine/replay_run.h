/*
 * replay_run.h: the state of a replay that is under way, shared by what sets it up (replay.c) and
 * what takes it through steps and layers (replay_course.c). For these two files only.
 */
#ifndef KVT_REPLAY_RUN_H
#define KVT_REPLAY_RUN_H

#include "sim/engine/replay.h"
#include "sim/engine/replay_transfer.h"

typedef struct kvt_replay kvt_replay;

/* A recorded layer: what has been decided for it. */
typedef struct kvt_recorded_layer {
	kvt_replay_reads *reads;             /* [n_heads], of the step that is prepared */
	kvt_extent_list prefetch, demand;    /* of the step that is prepared; that is attended */
	uint32_t prefetch_left, demand_left; /* above all pages that left for them */
	uint64_t attended;                   /* pages, at the step */
	uint64_t needed, needed_here, needed_moved; /* the same; as in kvt_residency_counts */
	kvt_time scan;                              /* of scoring for the step that is prepared */
	uint64_t arriving_mass;                     /* of pages moved for the step, all heads */
	bool closed;                                /* the step's token filled the last page up */
	uint32_t closed_page;
} kvt_recorded_layer;

/* A layer in time: a recorded one or a copy of it. */
typedef struct kvt_timed_layer {
	kvt_replay *run;
	uint32_t recorded, number; /* index of the recorded layer; in extents */
	bool first_copy;
	kvt_transfer prefetch, demand;
	uint32_t prefetch_left, demand_left; /* above all pages that left for them */
	GQueue *writes;                      /* kvt_transfer, under way, by rising page */
	unsigned awaited;                    /* fetches and places, while it attends */
	bool needs_place;                    /* of a page that is being written */
	const kvt_transfer *last;            /* came last of what it reads; NULL: nothing came */
	kvt_time began;                      /* attention */
} kvt_timed_layer;

struct kvt_replay {
	kvt_replay_source *source;
	const kvt_replay_settings *settings;
	const kvt_replay_world *world;
	kvt_replay_result *result;
	kvt_selector *selector;
	kvt_replay_device *device;
	kvt_residency **heads;    /* [recorded layer x n_heads + head] */
	kvt_access_log **futures; /* the same; NULL where not needed */
	kvt_access_log **logs;
	kvt_recorded_layer *recorded;
	kvt_timed_layer *layers;
	uint32_t n_layers;
	kvt_transfers *transfers;
	GPtrArray *spare_writes, *all_writes;
	uint32_t step, layer; /* at work */
	kvt_time began, step_began;
	kvt_timed_layer *attending; /* and waiting for what it reads */
	uint64_t listed_mass, lost_mass, late_mass, selected;
	uint64_t selected_runs;
	uint32_t *estimates; /* [recorded layer x n_heads + head], steps that had one */
	uint32_t *next_all;  /* [n_steps], see kvt_residency_spec */
	kvt_track track;
	GError *error;
};

/* Pages of one layer and KV head that HBM may hold at the step of a selection. */
uint32_t kvt_replay_capacity(const kvt_replay_settings *settings, const kvt_selection *selection);

/* What the storage tier is called. */
const char *kvt_replay_storage_name(const kvt_replay *run);

/* Whether the step attends to everything, not only its selection. */
bool kvt_replay_attends_to_all(const kvt_replay_settings *settings, const kvt_replay_present *step);

/* What to make selectors from. */
kvt_selector_spec kvt_replay_selector_spec(const kvt_replay_settings *settings);

/* Begins the first step; the rest happens on the loop. */
void kvt_replay_start(kvt_replay *run);

/* Ends the run with an error, which it takes over: nothing more is begun, and the loop runs out
 * when the I/Os under way are over. */
void kvt_replay_fail(kvt_replay *run, GError *error);

#endif
