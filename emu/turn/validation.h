/*
 * validation.h: one experiment against models and in real time, in turn, several times: how wrong
 * the model is, stage by stage. It judges by the experiment's own tolerances ([validate]) and knows
 * nothing of how either world runs.
 */
#ifndef KVT_VALIDATION_H
#define KVT_VALIDATION_H

#include "emu/calibrate/calibration.h"
#include "emu/turn/emulation.h"

/* [validate] of an experiment file. Shares of what was measured. */
typedef struct kvt_validate_settings {
	int64_t repeats, warm_ups;
	double ttft, tpot, stage; /* how far off the model may be */
	double least_share;       /* of TTFT or TPOT, below which a stage is not judged */
} kvt_validate_settings;

/* For `kvtier help`. */
extern const kvt_option kvt_validate_options[];

/* A figure in both worlds, seconds. */
typedef struct kvt_validation_row {
	char name[40];
	bool real; /* REAL in the emulation; otherwise a timed wait */
	kvt_measured model, measured;
	double share;     /* of TTFT, or of TPOT */
	double error;     /* model / measured - 1; NAN where nothing was measured */
	double tolerance; /* 0: shown, but not judged */
	bool within;      /* or not judged */
	/* the measured repeats lie farther from their median than the tolerance */
	bool noisy;
} kvt_validation_row;

/* Judges the turns of both worlds, n_model and n_measured of each, at least 1. A new array of
 * kvt_validation_row: ttft, tpot, then stages. */
GArray *kvt_validation_judge(const kvt_validate_settings *settings, const kvt_turn *model,
	unsigned n_model, const kvt_turn *measured, unsigned n_measured);

typedef struct kvt_validation {
	kvt_validate_settings settings;
	GArray *rows; /* kvt_validation_row */
	bool passed;  /* all are within their tolerance, and attention was exact */
	bool exact;
	/* cores that other programs used meanwhile, on average; NAN where the system does not say
	 */
	double other_cores;
	kvt_timeline *model, *measured; /* of the last repeat */
	char *notice;                   /* of the emulation; NULL: nothing */
	char *device;                   /* what attended, in the last repeat */
} kvt_validation;

void kvt_validation_clear(kvt_validation *validation);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_validation, kvt_validation_clear)

/* Runs both worlds in turn. The experiment's seed is moved by one each repeat, in both. False with
 * an error when one of them cannot run; a model that is wrong is in validation->passed. */
bool kvt_validation_run(kvt_experiment *experiment,
	void (*progress)(void *arg, unsigned done, unsigned total), void *progress_arg,
	kvt_validation *validation, GError **error);

/* What the command prints. A new reference. */
json_t *kvt_validation_to_json(const kvt_experiment *experiment, const kvt_validation *validation);

/* Both timelines as CSV: world, track, lane, stage, start_ms, end_ms, from when loading or
 * computing began. */
char *kvt_validation_timeline_csv(const kvt_validation *validation);

#endif
