/*
 * claims.h: the published figures an experiment answers to: its [claim ID] sections, the figures
 * of experiments/claims.csv, and the comparison with their low and high. It decides nothing about
 * how a turn runs.
 *
 *   [claim qwen-1m-turn2]     an id of claims.csv
 *   metric = resume.ttft      what of the run is compared
 *   fitted = yes              a constant was fitted to this very figure
 *   note = ...                what a reader should know
 */
#ifndef KVT_CLAIMS_H
#define KVT_CLAIMS_H

#include "sim/engine/turn.h"

typedef enum kvt_metric {
	KVT_METRIC_RESUME_TTFT,
	KVT_METRIC_RESUME_TOKENS_PER_S,
	KVT_METRIC_COLD_TTFT,
	KVT_METRIC_COLD_TOKENS_PER_S,
	KVT_METRIC_SPEEDUP,         /* cold TTFT over resume TTFT */
	KVT_METRIC_NATIVE_TOKENS,   /* tokens that fit into HBM */
	KVT_METRIC_EXTENSION,       /* `extended` tokens over those */
	KVT_METRIC_LONGEST_CONTEXT, /* tokens whose resume TTFT is within `limit` */
	KVT_METRIC_PEAK_PREFILL,    /* peak_analysis.h */
	KVT_METRIC_PEAK_DECODE,
	KVT_METRIC_PEAK_SWITCH,
	KVT_METRIC_PEAK_USERS,
} kvt_metric;

/* One published figure beside what was simulated, both in base units (s, tokens, x, tok/s). */
typedef struct kvt_claim {
	char *id, *unit, *system, *text; /* of claims.csv */
	double published_raw;            /* in `unit` */
	double unit_scale;               /* base units in one `unit` */
	int metric;
	bool fitted;
	char *note;
	kvt_time limit;
	int64_t extended;
	double simulated, low, high; /* base units */
	char *explanation;           /* what the simulation itself has to say; or NULL */
	char *experiment;            /* the file's name */
} kvt_claim;

/* The keys of a section [claim ID]; they fill a kvt_claim. */
extern const kvt_option kvt_claim_options[];

/* Everything a set of experiments found out. */
typedef struct kvt_claim_run {
	kvt_turn resume, cold;
	bool has_resume, has_cold;
} kvt_claim_run;

void kvt_claim_free(kvt_claim *claim);

/* Whether the experiment file has any [claim] section. */
bool kvt_claims_present(const char *path);

/*
 * Runs one experiment file for all its claims, and again for each end of each [uncertainty]
 * setting when `spread`. Appends kvt_claim pointers to `claims` (a GPtrArray with kvt_claim_free).
 * `published` is the path of claims.csv. *run, when not NULL, is what the turns took.
 */
bool kvt_claims_evaluate(const char *path, const char *published, const char *const *overrides,
	bool spread, GPtrArray *claims, kvt_claim_run *run, GError **error);

#endif
