/*
 * large_pages.h: memory for pages of several sizes without fragmentation between them: Jenga's two
 * levels (Zhang et al. 2025, arXiv 2503.18292). Memory is cut into large pages of the least common
 * multiple of all sizes; a large page that is in use is cut into small pages of one kind, and is
 * whole again when the last of them is given back. Small pages of one owner are put together, so
 * that large pages become whole when a request ends. With one kind, both levels are the same.
 * Only numbers of pages: what is in them is block_allocator.h's. Every call is O(1).
 */
#ifndef KVT_LARGE_PAGES_H
#define KVT_LARGE_PAGES_H

#include <glib.h>
#include <stdint.h>

#define KVT_NO_SMALL_PAGE UINT32_MAX

enum { KVT_PAGE_KINDS_MAX = 3 };

typedef struct kvt_large_pages {
	uint32_t n_kinds, n_large;
	uint64_t large_bytes; /* lcm of small_bytes */
	uint64_t small_bytes[KVT_PAGE_KINDS_MAX];
	uint32_t per_large[KVT_PAGE_KINDS_MAX]; /* small pages of a large one */
	uint32_t first_small[KVT_PAGE_KINDS_MAX +
			     1];              /* a kind's small pages are numbered from here */
	uint32_t n_whole;                     /* large pages not in use */
	uint32_t n_taken[KVT_PAGE_KINDS_MAX]; /* small pages in use */
	uint32_t n_cut[KVT_PAGE_KINDS_MAX];   /* large pages in use for a kind */
	/* private */
	uint32_t *small_next;                 /* free small pages of a large one */
	struct kvt_large_page *large;         /* [n_large] */
	uint32_t whole;                       /* first of the whole ones */
	uint32_t partial[KVT_PAGE_KINDS_MAX]; /* first of those with free small pages */
} kvt_large_pages;

/* Where an owner's next small page of each kind should come from; zeroed by kvt_page_owner_init. */
typedef struct kvt_page_owner {
	uint32_t large[KVT_PAGE_KINDS_MAX];
	uint32_t stamp; /* differs between owners */
} kvt_page_owner;

static inline void kvt_page_owner_init(kvt_page_owner *owner, uint32_t stamp)
{
	for (unsigned kind = 0; kind < KVT_PAGE_KINDS_MAX; kind++)
		owner->large[kind] = UINT32_MAX;
	owner->stamp = stamp;
}

/* Memory of `bytes` for pages of small_bytes[kind]; what is less than a large page is left over. A
 * usage error when not even one large page fits, or there are too many small pages to number. */
kvt_large_pages *kvt_large_pages_new(
	uint64_t bytes, const uint64_t *small_bytes, uint32_t n_kinds, GError **error);
void kvt_large_pages_free(kvt_large_pages *pages);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_large_pages, kvt_large_pages_free)

/*
 * A small page of a kind, numbered across kinds from first_small[kind]: of the large page that the
 * owner took its last one from, else of a whole large page, else of any; KVT_NO_SMALL_PAGE when
 * there is none.
 */
uint32_t kvt_large_pages_take(kvt_large_pages *pages, unsigned kind, kvt_page_owner *owner);
void kvt_large_pages_give(kvt_large_pages *pages, unsigned kind, uint32_t page);

/* Small pages of a kind that could be taken now were no other kind to take any. */
static inline uint64_t kvt_large_pages_available(const kvt_large_pages *pages, unsigned kind)
{
	return (uint64_t)(pages->n_whole + pages->n_cut[kind]) * pages->per_large[kind] -
	       pages->n_taken[kind];
}

/* Bytes of free small pages in large pages that are in use: no other kind can have them. */
uint64_t kvt_large_pages_stranded(const kvt_large_pages *pages);

#endif
