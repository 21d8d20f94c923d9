/*
 * replay_setup.h: the system a replay runs in, and what its pages and layers cost there: the
 * geometry of the recorded model, or that of a language model for which the recorded layers stand.
 * It reads no trace.
 */
#ifndef KVT_REPLAY_SETUP_H
#define KVT_REPLAY_SETUP_H

#include <jansson.h>

#include "sim/engine/replay.h"
#include "sim/engine/system.h"

/* What is replayed. */
typedef struct kvt_replay_shape {
	uint32_t layers; /* recorded ones that are replayed */
	uint32_t kv_heads, head_dim, block_tokens;
	uint32_t pages; /* present at the last step, a layer and KV head */
} kvt_replay_shape;

typedef struct kvt_replay_setup {
	kvt_experiment *experiment;
	kvt_system *system;
	kvt_replay_shape shape;
	uint64_t page_bytes;
	unsigned copies;
	bool lead_given; /* the settings say what a step's other work takes */
	kvt_time layer_time, step_time;
	char *storage_name; /* the storage tier's, or "ONE+OTHER" */
} kvt_replay_setup;

/*
 * Reads the config as an experiment's (taking it over), builds its system, and works out the
 * costs. Without a [model] a page is K and V of 2 bytes a number, a layer is its attention alone,
 * and there is one GPU where nothing else was set. With one, every recorded layer stands for an
 * equal share of the model's global layers, a recorded KV head for an equal share of its KV heads;
 * local layers' KV stays in HBM. False with an error; clear the setup in any case.
 */
gboolean kvt_replay_setup_init(kvt_replay_setup *setup, kvt_config *config,
	const kvt_replay_shape *shape, kvt_timeline *timeline, GError **error);
void kvt_replay_setup_clear(kvt_replay_setup *setup);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_replay_setup, kvt_replay_setup_clear)

/* Fills in what the setup knows: page bytes, copies, rates and times. */
void kvt_replay_setup_apply(kvt_replay_setup *setup, kvt_replay_settings *settings);

/* Whether the pages that HBM may hold at the last step fit there beside the weights; always true
 * without a model. */
gboolean kvt_replay_setup_check(
	const kvt_replay_setup *setup, const kvt_replay_settings *settings, GError **error);

/* One token's work of a layer besides attention over its context. */
kvt_time kvt_replay_layer_work(kvt_work_cost *cost, unsigned layer);

/* Where the constants are from: an array of {name, value, source}. A new reference. */
json_t *kvt_replay_setup_provenance(const kvt_replay_setup *setup);

#endif
