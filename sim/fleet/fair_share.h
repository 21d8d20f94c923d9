/*
 * fair_share.h: who gets how much of something that several want, at an instant: what is reserved
 * first, then class after class, by weight within one. All of it is given away as long as anyone
 * wants more. It remembers nothing.
 */
#ifndef KVT_FAIR_SHARE_H
#define KVT_FAIR_SHARE_H

#include <stdint.h>

typedef struct kvt_share_claim {
	double demand;   /* at least 0 */
	double reserved; /* what it gets if it wants it; together no more than there is */
	double weight;   /* > 0 */
	unsigned rank;   /* a lower one is served first */
	double given;    /* the answer, 0 .. demand */
} kvt_share_claim;

/* Max-min fair within a rank above what is reserved: extra / weight is the same for all of those
 * who want more than they got. O(n^2). */
void kvt_share_divide(kvt_share_claim *claims, unsigned n, double amount);

/* Jain's index of n values >= 0: 1 when all are equal, 1/n when one has all; 1 for none. */
double kvt_jain_index(const double *values, unsigned n);

#endif
