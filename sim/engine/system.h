/*
 * system.h: an experiment's system: loop, links, tiers and device, put together from the models it
 * names, in virtual time. The emulation gives a world of real ones; the rest is the same.
 */
#ifndef KVT_SYSTEM_H
#define KVT_SYSTEM_H

#include "sim/core/timeline.h"
#include "sim/engine/decision_log.h"
#include "sim/engine/experiment.h"
#include "sim/engine/forward_pass.h"
#include "sim/tier/topology.h"

enum { KVT_SYSTEM_STORES_MAX = 2 };

typedef struct kvt_system kvt_system;

/* What a system is made of in the place of models. Members may be NULL: then it is the model. */
typedef struct kvt_world {
	kvt_loop *loop; /* stays its owner's, and must outlive the system */
	/* The i-th storage tier: `name` is what the experiment calls it. */
	kvt_tier *(*open_store)(
		void *arg, const kvt_tier_env *env, const char *name, GError **error);
	/* The pool of the node that a session comes to ([migrate] keep_tier). */
	kvt_tier *(*open_keep)(
		void *arg, const kvt_tier_env *env, const char *name, GError **error);
	/* Called when all else is there but the stores. */
	kvt_device *(*open_device)(void *arg, kvt_system *system, GError **error);
	/* Told, before anything runs, which KV stays in the device's memory: of each layer tokens
	 * [0, resident) and the `newest`. */
	bool (*make_room)(
		void *arg, kvt_system *system, uint64_t resident, uint64_t newest, GError **error);
	/* Puts the KV of [0, tokens) into the stores, before the turn begins. NULL: it is declared
	 * as being there. */
	bool (*store_context)(void *arg, kvt_system *system, uint64_t tokens, GError **error);
	void *arg;
	/* The context cannot be computed from its beginning: a turn that loses too much fails. */
	bool stored_only;
	/* Of the tensor-parallel group one rank is there: its KV, its memory and its links, and it
	 * waits for the others as ever. Figures of the group are that rank's then. */
	bool one_rank;
	/* Records or follows what the engine decides; the caller's. NULL: nothing does. */
	kvt_decision_log *decisions;
} kvt_world;

struct kvt_system {
	const kvt_experiment *experiment;
	kvt_world world;
	kvt_timeline *timeline; /* the caller's, may be NULL */
	kvt_loop *loop;
	kvt_network *network;
	kvt_topology topology;
	kvt_work_cost *cost;
	kvt_tier *hbm; /* KV pages only; weights are taken off its capacity */
	kvt_tier *stores[KVT_SYSTEM_STORES_MAX];
	unsigned n_stores;
	kvt_tier *storage; /* the store, or the stripe over both */
	kvt_tier *keep;    /* gets what is fetched, too; NULL: nothing does */
	kvt_device *device;
	kvt_engine engine; /* these, by way of a log of decisions where there is one */
	uint64_t weight_bytes, reserved_bytes; /* all ranks that are there: weights; activations */
};

/* Builds the system; without a language model there is no HBM tier, no device and no cost. NULL
 * with an error when the weights do not fit or a tier refuses. */
kvt_system *kvt_system_new(
	const kvt_experiment *experiment, kvt_timeline *timeline, GError **error);

/* The same in another world (copied). */
kvt_system *kvt_system_new_in(const kvt_world *world, const kvt_experiment *experiment,
	kvt_timeline *timeline, GError **error);

/* The rates of one group's GPUs, of the machine that they are in and of the storage targets, as
 * links are made of them. */
kvt_topology_spec kvt_system_topology_spec(
	const kvt_world *world, const kvt_experiment *experiment);

void kvt_system_free(kvt_system *system);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_system, kvt_system_free)

/* Bytes of HBM, all ranks, that KV pages may take. */
uint64_t kvt_system_kv_capacity(const kvt_system *system);

/* The most tokens of context whose KV fits into HBM beside the weights. */
uint64_t kvt_system_native_tokens(const kvt_system *system);

#endif
