/*
 * fault_tier.h: a wrapper around any tier that makes it fail at given rates, to test what is built
 * on tiers and to see what failures cost. Reproducible: each kind of fault has its own random
 * stream, so one rate does not change when the others strike. With all rates 0 it changes nothing.
 */
#ifndef KVT_FAULT_TIER_H
#define KVT_FAULT_TIER_H

#include "sim/tier/tier.h"

/* Rates are shares (0..1) of the I/Os that a fault of that kind strikes. */
typedef struct kvt_fault_settings {
	double busy_rate;        /* submit says -EAGAIN, of those while others are in flight */
	double delay_rate;       /* the I/O is held for `delay` before it begins */
	double read_error_rate;  /* a read ends with -EIO, all of it moved for nothing */
	double short_rate;       /* a read or write stops half-way; it ends with -EIO */
	double corrupt_rate;     /* one page of a read goes bad: -EBADMSG, for this read and all
				    later ones until the page is discarded or written again */
	double write_error_rate; /* a write ends with -EIO, and nothing of it is stored */
	double full_rate;        /* a write ends with -ENOSPC at once */
	kvt_time delay;
} kvt_fault_settings;

/* Fills a kvt_fault_settings: the keys of an experiment's section [fault]. */
extern const kvt_option kvt_fault_options[];

/* Whether any rate is above 0. */
bool kvt_fault_settings_any(const kvt_fault_settings *settings);

/* What has struck so far. */
typedef struct kvt_fault_counts {
	uint64_t busy, delayed, read_errors, short_ios, write_errors, full;
	uint64_t corrupted; /* pages that went bad */
	uint64_t bad_reads; /* reads that met a bad page */
} kvt_fault_counts;

/* Wraps `inner`, which becomes the wrapper's own: closing the wrapper closes it. The wrapper has
 * the inner tier's name and flags. */
kvt_tier *kvt_fault_tier_new(
	const kvt_tier_env *env, kvt_tier *inner, const kvt_fault_settings *settings);

kvt_fault_counts kvt_fault_tier_counts(const kvt_tier *tier);

#endif
