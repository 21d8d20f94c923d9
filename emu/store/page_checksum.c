/* page_checksum.c: chooses how a page is summed. */
#include "emu/store/page_checksum.h"

#include <stdatomic.h>
#include <time.h>
#include <xxhash.h>

enum { TRIES = 5, TRIED_BYTES = 4096 };

typedef uint64_t (*checksum_way)(const void *page, uint64_t bytes);

static uint64_t by_library(const void *page, uint64_t bytes)
{
	return XXH3_64bits(page, bytes);
}

static int64_t clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The least of some times; the first warms up. */
static int64_t time_of(checksum_way way)
{
	const uint8_t page[TRIED_BYTES] = { 0 };
	volatile uint64_t sink;
	int64_t least = INT64_MAX;
	for (unsigned i = 0; i < TRIES; i++) {
		int64_t begin = clock_ns();
		sink = way(page, sizeof(page));
		int64_t time = clock_ns() - begin;
		least = time < least ? time : least;
	}
	(void)sink;
	return least;
}

static checksum_way fastest(void)
{
	const checksum_way others[] = { by_library, kvt_page_checksum_plain };
	checksum_way best = NULL;
	int64_t least = INT64_MAX;
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2")) {
		best = kvt_page_checksum_avx2;
		least = time_of(best);
	}
#endif
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		int64_t time = time_of(others[i]);
		/* those that come first are faster on real processors, whatever disturbed them */
		if (best && time >= least - least / 4)
			continue;
		best = others[i];
		least = time;
	}
	return best;
}

uint64_t kvt_page_checksum(const void *page, uint64_t bytes)
{
	/* who comes first finds out, threads at the same time each for itself: all ways agree */
	static _Atomic(checksum_way) chosen;
	checksum_way way = atomic_load_explicit(&chosen, memory_order_relaxed);
	if (!way) {
		way = fastest();
		atomic_store_explicit(&chosen, way, memory_order_relaxed);
	}
	return way(page, bytes);
}
