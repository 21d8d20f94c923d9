/*
 * fleet_settings.h: a fleet file: which model on how many replicas of which GPUs, what traffic they
 * get, how they schedule it, where KV is kept, what was promised and what it costs. Read through
 * option tables, which help shows; it runs nothing. The sections [model], [gpu], [host] and
 * [fabric] are an experiment's (experiment.h).
 */
#ifndef KVT_FLEET_SETTINGS_H
#define KVT_FLEET_SETTINGS_H

#include <glib.h>
#include <stdbool.h>

#include "sim/engine/experiment.h"
#include "sim/fleet/step_cost.h"
#include "sim/fleet/tenant_settings.h"
#include "sim/fleet/tier_homes.h"

typedef enum kvt_fleet_routing {
	KVT_ROUTE_ROUND_ROBIN,
	KVT_ROUTE_LEAST_LOADED,   /* by prompt tokens to compute and sequences that are there */
	KVT_ROUTE_CACHE_AFFINITY, /* the longest prefix that is there, unless too much waits */
} kvt_fleet_routing;

typedef enum kvt_fleet_loop {
	KVT_LOOP_OPEN,   /* requests come when the trace says */
	KVT_LOOP_CLOSED, /* requests come `think` after what they wait for has ended */
} kvt_fleet_loop;

typedef enum kvt_fleet_preemption { KVT_PREEMPT_RECOMPUTE, KVT_PREEMPT_SWAP } kvt_fleet_preemption;

typedef enum kvt_fleet_reload {
	KVT_RELOAD_LOAD,      /* whatever is found below HBM */
	KVT_RELOAD_RECOMPUTE, /* nothing is: it is computed again */
	KVT_RELOAD_AUTO,      /* whichever an estimate finds faster, request by request */
} kvt_fleet_reload;

typedef enum kvt_fleet_tier_kind {
	KVT_FLEET_DRAM,        /* each node's own */
	KVT_FLEET_NVME,        /* each node's own */
	KVT_FLEET_REMOTE_DRAM, /* of the storage targets, one for all nodes */
	KVT_FLEET_REMOTE_NVME, /* the same, on drives */
	KVT_FLEET_CXL,         /* memory behind a CXL port of each node */
	KVT_FLEET_TIER_KINDS,
} kvt_fleet_tier_kind;

/* Of what nodes have: each its own, or all one cache; of CXL: behind a switch. */
typedef enum kvt_fleet_scope { KVT_SCOPE_NODE, KVT_SCOPE_POOL } kvt_fleet_scope;

enum { KVT_FLEET_TIERS_MAX = 6 };

/* [tier NAME] */
typedef struct kvt_tier_settings {
	const char *name;  /* of the section, without "tier "; the config's */
	int kind;          /* kvt_fleet_tier_kind */
	int scope;         /* kvt_fleet_scope */
	int placement;     /* kvt_tier_placement, of a pool of dram or nvme */
	uint64_t capacity; /* bytes, a node's share of a pool; 0: of NVMe what its drives hold */
	double bandwidth;  /* of CXL, bytes/s of a node's ports, reads and writes together */
	kvt_time latency;  /* of CXL, of a load */
	char *policy;
	char *drive_name;
	int64_t drives; /* each node's; of remote ones all together */
	double compression;
	uint64_t io_bytes; /* of one read, write or copy; 0: a block in one layer on one rank */
	const kvt_drive *drive; /* of NVMe kinds; the model store's */
} kvt_tier_settings;

typedef struct kvt_fleet_settings {
	kvt_experiment *experiment; /* [model], [gpu], [host], [fabric]; owned, with the config */

	char *title; /* [fleet] */
	int64_t seed, replicas, replicas_a_node;
	int routing; /* kvt_fleet_routing */
	double affinity_slack;
	bool migration;
	kvt_time give_up;

	char *trace; /* [traffic] */
	int loop;    /* kvt_fleet_loop */
	double rate_scale, think_scale;
	int64_t users, requests;
	double warm_up;

	int64_t token_budget, chunk_tokens, max_sequences, ahead; /* [scheduler] */
	int preemption;                                           /* kvt_fleet_preemption */

	bool prefix_caching, layerwise, write_through, shared; /* [cache] */
	int reload;                                            /* kvt_fleet_reload */
	char *policy;
	int64_t block_tokens;

	kvt_step_settings step; /* [step] */

	kvt_time slo_ttft, slo_tpot; /* [slo] */
	double slo_share;

	double gpu_hour, node_hour, dram_hour, drive_hour, kwh, pue; /* [cost], US dollars */

	kvt_time telemetry_period; /* [telemetry], 0: off */

	bool adapt_on; /* [adapt] */
	kvt_time adapt_period;
	int64_t adapt_ahead_max;
	double adapt_high, adapt_low;

	kvt_tier_settings tiers[KVT_FLEET_TIERS_MAX];
	unsigned n_tiers;

	kvt_qos_settings qos;         /* [qos] */
	kvt_tenant_settings *tenants; /* [tenant NAME]; owned */
	unsigned n_tenants;           /* 0: all requests are alike, whosever they are */
} kvt_fleet_settings;

/* Reads the file, applies the overrides (NULL-terminated "section.key=value", may be NULL), loads
 * the models it names. NULL with an error at the first fault. The trace is not opened. */
kvt_fleet_settings *kvt_fleet_settings_load(
	const char *path, const char *const *overrides, GError **error);

/* The same of a config that has been read already, which it takes over, with models from a store
 * that runs share; NULL: from one of its own. */
kvt_fleet_settings *kvt_fleet_settings_new(
	kvt_config *config, kvt_model_store *models, GError **error);

void kvt_fleet_settings_free(kvt_fleet_settings *settings);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_fleet_settings, kvt_fleet_settings_free)

/* Whose settings those of a tenant of a trace are; NULL: it has none. */
const kvt_tenant_settings *kvt_fleet_settings_tenant(
	const kvt_fleet_settings *settings, const char *name);

/* Where the trace is: beside the fleet file, or in traces/samples of the project's data, or as
 * given. A new string. */
char *kvt_fleet_settings_trace_path(const kvt_fleet_settings *settings);

/* Whether one place serves all nodes alike: of storage targets, or behind a CXL switch. */
bool kvt_tier_settings_shared(const kvt_tier_settings *tier);

/* Whether it lies in several nodes, where each piece has its home. */
bool kvt_tier_settings_has_homes(const kvt_fleet_settings *settings, const kvt_tier_settings *tier);

/* Nodes that the replicas take. */
unsigned kvt_fleet_settings_nodes(const kvt_fleet_settings *settings);

/* One section of a fleet file and its keys, for help; the list ends with a NULL name. Those that
 * are an experiment's are not among them. */
typedef struct kvt_fleet_section {
	const char *name, *summary;
	const kvt_option *options;
	size_t offset; /* in kvt_fleet_settings, of the struct that the options fill */
} kvt_fleet_section;

const kvt_fleet_section *kvt_fleet_sections(void);

/* The sections that a fleet file shares with an experiment's, NULL-terminated. */
extern const char *const kvt_fleet_shared_sections[];

/* [tier NAME], which is no member of the settings. */
extern const kvt_option kvt_fleet_tier_options[];
extern const char *const kvt_fleet_tier_kind_names[];

#endif
