/*
 * access_log.h: the pages that one layer and KV head accesses, step by step, recorded so that
 * Belady's policy can look ahead in it and that its misses can be counted afterwards. All pages of
 * a step are accessed at once: they are in HBM together.
 */
#ifndef KVT_ACCESS_LOG_H
#define KVT_ACCESS_LOG_H

#include <glib.h>
#include <stdint.h>

typedef struct kvt_access_log kvt_access_log;

kvt_access_log *kvt_access_log_new(uint32_t n_pages);
void kvt_access_log_free(kvt_access_log *log);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_access_log, kvt_access_log_free)

/* A step: its n distinct pages below n_pages; how many pages HBM may hold then (>= n); the one of
 * them that decode has just made there (KVT_NO_PAGE: none); pages below `first` have been dropped,
 * and are not accessed from then on. */
typedef struct kvt_access_step {
	const uint32_t *pages;
	uint32_t n, capacity, born, first;
} kvt_access_step;

/* Appends a step; its pages are copied. */
void kvt_access_log_step(kvt_access_log *log, const kvt_access_step *step);

/* Accesses so far. */
uint64_t kvt_access_log_count(const kvt_access_log *log);

/* The first step after `step` that accesses the page; UINT64_MAX: none. For one page the steps
 * asked for must not fall. Nothing may be appended any more. */
uint64_t kvt_access_log_next(kvt_access_log *log, uint32_t page, uint32_t step);

/* The fewest pages that have to be fetched on demand, starting with an empty HBM (Belady). */
uint64_t kvt_access_log_belady_misses(kvt_access_log *log);

#endif
