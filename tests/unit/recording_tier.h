/*
 * recording_tier.h: a tier around another that writes down what is submitted, in order, and may
 * change what was read before anybody sees it. For comparing decisions and for faults that no
 * checksum sees.
 */
#ifndef KVT_RECORDING_TIER_H
#define KVT_RECORDING_TIER_H

#include "sim/tier/tier.h"

typedef struct recording {
	GString *reads, *writes; /* a line an I/O */
	/* Called with what has been read; may be NULL. */
	void (*arrived)(void *arg, kvt_io *io);
	void *arg;
} recording;

/* Takes the tier over; the recording must outlive it. Pages of a tier that none can be declared in
 * are "declared" when they are there. */
kvt_tier *recording_tier_new(kvt_tier *inner, recording *log);

#endif
