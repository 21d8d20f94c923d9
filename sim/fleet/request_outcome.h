/*
 * request_outcome.h: what became of each request of a run: when it came, was admitted, had its
 * first token and ended, or why it was refused. Filled by replica.h, read by reports.
 */
#ifndef KVT_REQUEST_OUTCOME_H
#define KVT_REQUEST_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/base/sim_time.h"
#include "sim/fleet/kv_manager.h"

/* Why a request was not served. */
typedef enum kvt_refusal {
	KVT_REFUSED_NOT,      /* it was, or will be */
	KVT_REFUSED_LARGE,    /* prompt and answer do not fit into HBM, even alone */
	KVT_REFUSED_RATE,     /* its tenant asks more often than it may */
	KVT_REFUSED_QUEUE,    /* as many of its tenant's wait as may */
	KVT_REFUSED_DEADLINE, /* its first token would come too late */
	KVT_REFUSALS,
} kvt_refusal;

/* "", "larger-than-cache", ... in that order. */
extern const char *const kvt_refusal_names[KVT_REFUSALS];

/* Times in ps since the run began; -1: not yet, or never. */
typedef struct kvt_request_outcome {
	kvt_time arrival, admitted, first_token, ended; /* refused: ended is when */
	uint32_t replica, preemptions;
	uint32_t generated; /* tokens */
	uint32_t refusal;   /* kvt_refusal */
	/* when it was first admitted: tokens of the prompt that were found, blocks of it that have
	 * ids, and where those that were found were */
	uint64_t hit_tokens;
	uint32_t lookup_blocks, hit_blocks[KVT_KV_LEVELS];
} kvt_request_outcome;

static inline bool kvt_request_outcome_served(const kvt_request_outcome *outcome)
{
	return outcome->ended >= 0 && outcome->refusal == KVT_REFUSED_NOT;
}

/* Time to first token, ps, from arrival; of one that was served. */
static inline kvt_time kvt_request_outcome_ttft(const kvt_request_outcome *outcome)
{
	return outcome->first_token - outcome->arrival;
}

/* Time per output token after the first, ps, mean of the request; 0 when there is only one. */
static inline kvt_time kvt_request_outcome_tpot(const kvt_request_outcome *outcome)
{
	if (outcome->generated < 2)
		return 0;
	return (outcome->ended - outcome->first_token) / (outcome->generated - 1);
}

#endif
