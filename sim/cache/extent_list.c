/* extent_list.c: runs of pages to be moved. */
#include "sim/cache/extent_list.h"

#include <string.h>

static kvt_extent *grow(kvt_extent_list *list, unsigned n)
{
	if (list->n + n > list->allocated) {
		list->allocated = MAX(2 * list->allocated, list->n + n + 16);
		list->extents = g_renew(kvt_extent, list->extents, list->allocated);
	}
	return &list->extents[list->n];
}

void kvt_extent_list_add(kvt_extent_list *list, const kvt_extent *extent)
{
	list->pages += extent->n_pages;
	if (list->n > 0) {
		kvt_extent *last = &list->extents[list->n - 1];
		if (last->context == extent->context && last->layer == extent->layer &&
			last->page_bytes == extent->page_bytes &&
			last->first_page + last->n_pages == extent->first_page) {
			last->n_pages += extent->n_pages;
			return;
		}
	}
	*grow(list, 1) = *extent;
	list->n++;
}

void kvt_extent_list_copy(kvt_extent_list *list, const kvt_extent_list *from, uint32_t layer)
{
	kvt_extent_list_clear(list);
	if (from->n > 0)
		memcpy(grow(list, from->n), from->extents, from->n * sizeof(*from->extents));
	list->n = from->n;
	list->pages = from->pages;
	for (unsigned i = 0; i < list->n; i++)
		list->extents[i].layer = layer;
}

void kvt_extent_list_free(kvt_extent_list *list)
{
	g_free(list->extents);
	*list = (kvt_extent_list){ 0 };
}
