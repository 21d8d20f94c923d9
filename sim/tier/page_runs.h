/*
 * page_runs.h: runs of pages that lie in memory on their way out to a tier, some at a time, while
 * nothing else is under way on the loop. It makes none of them and decides nothing.
 */
#ifndef KVT_PAGE_RUNS_H
#define KVT_PAGE_RUNS_H

#include "sim/core/loop.h"
#include "sim/tier/tier.h"

typedef struct kvt_page_run {
	kvt_extent extent;
	void *memory; /* NULL: nowhere */
} kvt_page_run;

enum { KVT_PAGE_RUNS = 16 }; /* under way at once */

/* What was written, and what was not: sums. */
typedef struct kvt_page_writes {
	uint64_t bytes, failed_bytes;
	double seconds; /* that writes took */
} kvt_page_writes;

/*
 * Writes the array's runs (kvt_page_run), running the loop, and adds to *writes. What fails keeps
 * nothing else from being written, until none of KVT_PAGE_RUNS that follow each other is stored:
 * the rest is not tried then. 0, or the first negative errno.
 */
int kvt_page_runs_write(kvt_loop *loop, kvt_tier *tier, uint32_t tenant, unsigned priority,
	const GArray *runs, kvt_page_writes *writes);

#endif
