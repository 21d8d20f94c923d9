/*
 * break_even.h: whether a context's KV is better loaded or computed again, by its length, in closed
 * form: step times of the prompt alone against latency and bytes over the rate of the way from each
 * tier, nothing else moving.
 */
#ifndef KVT_BREAK_EVEN_H
#define KVT_BREAK_EVEN_H

#include "sim/fleet/fleet.h"

typedef struct kvt_break_even {
	uint64_t tokens;
	double bytes, compute_s;
	double load_s[KVT_FLEET_TIERS_MAX]; /* by tier of the fleet's settings */
} kvt_break_even;

/* Of a fleet that has not run, or has. */
kvt_break_even kvt_break_even_of(const kvt_fleet *fleet, uint64_t tokens);

/* The fewest tokens, a power of two apart at first and then exactly, from which on loading from the
 * tier is faster; 0: it always is from one token on, UINT64_MAX: not up to `most`. */
uint64_t kvt_break_even_tokens(const kvt_fleet *fleet, unsigned tier, uint64_t most);

#endif
