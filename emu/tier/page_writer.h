/*
 * page_writer.h: Turn 1's way out: runs of pages are made in memory and written to a tier, some at
 * a time. What is in them is its caller's.
 */
#ifndef KVT_PAGE_WRITER_H
#define KVT_PAGE_WRITER_H

#include "sim/tier/page_runs.h"

typedef struct kvt_page_writer {
	kvt_loop *loop; /* a real one, with nothing else under way */
	kvt_tier *tier;
	uint32_t tenant;
	uint64_t run_bytes;                          /* of memory for a run */
	bool (*next)(void *arg, kvt_extent *extent); /* the next run; false: there is none */
	/* Its pages, into memory that is page-aligned; by several threads at once.
	 */
	void (*fill)(void *arg, const kvt_extent *extent, void *memory);
	void *arg;
} kvt_page_writer;

/* Writes all runs, and adds to *writes. 0, or the first failed write's negative errno, after which
 * no more are made. */
int kvt_page_writer_run(const kvt_page_writer *writer, kvt_page_writes *writes);

/* What a status of kvt_page_writer_run() other than 0 means, for a message. */
const char *kvt_page_writer_reason(int status);

#endif
