/*
 * attention_check.h: what the emulation's attention came to, kept while a turn runs and compared
 * with double precision on the source's keys, values and queries afterwards. It reads no tier: what
 * went out to storage and came back is in the outputs.
 */
#ifndef KVT_ATTENTION_CHECK_H
#define KVT_ATTENTION_CHECK_H

#include "emu/device/kv_source.h"

typedef struct kvt_attention_check kvt_attention_check;

/* An output's. */
typedef struct kvt_attention_place {
	unsigned layer, kv_head;
	uint64_t position;
} kvt_attention_place;

/* Errors over all numbers of the outputs that were compared. */
typedef struct kvt_attention_errors {
	uint64_t outputs;  /* of a layer, query token and KV head, that were kept or chosen from */
	uint64_t compared; /* of these */
	double rms, most;  /* error of the emulation's, largest one; NaN where one was NaN */
	double resident;   /* root mean square of a computation in FP32 with everything in memory */
	double output;     /* the same of the outputs themselves */
	/* what of that the device's own arithmetic may be off, where it is not FP32; 0 where it is
	 */
	double bound;
	kvt_attention_place place; /* of the largest error */
	uint64_t numbers;          /* in what was compared */
} kvt_attention_errors;

/*
 * Compares one query token's output of one KV head, [heads][head_dim], with double precision over
 * the window, in which it sees all tokens and whose skip is 0. rms and resident are sums of squares
 * until kvt_attention_errors_end, and so is output.
 */
void kvt_attention_errors_add(kvt_attention_errors *errors, const kvt_attention_place *place,
	const kvt_attention_shape *shape, const float *queries, const kvt_attention_window *window,
	const float *output);
void kvt_attention_errors_end(kvt_attention_errors *errors);

/* Which of n things is the i-th when `wanted`, 1 to n, are wanted: the first, the last, and others
 * at a distance that has no divisor in common with n, so that where n is layers x heads x steps all
 * layers and heads are among them. Distinct. */
uint64_t kvt_attention_spread(uint64_t n, uint64_t wanted, uint64_t i);

/* Keeps outputs of query tokens; the source must outlive it. */
kvt_attention_check *kvt_attention_check_new(const kvt_kv_source *source);
void kvt_attention_check_free(kvt_attention_check *check);

/* Of tokens [first, end), in all layers, only those are kept of which one of `most` (0: all)
 * outputs, evenly spread, is. */
void kvt_attention_check_choose(
	kvt_attention_check *check, uint64_t first, uint64_t end, uint64_t most);

/* A kvt_attended_wanted (turn_tokens.h); arg is the check. */
bool kvt_attention_check_wants(void *check, unsigned layer, uint64_t position);

/* A kvt_attended (turn_tokens.h); arg is the check. */
void kvt_attention_check_keep(void *check, unsigned layer, uint64_t position, uint64_t tokens,
	const float *output, const float *lse);

/* Compares at most `most` of the outputs, evenly spread (0: all). */
void kvt_attention_check_compare(
	const kvt_attention_check *check, uint64_t most, kvt_attention_errors *errors);

/* Whether the emulation's error is that of rounding: no larger than the resident computation's, or
 * than the bound. */
bool kvt_attention_errors_pass(const kvt_attention_errors *errors);

#endif
