/*
 * page_heap.h: pages ordered by a key that may change, the least one first. What eviction policies
 * that rank pages are made of; it decides nothing.
 */
#ifndef KVT_PAGE_HEAP_H
#define KVT_PAGE_HEAP_H

#include <glib.h>
#include <stdint.h>

/* Compared as they stand: major, then minor, then the page's number. */
typedef struct kvt_page_key {
	uint64_t major, minor;
} kvt_page_key;

typedef struct kvt_page_heap {
	uint32_t count;
	uint32_t *pages;   /* [universe]; the first one is the least */
	uint32_t *place;   /* [universe], of a page in it */
	kvt_page_key *key; /* [universe], of a page in it */
	uint32_t *passed;  /* [universe], scratch */
} kvt_page_heap;

/* Pages are below `universe`; it holds none. */
void kvt_page_heap_init(kvt_page_heap *heap, uint32_t universe);
void kvt_page_heap_clear(kvt_page_heap *heap); /* what it owns, not itself */

void kvt_page_heap_add(kvt_page_heap *heap, uint32_t page, kvt_page_key key); /* not in it yet */
void kvt_page_heap_set(kvt_page_heap *heap, uint32_t page, kvt_page_key key); /* in it */
void kvt_page_heap_remove(kvt_page_heap *heap, uint32_t page);                /* in it */

/* The least page that is not pinned; UINT32_MAX: none. */
uint32_t kvt_page_heap_least_free(kvt_page_heap *heap, const uint8_t *pinned);

#endif
