/*
 * resubmit.h: for tiers that are made of other tiers: gets an I/O that the outer tier has accepted
 * into an inner one that may say -EAGAIN. What the inner tier refuses waits in order, and is
 * offered again whenever an I/O of this queue completes there. The inner tier is the queue's alone,
 * so there is one to come.
 */
#ifndef KVT_RESUBMIT_H
#define KVT_RESUBMIT_H

#include "sim/tier/tier.h"

typedef struct kvt_resubmit {
	kvt_loop *loop;
	kvt_tier *tier;
	kvt_io *first, *last; /* refused for the moment, linked by kvt_io.next */
	kvt_io *invalid;      /* refused for good, the same: to be completed with the error */
	unsigned under_way;
	kvt_event report; /* of what is invalid */
} kvt_resubmit;

void kvt_resubmit_init(kvt_resubmit *queue, kvt_loop *loop, kvt_tier *tier);

/* Cancels what is scheduled; waiting I/Os are dropped. */
void kvt_resubmit_clear(kvt_resubmit *queue);

/* Submits now, or refuses with -EAGAIN as the inner tier does and when others wait. */
int kvt_resubmit_try(kvt_resubmit *queue, kvt_io *io);

/* Submits now or later. An I/O that the inner tier then finds invalid completes with -EINVAL. */
void kvt_resubmit_add(kvt_resubmit *queue, kvt_io *io);

/* To be called from the done of every I/O that went through here, at its end. */
void kvt_resubmit_completed(kvt_resubmit *queue);

#endif
