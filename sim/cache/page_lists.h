/*
 * page_lists.h: several queues of pages threaded through two arrays, from the youngest page to the
 * oldest; a page is in one of them at a time. What eviction policies are made of; it decides
 * nothing.
 */
#ifndef KVT_PAGE_LISTS_H
#define KVT_PAGE_LISTS_H

#include <glib.h>
#include <stdint.h>

typedef struct kvt_page_lists {
	uint32_t universe, n_lists;
	uint32_t *next, *previous; /* [universe + n_lists], towards older and younger; a list's
				      ends are at universe + list */
	uint32_t *count;           /* [n_lists], pages */
} kvt_page_lists;

/* Pages are below `universe`; all lists are empty. */
static inline void kvt_page_lists_init(kvt_page_lists *lists, uint32_t universe, uint32_t n_lists)
{
	size_t n = (size_t)universe + n_lists;
	*lists = (kvt_page_lists){ .universe = universe,
		.n_lists = n_lists,
		.next = g_new(uint32_t, n),
		.previous = g_new(uint32_t, n),
		.count = g_new0(uint32_t, n_lists) };
	for (uint32_t list = 0; list < n_lists; list++)
		lists->next[universe + list] = lists->previous[universe + list] = universe + list;
}

/* Frees what it owns, not itself. */
static inline void kvt_page_lists_clear(kvt_page_lists *lists)
{
	g_free(lists->next);
	g_free(lists->previous);
	g_free(lists->count);
}

/* Puts a page that is in no list at the young end of one. */
static inline void kvt_page_lists_push(kvt_page_lists *lists, uint32_t list, uint32_t page)
{
	uint32_t end = lists->universe + list, youngest = lists->next[end];
	lists->next[page] = youngest;
	lists->previous[page] = end;
	lists->previous[youngest] = page;
	lists->next[end] = page;
	lists->count[list]++;
}

/* Takes a page out of the list that it is in. */
static inline void kvt_page_lists_take(kvt_page_lists *lists, uint32_t list, uint32_t page)
{
	lists->next[lists->previous[page]] = lists->next[page];
	lists->previous[lists->next[page]] = lists->previous[page];
	lists->count[list]--;
}

/* The oldest page of a list, and the next younger one; UINT32_MAX: none. */
static inline uint32_t kvt_page_lists_oldest(const kvt_page_lists *lists, uint32_t list)
{
	uint32_t page = lists->previous[lists->universe + list];
	return page < lists->universe ? page : UINT32_MAX;
}

static inline uint32_t kvt_page_lists_younger(const kvt_page_lists *lists, uint32_t page)
{
	uint32_t younger = lists->previous[page];
	return younger < lists->universe ? younger : UINT32_MAX;
}

/* The oldest page of a list that is not pinned; UINT32_MAX: none. */
static inline uint32_t kvt_page_lists_oldest_free(
	const kvt_page_lists *lists, uint32_t list, const uint8_t *pinned)
{
	uint32_t page = kvt_page_lists_oldest(lists, list);
	while (page != UINT32_MAX && pinned[page])
		page = kvt_page_lists_younger(lists, page);
	return page;
}

#endif
