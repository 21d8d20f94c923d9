/* page_store.c: capacity, visibility and discards, over a page map. */
#include "sim/tier/page_store.h"

#include <errno.h>

#include "sim/tier/page_map.h"

struct kvt_page_store {
	kvt_page_map *pages;
	uint64_t capacity, used, peak_taken;
	uint64_t reserved;        /* bytes of writes in flight */
	kvt_page_ticket *reading; /* reads in flight */
};

kvt_page_store *kvt_page_store_new(uint64_t capacity)
{
	kvt_page_store *store = g_new0(kvt_page_store, 1);
	store->pages = kvt_page_map_new();
	store->capacity = capacity;
	return store;
}

void kvt_page_store_free(kvt_page_store *store)
{
	if (!store)
		return;
	kvt_page_map_free(store->pages);
	g_free(store);
}

/* Whether `bytes` more than what is there and what is on its way fit. */
static bool fits(const kvt_page_store *store, uint64_t bytes)
{
	return bytes <= store->capacity - store->used - store->reserved;
}

static void note_peak(kvt_page_store *store)
{
	store->peak_taken = MAX(store->peak_taken, kvt_page_store_taken(store));
}

static int begin_read(kvt_page_store *store, kvt_page_ticket *ticket, const kvt_io *io)
{
	for (unsigned i = 0; i < io->n_extents; i++)
		if (!kvt_page_store_holds(store, io->tenant, &io->extents[i]))
			return -ENOENT;
	ticket->next = store->reading;
	if (ticket->next)
		ticket->next->previous = ticket;
	store->reading = ticket;
	return 0;
}

static void release_extents(kvt_page_store *store, const kvt_io *io, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		kvt_page_map_release(store->pages, io->tenant, &io->extents[i]);
}

static int begin_write(kvt_page_store *store, const kvt_io *io, uint64_t bytes)
{
	for (unsigned i = 0; i < io->n_extents; i++)
		if (!kvt_page_map_claim(store->pages, io->tenant, &io->extents[i])) {
			release_extents(store, io, i);
			return -EINVAL;
		}
	if (!fits(store, bytes)) {
		release_extents(store, io, io->n_extents);
		return -ENOSPC;
	}
	store->reserved += bytes;
	note_peak(store);
	return 0;
}

int kvt_page_store_begin(
	kvt_page_store *store, kvt_page_ticket *ticket, const kvt_io *io, uint64_t bytes)
{
	*ticket = (kvt_page_ticket){ .io = io, .bytes = bytes };
	return io->op == KVT_IO_READ ? begin_read(store, ticket, io)
				     : begin_write(store, io, bytes);
}

static void end_read(kvt_page_store *store, kvt_page_ticket *ticket)
{
	if (ticket->next)
		ticket->next->previous = ticket->previous;
	if (ticket->previous)
		ticket->previous->next = ticket->next;
	else
		store->reading = ticket->next;
}

int kvt_page_store_end(kvt_page_store *store, kvt_page_ticket *ticket, int status)
{
	const kvt_io *io = ticket->io;
	if (io->op == KVT_IO_READ) {
		end_read(store, ticket);
		return status == 0 && ticket->stale ? -ENOENT : status;
	}
	store->reserved -= ticket->bytes;
	for (unsigned i = 0; i < io->n_extents && status == 0; i++)
		store->used += kvt_page_map_add(store->pages, io->tenant, &io->extents[i]);
	release_extents(store, io, io->n_extents);
	return status;
}

static bool touches(const kvt_io *io, uint32_t tenant, const kvt_extent *extent)
{
	for (unsigned i = 0; io->tenant == tenant && i < io->n_extents; i++)
		if (kvt_extent_overlaps(&io->extents[i], extent))
			return true;
	return false;
}

uint64_t kvt_page_store_discard(kvt_page_store *store, uint32_t tenant, const kvt_extent *extent)
{
	if (!kvt_extent_valid(extent))
		return 0;
	uint64_t bytes = kvt_page_map_remove(store->pages, tenant, extent);
	store->used -= bytes;
	if (bytes > 0)
		for (kvt_page_ticket *t = store->reading; t; t = t->next)
			t->stale |= touches(t->io, tenant, extent);
	return bytes;
}

bool kvt_page_store_holds(const kvt_page_store *store, uint32_t tenant, const kvt_extent *extent)
{
	return kvt_extent_valid(extent) &&
	       kvt_page_map_count(store->pages, tenant, extent) == extent->n_pages;
}

bool kvt_page_store_has_room(kvt_page_store *store, uint32_t tenant, const kvt_extent *extent)
{
	if (!kvt_extent_valid(extent) || !kvt_page_map_claim(store->pages, tenant, extent))
		return false;
	uint64_t present = kvt_page_map_count(store->pages, tenant, extent);
	kvt_page_map_release(store->pages, tenant, extent);
	return fits(store, (extent->n_pages - present) * extent->page_bytes);
}

bool kvt_page_store_preload(kvt_page_store *store, uint32_t tenant, const kvt_extent *extent)
{
	if (!kvt_page_store_has_room(store, tenant, extent))
		return false;
	store->used += kvt_page_map_add(store->pages, tenant, extent);
	note_peak(store);
	return true;
}

uint64_t kvt_page_store_used(const kvt_page_store *store)
{
	return store->used;
}

uint64_t kvt_page_store_taken(const kvt_page_store *store)
{
	return store->used + store->reserved;
}

uint64_t kvt_page_store_peak_taken(const kvt_page_store *store)
{
	return store->peak_taken;
}
