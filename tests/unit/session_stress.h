/*
 * session_stress.h: many sessions at once on one tier: each writes runs of pages, writes them
 * again, reads them back and discards them, of several tenants, sizes and priorities, while the
 * tier is too small for all of them and the ones not used for longest are thrown out. Every byte
 * that comes back follows from whose page it is and which version, and every answer must be the one
 * that the contract of tiers asks for: a page that is lost, of somebody else, old, or torn fails
 * the test.
 */
#ifndef SESSION_STRESS_H
#define SESSION_STRESS_H

#include "sim/tier/tier.h"

typedef struct stress_counts {
	double seconds;
	uint64_t writes, written_pages, written_bytes;
	uint64_t reads, read_pages, read_bytes; /* whole and right */
	uint64_t discards, discarded_pages, evicted_sessions;
	uint64_t missed;    /* reads of what was not there, or no longer */
	uint64_t full;      /* writes that found no room */
	uint64_t refused;   /* submissions that were told to come again */
	uint64_t failed;    /* I/Os with -EIO */
	uint64_t lost;      /* pages that went with a failed write */
	unsigned in_flight; /* I/Os at once, at most */
} stress_counts;

typedef struct stress_spec {
	unsigned sessions, tenants;
	uint64_t seed;
	uint64_t operations; /* in all, when not 0; or else */
	double seconds;
	kvt_time think; /* a session's longest pause, above 0 */
	/* I/Os may fail with -EIO, which is the test's own doing */
	bool faults;
	/* called so often a second, with what has been so far; 0: never */
	double samples;
	void (*sample)(void *arg, const stress_counts *so_far);
	void *sample_arg;
} stress_spec;

typedef struct session_stress session_stress;

/* The loop and the tier are the caller's; the tier is empty. */
session_stress *session_stress_new(kvt_loop *loop, kvt_tier *tier, const stress_spec *spec);
void session_stress_free(session_stress *stress);

/* Runs the loop until all sessions are done and nothing is under way. */
void session_stress_run(session_stress *stress, stress_counts *counts);

/* Everything that should be there is, and nothing else: by holds, by the bytes in use, and by
 * reading all of it. `tier` and `loop` may be others than before: a store that was opened again. */
void session_stress_verify(session_stress *stress, kvt_loop *loop, kvt_tier *tier);

/* Resident bytes of this process. */
uint64_t stress_resident_bytes(void);

#endif
