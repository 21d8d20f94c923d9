/* extent_list.h: a list of pages to be moved, kept as runs: neighbours added in rising order become
 * one extent, which a tier moves in one go. It owns its memory and keeps it when it is cleared. */
#ifndef KVT_EXTENT_LIST_H
#define KVT_EXTENT_LIST_H

#include "sim/tier/tier.h"

typedef struct kvt_extent_list {
	kvt_extent *extents;
	unsigned n, allocated;
	uint64_t pages;
} kvt_extent_list;

/* Appends n_pages >= 1 pages from `first_page` on; context, layer and page_bytes are the list's
 * owner's to keep equal for one page. A list begins as { 0 }. */
void kvt_extent_list_add(kvt_extent_list *list, const kvt_extent *extent);

/* Copies another list's extents, with `layer` in place of theirs. */
void kvt_extent_list_copy(kvt_extent_list *list, const kvt_extent_list *from, uint32_t layer);

static inline void kvt_extent_list_clear(kvt_extent_list *list)
{
	list->n = 0;
	list->pages = 0;
}

void kvt_extent_list_free(kvt_extent_list *list); /* what it owns, not itself */

#endif
