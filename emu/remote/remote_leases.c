/*
 * remote_leases.c: which pages the node has leased, where they lie and until when: by layer, so
 * that a later read of them asks nobody. A lease goes back when nothing is found by it and nobody
 * reads by it; one that has run out is forgotten.
 */
#include "emu/remote/remote_tier_internal.h"

/* Grants of one connection that are kept; older ones go back. */
enum { GRANTS_MOST = 1 << 14 };

static uint64_t layer_key(const kvt_extent *run)
{
	return (uint64_t)run->context << 32 | run->layer;
}

remote_layer *kvt_remote_layer(remote_link *link, const kvt_extent *run)
{
	uint64_t key = layer_key(run);
	remote_layer *layer = g_hash_table_lookup(link->layers, &key);
	if (!layer) {
		layer = g_new0(remote_layer, 1);
		layer->key = key;
		layer->all = (kvt_extent){ run->context, run->layer, 0, UINT64_MAX, 1 };
		g_hash_table_add(link->layers, layer);
	}
	return layer;
}

/* Reads begin in the first half of a lease: the other is for them to wait for others and to move.
 * One that comes too late costs the connection. */
static bool lasts(const remote_link *link, const remote_grant *grant, kvt_time now)
{
	kvt_time lease = link->welcome.lease_ms * KVT_MILLISECOND;
	return now < grant->expires - lease / 2;
}

static void unlist(remote_link *link, remote_grant *grant)
{
	*(grant->earlier ? &grant->earlier->later : &link->oldest_grant) = grant->later;
	*(grant->later ? &grant->later->earlier : &link->newest_grant) = grant->earlier;
	grant->earlier = grant->later = NULL;
	link->n_grants--;
}

static void check_grant(remote_link *link, remote_grant *grant)
{
	if (grant->cached > 0 || grant->pins > 0)
		return;
	bool told = link->state == REMOTE_UP && kvt_loop_now(link->tier->loop) < grant->expires;
	if (told) {
		g_array_append_val(link->releases, grant->lease);
		if (link->flush == 0)
			kvt_remote_flush_soon(link);
	}
	g_free(grant);
}

/* Fewer pages are found by it. */
static void lose_pages(remote_link *link, remote_grant *grant, uint64_t pages)
{
	grant->cached -= pages;
	if (grant->cached > 0)
		return;
	unlist(link, grant);
	check_grant(link, grant);
}

/* Pages [first, end) are not found any more: those of one grant, or of all (NULL). */
static void uncache(remote_link *link, remote_layer *layer, uint64_t first, uint64_t end,
	const remote_grant *only)
{
	uint64_t page = first;
	while (page < end) {
		const kvt_store_span *span = kvt_store_spans_at(&layer->grants, page);
		if (!span || span->first >= end)
			return;
		remote_grant *grant = span->record;
		uint64_t from = MAX(span->first, page);
		page = MIN(span->end, end);
		if (only && grant != only)
			continue;
		kvt_store_spans_cut(&layer->grants, from, page);
		lose_pages(link, grant, page - from);
	}
}

static void drop_grant(remote_link *link, remote_grant *grant)
{
	uncache(link, grant->layer, grant->first_page, grant->first_page + grant->n_pages, grant);
}

remote_grant *kvt_remote_grant_find(
	remote_link *link, const kvt_extent *extent, uint64_t page, uint64_t *n_pages)
{
	remote_layer *layer = kvt_remote_layer(link, extent);
	uint64_t end = extent->first_page + extent->n_pages;
	kvt_time now = kvt_loop_now(link->tier->loop);
	while (link->oldest_grant && !lasts(link, link->oldest_grant, now))
		drop_grant(link, link->oldest_grant);
	const kvt_store_span *span = kvt_store_spans_at(&layer->grants, page);
	*n_pages = end - page;
	if (!span || span->first >= end)
		return NULL;
	remote_grant *grant = span->record;
	if (span->first > page) {
		*n_pages = span->first - page;
		return NULL;
	}
	*n_pages = MIN(span->end, end) - page;
	return grant->page_bytes == extent->page_bytes ? grant : NULL;
}

remote_grant *kvt_remote_grant_new(remote_link *link, const kvt_extent *run,
	const kvt_remote_piece *piece, const uint64_t *checksums, kvt_time expires)
{
	remote_grant *grant = g_malloc(sizeof(*grant) + piece->n_pages * sizeof(uint64_t));
	*grant = (remote_grant){ .lease = piece->lease,
		.expires = expires,
		.address = piece->address,
		.key = piece->key,
		.first_page = run->first_page,
		.n_pages = piece->n_pages,
		.page_bytes = run->page_bytes,
		.pins = 1,
		.layer = kvt_remote_layer(link, run) };
	for (uint32_t i = 0; i < piece->n_pages; i++)
		grant->checksums[i] = checksums[i];
	return grant;
}

void kvt_remote_grant_keep(remote_link *link, remote_grant *grant)
{
	uint64_t end = grant->first_page + grant->n_pages;
	uncache(link, grant->layer, grant->first_page, end, NULL);
	kvt_store_spans_set(&grant->layer->grants, grant->first_page, end, 0, grant);
	grant->cached = grant->n_pages;
	grant->earlier = link->newest_grant;
	*(link->newest_grant ? &link->newest_grant->later : &link->oldest_grant) = grant;
	link->newest_grant = grant;
	if (++link->n_grants > GRANTS_MOST)
		drop_grant(link, link->oldest_grant);
}

void kvt_remote_grant_unpin(remote_link *link, remote_grant *grant)
{
	grant->pins--;
	check_grant(link, grant);
}

void kvt_remote_grants_drop(remote_link *link, const kvt_extent *run)
{
	remote_layer *layer = kvt_remote_layer(link, run);
	layer->changes++;
	uncache(link, layer, run->first_page, run->first_page + run->n_pages, NULL);
}

bool kvt_remote_grants_release(remote_link *link)
{
	bool some = link->oldest_grant != NULL;
	while (link->oldest_grant)
		drop_grant(link, link->oldest_grant);
	return some;
}

void kvt_remote_grants_clear(remote_link *link)
{
	kvt_remote_grants_release(link);
	g_array_set_size(link->releases, 0);
}
