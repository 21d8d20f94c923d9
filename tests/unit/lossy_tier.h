/*
 * lossy_tier.h: a tier around another that does not deliver some pages: a read that has one of them
 * among its own moves everything, and fails as that page does. Which they are is a function of
 * where they belong, so two tiers of one kind lose the same, in whatever order they are asked. A
 * page may be lost until it is written again.
 */
#ifndef KVT_LOSSY_TIER_H
#define KVT_LOSSY_TIER_H

#include "sim/tier/tier.h"

typedef struct lossy_settings {
	uint64_t seed;
	double rate; /* share of the pages; 1: all */
	int status;  /* what reads of them end with; 0: of the three errors, one a page */
	/* pages that were written while `mends`, and come since then: g_direct_hash; the caller's.
	 * NULL: none */
	GHashTable *mended;
	bool mends;
	/* written down, for the test */
	uint64_t reads, failed;
} lossy_settings;

/* What a read of the page ends with; 0: it comes. */
int lossy_page(const lossy_settings *settings, unsigned layer, uint64_t page);

/* Takes the tier over; the settings must outlive it. */
kvt_tier *lossy_tier_new(kvt_tier *inner, lossy_settings *settings);

#endif
