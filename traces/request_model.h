/*
 * request_model.h: a statistical model of request traces: sessions that begin at random and grow
 * their prompt turn by turn. It is fitted to a trace, written as INI, changed by hand, and traces
 * are generated from it. It has no sub-agents, and no draws depend on one another but where said.
 */
#ifndef KVT_REQUEST_MODEL_H
#define KVT_REQUEST_MODEL_H

#include "sim/base/config.h"
#include "sim/base/sim_time.h"
#include "traces/request_trace.h"

typedef enum kvt_request_arrivals {
	KVT_ARRIVALS_POISSON,
	KVT_ARRIVALS_GAMMA,  /* intervals are gamma distributed: cv below 1 regular, above bursty */
	KVT_ARRIVALS_BURSTS, /* two states with a Poisson rate each (MMPP) */
} kvt_request_arrivals;

typedef struct kvt_request_model {
	int arrivals;                 /* kvt_request_arrivals, of sessions */
	double session_rate;          /* 1/s */
	double arrival_cv;            /* of GAMMA */
	double burst_factor;          /* of BURSTS: the rate in one, over that between them */
	double burst_time, calm_time; /* s, means of exponential lengths */

	double turns, turns_cv;       /* requests a session, 1 + negative binomial */
	double interval, interval_cv; /* s from a request to the session's next; gamma */
	double pace; /* s an output token that answers took; 0: not known. What the interval has
			left of it is think time */

	double first, first_cv; /* tokens of a first prompt but for its shared prefix; lognormal */
	double growth, growth_cv; /* tokens that a prompt has more than the one before; lognormal */
	double output, output_cv; /* tokens of an answer; lognormal */
	double restart;           /* share of later prompts that are cut back, as by compaction: */
	double kept;            /* they keep that share of the tokens before, from the beginning, */
	double fresh, fresh_cv; /* and go on with so many new ones; lognormal */
	int64_t context;        /* tokens; prompts that would be longer begin anew */

	double shared;        /* share of sessions that begin with a shared prefix */
	int64_t prefixes;     /* of so many, alike likely */
	int64_t prefix;       /* tokens of each */
	int64_t block_tokens; /* 0: no blocks */
} kvt_request_model;

/* The section [requests] of an INI file. */
extern const kvt_option kvt_request_model_options[];

/* Reads that section of a file, of no file where path is NULL, or of text; other sections are
 * refused. `sets` are --set's, or NULL; `name` stands for the text in messages. */
bool kvt_request_model_load(
	const char *path, char *const *sets, kvt_request_model *model, GError **error);
bool kvt_request_model_parse(const char *name, const char *text, char *const *sets,
	kvt_request_model *model, GError **error);

/* The section as text that reads back the same. A new string. */
char *kvt_request_model_text(const kvt_request_model *model, const char *source);

/*
 * The model whose moments (means and coefficients of variation) are the trace's; arrivals are
 * GAMMA, or POISSON where the cv of intervals is within 5% of 1. Sub-agents are left out. Where all
 * sessions begin at once, as agentic traces do, the rate spreads them over the trace's duration.
 */
kvt_request_model kvt_request_model_fit(const kvt_request_trace *trace);

/*
 * A trace of `sessions` sessions, or (where that is 0) those that begin within `duration`. Requests
 * of a session wait for one another (after, think), and have arrivals for an open loop, too. The
 * n-th session is the same whatever comes after it.
 */
kvt_request_trace *kvt_request_generate(const kvt_request_model *model, uint64_t sessions,
	kvt_time duration, uint64_t seed, GError **error);

#endif
