/*
 * experiment.h: an experiment file: which model, on which hardware, for which context, with which
 * cache. It is read through option tables (help shows them), and every later step works on the
 * struct it fills; it runs nothing.
 */
#ifndef KVT_EXPERIMENT_H
#define KVT_EXPERIMENT_H

#include <glib.h>
#include <stdbool.h>

#include "models/hardware.h"
#include "models/llm.h"
#include "models/model_store.h"
#include "sim/base/config.h"
#include "sim/engine/forward_pass.h"
#include "sim/engine/selectivity.h"
#include "sim/engine/work_cost.h"
#include "sim/tier/fault_tier.h"

typedef enum kvt_run_kind {
	KVT_RUN_RESUME,  /* Turn 2: the context's KV is stored and is brought back */
	KVT_RUN_COLD,    /* no cache: the whole context is computed */
	KVT_RUN_BOTH,    /* Turn 1 computed (and written out), then Turn 2 */
	KVT_RUN_PEAK,    /* closed-form peak analysis of one GPU (peak_analysis.h) */
	KVT_RUN_MIGRATE, /* Turn 2 on another node than Turn 1 (migration.h) */
} kvt_run_kind;

typedef enum kvt_resume_policy {
	KVT_RESUME_LOAD,
	KVT_RESUME_RECOMPUTE,
	KVT_RESUME_AUTO, /* whichever an estimate finds faster */
} kvt_resume_policy;

/* [peak]: what a closed-form analysis (peak_analysis.h) takes the machine to be. */
typedef struct kvt_peak_settings {
	int64_t parameters, output_tokens;
	double flops, memory_rate, link_rate; /* FLOP/s, bytes/s */
	double memory;
	bool binary_kv; /* whole GiB of KV are counted as GB */
} kvt_peak_settings;

typedef struct kvt_experiment {
	kvt_config *config; /* owned; tiers read their sections from it */
	char *title;        /* [experiment] */
	int kind;           /* kvt_run_kind */
	int64_t seed;

	char *model_name; /* [model] */
	int kv_format;    /* index into kv_format choices; 0: as the model file says */
	int64_t page_tokens;

	char *gpu_name; /* [gpu] */
	int64_t ranks;
	double memory_share;       /* of the GPU's memory that the engine may use */
	uint64_t activation_bytes; /* a rank, kept free for activations and the runtime */

	char *host_name; /* [host] */
	double checksum_rate, io_rate;
	bool gpu_direct;

	char *nic_name; /* [fabric] */
	int64_t nics, targets, target_nics;
	double fabric_efficiency; /* 0: what the NIC's file says */
	char *target_name;        /* host model of a target */

	int64_t context_tokens, prompt_tokens, output_tokens; /* [context] */
	double stored; /* share of the context whose KV is found */

	char *tier_name, *second_tier_name; /* [storage] */
	double second_share;
	int64_t nodes, replicas, dead_nodes;
	int lost_pages;            /* kvt_lost_policy */
	kvt_fault_settings faults; /* [fault]: of the storage tiers */

	int64_t chunk_tokens, prefill_samples; /* [prefill] */
	int overlap;                           /* kvt_overlap */
	bool write_out;
	double all_reduce_rate;

	char *home_tier, *keep_tier; /* [migrate] */

	int64_t reload_depth; /* [resume] */
	int resume_policy;
	kvt_time lookup;

	char *select_curve, *select_chooser, *select_layers; /* [select] */
	double select_mass;
	int select_scope; /* kvt_choice_scope */
	bool select_ahead, select_grown;
	uint64_t sketch_bytes;        /* a token and KV head */
	kvt_selectivity *selectivity; /* NULL: everything is loaded */

	int64_t window_tokens, buffers; /* [stream] */
	kvt_time turnaround;
	int stream_mode; /* auto, always, never */

	int decode_all_reduce; /* [decode] kvt_all_reduce */
	int64_t decode_samples;
	kvt_time step_overhead, kernel_overhead;

	kvt_peak_settings peak;

	kvt_model_store *models; /* a reference; these are its: */
	const kvt_llm *llm;
	const kvt_gpu *gpu;
	const kvt_host *host, *target;
	const kvt_nic *nic;
} kvt_experiment;

/* What becomes of a turn whose pages storage does not deliver. */
typedef enum kvt_lost_policy {
	KVT_LOST_RECOMPUTE,
	KVT_LOST_FAIL,
} kvt_lost_policy;

typedef enum kvt_stream_mode {
	KVT_STREAM_AUTO,
	KVT_STREAM_ALWAYS,
	KVT_STREAM_NEVER
} kvt_stream_mode;

/* Reads the file, applies the overrides (NULL-terminated "section.key=value", may be NULL), loads
 * the models it names. NULL with an error at the first fault. */
kvt_experiment *kvt_experiment_load(const char *path, const char *const *overrides, GError **error);

/* The same of a config that has been read already; takes it over. */
kvt_experiment *kvt_experiment_new(kvt_config *config, GError **error);

/* The same with models from a store that experiments share, which may be in several threads. */
kvt_experiment *kvt_experiment_new_with(
	kvt_config *config, kvt_model_store *models, GError **error);

/* The same, for what needs a system but perhaps no language model: [model] name may be left out,
 * and llm is NULL then. */
kvt_experiment *kvt_experiment_new_hardware(kvt_config *config, GError **error);

/* Reads only the sections of these names (NULL-terminated) and loads the models that they name; the
 * members of others stay 0 or NULL. What else the config has is the caller's to read and to check.
 * Takes the config over; models are from the store, NULL: from one of its own. */
kvt_experiment *kvt_experiment_new_parts(
	kvt_config *config, const char *const *names, kvt_model_store *models, GError **error);

void kvt_experiment_free(kvt_experiment *experiment);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_experiment, kvt_experiment_free)

/* Bytes of one GPU's memory that are left for KV beside the model's weights and what activations
 * take. A usage error when there are none. */
gboolean kvt_experiment_kv_room(const kvt_experiment *experiment, uint64_t *bytes, GError **error);

/* Where a file that the experiment names is: as it is given where that is an absolute path, beside
 * the experiment file, or in `folder` of the project's data; else where it would be beside the
 * experiment file. A new string. */
char *kvt_experiment_find_file(
	const kvt_experiment *experiment, const char *name, const char *folder);

/* One section of an experiment file and its keys, for help; the list ends with a NULL name. */
typedef struct kvt_experiment_section {
	const char *name;
	const char *summary;
	const kvt_option *options;
	size_t offset; /* in kvt_experiment, of the struct that the options fill */
} kvt_experiment_section;

const kvt_experiment_section *kvt_experiment_sections(void);

/* The option that a key of an experiment file is read by, of these sections or of a tier's;
 * [global] stands for every section. NULL: there is none. */
const kvt_option *kvt_experiment_option(const char *section, const char *key);

/* Where a setting is from, of the file's [sources]: for "section.key", else for its section; NULL
 * when it says nothing. The string belongs to the experiment. */
const char *kvt_experiment_source(
	const kvt_experiment *experiment, const char *section, const char *key);

/* The settings that the file itself makes (not defaults), as "section.key" with value and source:
 * calls `each` in file order. */
typedef void (*kvt_setting_callback)(
	void *arg, const char *section, const char *key, const char *value, const char *source);
void kvt_experiment_each_setting(
	const kvt_experiment *experiment, kvt_setting_callback each, void *arg);

#endif
