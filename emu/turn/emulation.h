/*
 * emulation.h: an experiment in real time: Turn 1 leaves real pages of keys and values in a real
 * tier, Turn 2 is the engine's own (sim/engine/turn.h) on a real loop, that tier, and a device, the
 * CPU or a GPU, that attends to the pages that came back. What it attended to is compared with
 * double precision. Dense parts of the model are timed waits, and marked so. A session may also go
 * on at another node (sim/engine/migration.h): then Turn 2 is several turns over the same pages.
 */
#ifndef KVT_EMULATION_H
#define KVT_EMULATION_H

#include <glib.h>
#include <jansson.h>

#include "emu/device/attention_check.h"
#include "emu/device/turn_tokens.h"
#include "emu/gpu/upload_tier.h"
#include "emu/turn/emulated_decode.h"
#include "sim/core/timeline.h"
#include "sim/engine/migration.h"

typedef enum kvt_emulated_device {
	KVT_EMULATED_CPU,
	KVT_EMULATED_CUDA,
} kvt_emulated_device;

typedef enum kvt_emulated_ranks {
	KVT_EMULATED_ALL_RANKS, /* of which there has to be one */
	KVT_EMULATED_ONE_RANK,
} kvt_emulated_ranks;

/* [emulation] of an experiment file. */
typedef struct kvt_emulation_settings {
	int device;         /* kvt_emulated_device */
	int64_t card;       /* CUDA's number of the GPU */
	uint64_t hbm;       /* bytes of its memory at most; 0: what is free */
	int precision;      /* kvt_cuda_precision */
	int ranks;          /* kvt_emulated_ranks */
	char *tier_name;    /* options are in [emulation NAME] */
	int64_t threads;    /* of the CPU device; 0: as many as there are processors */
	int64_t checks;     /* outputs that are compared; 0: all */
	kvt_time spin;      /* of the loop, before it sleeps */
	uint64_t run_bytes; /* of a write of Turn 1 */
	char *trace;        /* a recorded attention trace; "": random numbers */
} kvt_emulation_settings;

/* [emulation migrate]: kinds of tiers. */
typedef struct kvt_emulated_migrate_settings {
	char *home_tier; /* the first node's way to its pool; "": the same as the other one's */
	char *keep_tier; /* in the place of [migrate] keep_tier, where there is one */
} kvt_emulated_migrate_settings;

/* For `kvtier help`. */
extern const kvt_option kvt_emulation_options[];
extern const kvt_option kvt_emulated_migrate_options[];

/* Who looks on, and for tests what happens to the tier and the pages on their way. Members may be
 * NULL. */
typedef struct kvt_emulation_hooks {
	kvt_decision_log *decisions; /* records, or follows, what the engine decides in Turn 2 */
	/* Puts another tier around the one that was opened, or in its place; its options are in
	 * that section. */
	kvt_tier *(*wrap)(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier);
	/* Of a migration: a turn is about to begin. */
	void (*begins)(void *arg, kvt_migration_turn which);
	/* Turn 1's pages are stored, Turn 2 begins. */
	void (*stored)(void *arg, kvt_tier *tier);
	/* What a layer's attention came to; tokens as the emulation counts them. */
	kvt_attended attended;
	/* A GPU in the place of CUDA's, with a cap of bytes (0: its own); the emulation's from then
	 * on. */
	kvt_real_gpu *(*open_gpu)(void *arg, uint64_t cap, GError **error);
	/* The same of decode steps that choose pages. */
	void (*decode_stored)(void *arg, kvt_tier *tier);
	void (*decode_attended)(
		void *arg, const kvt_replay_call *call, const float *output, const float *lse);
	void *arg;
} kvt_emulation_hooks;

/* What keys, values and queries were. Members from `trace` on are 0 where they were random. */
typedef struct kvt_emulation_data {
	bool recorded, rounded; /* rounded: KV is not of the recording's half precision */
	char *trace, *model;    /* the file; the model that was recorded */
	uint32_t n_layers, *layers;
	uint64_t stored_tokens, query_tokens;
	uint64_t first_position, last_position; /* of the queries, in the recording */
	uint64_t left_out; /* tokens between those that have no queries, and are not there */
} kvt_emulation_data;

/* Turns of a migration, each compared with double precision. */
typedef struct kvt_emulated_migration {
	bool ran;
	kvt_migration migration;
	kvt_attention_errors errors[KVT_MIGRATION_TURNS];
} kvt_emulated_migration;

typedef struct kvt_emulation_result {
	kvt_turn turn; /* of a migration, the fetch; errors are its, too */
	kvt_emulated_migration migration;
	kvt_emulation_data data;
	kvt_emulated_decode decode; /* its `ran`: whether [emulation decode] asked for it */
	const char *tier;
	kvt_emulated_device device;
	const char *isa; /* of the CPU */
	unsigned threads;
	kvt_gpu_description gpu; /* or of the GPU */
	/* bytes of its memory that could be taken (0: any), and that were */
	uint64_t gpu_cap, gpu_peak;
	bool one_rank;
	uint64_t stored_bytes;  /* by Turn 1 */
	double stored, written; /* seconds of Turn 1: in all, and in writes of the tier */
	kvt_attention_errors errors;
	char *notice; /* what a person should know of the tier; NULL: nothing */
} kvt_emulation_result;

void kvt_emulation_result_clear(kvt_emulation_result *result);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_emulation_result, kvt_emulation_result_clear)

/*
 * Runs the experiment ([experiment] kind = resume or migrate) once. False with an error when it
 * cannot be emulated, when I/O fails, or a page does not come back as it was; attention that is
 * wrong all the same is in result->errors. `timeline` and `hooks` may be NULL. The tier is a real
 * one (real_tiers.h) or, for bounds, a modelled one.
 */
bool kvt_emulation_run(const kvt_experiment *experiment, const kvt_emulation_hooks *hooks,
	kvt_timeline *timeline, kvt_emulation_result *result, GError **error);

/* Whether attention, of all turns and of decode steps where there were any, was exact; else *errors
 * is that of which it was not. */
bool kvt_emulation_exact(const kvt_emulation_result *result, const kvt_attention_errors **errors);

/* What the emulation of an experiment is to be compared with: the world of the models that has as
 * many ranks, with a device of the kind. False with an error where the experiment's GPU is the
 * model of another kind. */
bool kvt_emulation_model_world(const kvt_experiment *experiment, kvt_world *world, GError **error);

/* What attended, in a line. A new string. */
char *kvt_emulation_device_text(const kvt_emulation_result *result);

/* What keys, values and queries were, in a line or two. A new string. */
char *kvt_emulation_data_text(const kvt_emulation_data *data);

/* What the command prints: turn_report.h's turn, each stage REAL or MODELLED, the comparison. A new
 * reference. */
json_t *kvt_emulation_to_json(const kvt_experiment *experiment, const kvt_emulation_result *result);

#endif
