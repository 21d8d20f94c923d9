/* large_pages.c: large pages of the least common multiple, cut into small ones of one kind. */
#include "sim/fleet/large_pages.h"

#include "sim/base/error.h"

enum { WHOLE = KVT_PAGE_KINDS_MAX, NONE = UINT32_MAX };

struct kvt_large_page {
	uint32_t next, previous; /* of the whole ones (next alone) or of the partial ones */
	uint32_t free;           /* first of the small pages that were given back */
	uint32_t n_free;         /* those and the ones never taken */
	uint32_t n_fresh;        /* never taken since it was cut: its last ones */
	uint32_t stamp;          /* of the owner that it was cut for */
	uint32_t kind;
};
typedef struct kvt_large_page large_page;

static uint64_t greatest_divisor(uint64_t a, uint64_t b)
{
	while (b > 0) {
		uint64_t rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

kvt_large_pages *kvt_large_pages_new(
	uint64_t bytes, const uint64_t *small_bytes, uint32_t n_kinds, GError **error)
{
	g_assert(n_kinds > 0 && n_kinds <= KVT_PAGE_KINDS_MAX);
	uint64_t large_bytes = 1, n_small = 0;
	for (uint32_t kind = 0; kind < n_kinds; kind++) {
		g_assert(small_bytes[kind] > 0);
		uint64_t factor =
			small_bytes[kind] / greatest_divisor(large_bytes, small_bytes[kind]);
		if (__builtin_mul_overflow(large_bytes, factor, &large_bytes))
			large_bytes = UINT64_MAX;
	}
	uint64_t n_large = bytes / large_bytes;
	if (n_large == 0) {
		kvt_error_usage(error,
			"%" G_GUINT64_FORMAT " bytes of memory for KV, expected %" G_GUINT64_FORMAT
			" or more: a page that all kinds of layers divide",
			bytes, large_bytes);
		return NULL;
	}
	for (uint32_t kind = 0; kind < n_kinds; kind++)
		n_small += large_bytes / small_bytes[kind];
	if (n_large >= UINT32_MAX / 2 / n_small) {
		kvt_error_usage(error,
			"%" G_GUINT64_FORMAT " bytes of memory in pages of %" G_GUINT64_FORMAT
			", expected larger pages",
			bytes, large_bytes);
		return NULL;
	}
	kvt_large_pages *pages = g_new0(kvt_large_pages, 1);
	pages->n_kinds = n_kinds;
	pages->n_large = pages->n_whole = (uint32_t)n_large;
	pages->large_bytes = large_bytes;
	for (uint32_t kind = 0; kind < n_kinds; kind++) {
		pages->small_bytes[kind] = small_bytes[kind];
		pages->per_large[kind] = (uint32_t)(large_bytes / small_bytes[kind]);
		pages->first_small[kind + 1] =
			pages->first_small[kind] + pages->n_large * pages->per_large[kind];
		pages->partial[kind] = NONE;
	}
	pages->small_next = g_new(uint32_t, pages->first_small[n_kinds]);
	pages->large = g_new0(large_page, n_large);
	for (uint32_t i = 0; i < n_large; i++)
		pages->large[i] =
			(large_page){ .next = i + 1 < n_large ? i + 1 : NONE, .kind = WHOLE };
	return pages;
}

void kvt_large_pages_free(kvt_large_pages *pages)
{
	if (!pages)
		return;
	g_free(pages->small_next);
	g_free(pages->large);
	g_free(pages);
}

static void link_partial(kvt_large_pages *pages, unsigned kind, uint32_t index)
{
	large_page *large = &pages->large[index];
	large->previous = NONE;
	large->next = pages->partial[kind];
	if (large->next != NONE)
		pages->large[large->next].previous = index;
	pages->partial[kind] = index;
}

static void unlink_partial(kvt_large_pages *pages, unsigned kind, uint32_t index)
{
	large_page *large = &pages->large[index];
	if (large->next != NONE)
		pages->large[large->next].previous = large->previous;
	if (large->previous != NONE)
		pages->large[large->previous].next = large->next;
	else
		pages->partial[kind] = large->next;
}

static void cut(kvt_large_pages *pages, unsigned kind, uint32_t index, uint32_t stamp)
{
	large_page *large = &pages->large[index];
	pages->whole = large->next;
	pages->n_whole--;
	pages->n_cut[kind]++;
	*large = (large_page){
		.free = NONE,
		.n_free = pages->per_large[kind],
		.n_fresh = pages->per_large[kind],
		.stamp = stamp,
		.kind = kind,
	};
	link_partial(pages, kind, index);
}

/* The large page that the next small one comes from, or NONE. */
static uint32_t choose(kvt_large_pages *pages, unsigned kind, kvt_page_owner *owner)
{
	uint32_t index = owner->large[kind];
	if (index != NONE) {
		const large_page *large = &pages->large[index];
		if (large->kind == kind && large->stamp == owner->stamp && large->n_free > 0)
			return index;
	}
	if (pages->n_whole == 0)
		return pages->partial[kind];
	index = pages->whole;
	cut(pages, kind, index, owner->stamp);
	owner->large[kind] = index;
	return index;
}

uint32_t kvt_large_pages_take(kvt_large_pages *pages, unsigned kind, kvt_page_owner *owner)
{
	uint32_t index = choose(pages, kind, owner);
	if (index == NONE)
		return KVT_NO_SMALL_PAGE;
	large_page *large = &pages->large[index];
	uint32_t page = large->free;
	if (page != NONE) {
		large->free = pages->small_next[page];
	} else {
		page = pages->first_small[kind] + (index + 1) * pages->per_large[kind] -
		       large->n_fresh;
		large->n_fresh--;
	}
	if (--large->n_free == 0)
		unlink_partial(pages, kind, index);
	pages->n_taken[kind]++;
	return page;
}

void kvt_large_pages_give(kvt_large_pages *pages, unsigned kind, uint32_t page)
{
	uint32_t index = (page - pages->first_small[kind]) / pages->per_large[kind];
	large_page *large = &pages->large[index];
	g_assert(large->kind == kind && large->n_free < pages->per_large[kind]);
	pages->small_next[page] = large->free;
	large->free = page;
	if (large->n_free++ == 0)
		link_partial(pages, kind, index);
	pages->n_taken[kind]--;
	if (large->n_free < pages->per_large[kind])
		return;
	unlink_partial(pages, kind, index);
	large->kind = WHOLE;
	large->next = pages->whole;
	pages->whole = index;
	pages->n_whole++;
	pages->n_cut[kind]--;
}

uint64_t kvt_large_pages_stranded(const kvt_large_pages *pages)
{
	uint64_t bytes = 0;
	for (uint32_t kind = 0; kind < pages->n_kinds; kind++)
		bytes += ((uint64_t)pages->n_cut[kind] * pages->per_large[kind] -
				 pages->n_taken[kind]) *
			 pages->small_bytes[kind];
	return bytes;
}
