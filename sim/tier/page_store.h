/*
 * page_store.h: the book-keeping behind a tier: which pages can be read, what writes in flight have
 * reserved, which reads were overtaken by a discard. It holds the tier contract's rules about
 * pages and capacity once, for modelled, composed and real tiers; it moves nothing and knows no
 * time.
 */
#ifndef KVT_PAGE_STORE_H
#define KVT_PAGE_STORE_H

#include "sim/tier/tier.h"

typedef struct kvt_page_store kvt_page_store;

/* What the store knows of an I/O in flight; part of the tier's own record of it, all zero before.
 */
typedef struct kvt_page_ticket {
	const kvt_io *io;
	uint64_t bytes;
	bool stale; /* of a read: pages of it were discarded */
	struct kvt_page_ticket *previous, *next;
} kvt_page_ticket;

/* `capacity` in bytes; UINT64_MAX: unbounded. */
kvt_page_store *kvt_page_store_new(uint64_t capacity);
void kvt_page_store_free(kvt_page_store *store);

/*
 * At submission, of an I/O that kvt_io_check took and that has `bytes` bytes. 0: the I/O may go
 * ahead, and must be ended. -ENOENT: a read of pages that are not there; -ENOSPC: a write without
 * room: the I/O completes with it. -EINVAL: a write of another page size than the layer's; submit
 * returns it. The I/O and its extents must stay until the end.
 */
int kvt_page_store_begin(
	kvt_page_store *store, kvt_page_ticket *ticket, const kvt_io *io, uint64_t bytes);

/* At completion, with the status the I/O came to; returns what it completes with: a write's pages
 * become readable when it is 0, a read whose pages were discarded gets -ENOENT. */
int kvt_page_store_end(kvt_page_store *store, kvt_page_ticket *ticket, int status);

/* The tier operations of the same names. The extent need not be valid, but is then unknown. */
uint64_t kvt_page_store_discard(kvt_page_store *store, uint32_t tenant, const kvt_extent *extent);
bool kvt_page_store_holds(const kvt_page_store *store, uint32_t tenant, const kvt_extent *extent);
bool kvt_page_store_preload(kvt_page_store *store, uint32_t tenant, const kvt_extent *extent);

/* Whether a preload of the run would succeed. */
bool kvt_page_store_has_room(kvt_page_store *store, uint32_t tenant, const kvt_extent *extent);

/* Bytes of readable pages; of these and of writes in flight, now and at most so far. */
uint64_t kvt_page_store_used(const kvt_page_store *store);
uint64_t kvt_page_store_taken(const kvt_page_store *store);
uint64_t kvt_page_store_peak_taken(const kvt_page_store *store);

#endif
