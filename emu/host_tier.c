/*
 * host_tier.c: pages by identity in a hash table. An I/O's bytes are copied when it completes, all
 * of it in one callback, so that nobody sees half a write; which pages can be read is
 * sim/tier/page_store.h's to say.
 */
#include "emu/host_tier.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "sim/base/error.h"
#include "sim/tier/page_store.h"

enum { MAX_IOS = 1024 };

typedef struct page_key {
	uint32_t tenant, context, layer;
	uint64_t page;
} page_key;

typedef struct host_page {
	page_key key;
	uint64_t bytes, checksum;
	uint8_t data[];
} host_page;

typedef struct host_tier host_tier;

typedef struct host_io {
	host_tier *tier;
	kvt_io *io;
	uint64_t bytes;
	kvt_page_ticket ticket;
	struct host_io *next_free;
} host_io;

struct host_tier {
	kvt_tier base;
	kvt_loop *loop;
	kvt_page_store *store;
	GHashTable *pages; /* of host_page, by its key */
	kvt_tier_stats stats;
	unsigned in_flight;
	host_io *free_ios;
	GPtrArray *ios;
};

typedef struct host_settings {
	uint64_t capacity;
} host_settings;

static const kvt_option host_options[] = {
	{ "capacity", KVT_OPTION_BYTES, 0, offsetof(host_settings, capacity), "1TB", 0, 0, NULL,
		"bytes of KV pages that it holds; memory is taken as they come" },
	{ 0 },
};

static guint key_hash(gconstpointer key)
{
	const page_key *k = key;
	uint64_t numbers[3] = { (uint64_t)k->tenant << 32 | k->context, k->layer, k->page };
	return (guint)XXH3_64bits(numbers, sizeof(numbers));
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
	const page_key *x = a, *y = b;
	return x->tenant == y->tenant && x->context == y->context && x->layer == y->layer &&
	       x->page == y->page;
}

static page_key key_of(const kvt_io *io, const kvt_extent *extent, uint64_t i)
{
	return (page_key){ io->tenant, extent->context, extent->layer, extent->first_page + i };
}

static void put_run(host_tier *tier, const kvt_io *io, unsigned run)
{
	const kvt_extent *extent = &io->extents[run];
	const uint8_t *from = io->memory ? io->memory[run] : NULL;
	for (uint64_t i = 0; i < extent->n_pages; i++) {
		host_page *page = g_malloc(sizeof(*page) + extent->page_bytes);
		page->key = key_of(io, extent, i);
		page->bytes = extent->page_bytes;
		if (from)
			memcpy(page->data, from + i * extent->page_bytes, extent->page_bytes);
		else
			memset(page->data, 0, extent->page_bytes);
		page->checksum = XXH3_64bits(page->data, page->bytes);
		g_hash_table_replace(tier->pages, &page->key, page);
	}
}

/* A page that is not what it was is forgotten. */
static int get_run(host_tier *tier, const kvt_io *io, unsigned run)
{
	const kvt_extent *extent = &io->extents[run];
	uint8_t *to = io->memory ? io->memory[run] : NULL;
	int status = 0;
	for (uint64_t i = 0; i < extent->n_pages; i++) {
		page_key key = key_of(io, extent, i);
		const host_page *page = g_hash_table_lookup(tier->pages, &key);
		g_assert(page && page->bytes == extent->page_bytes);
		const uint8_t *data = page->data;
		if (to)
			data = memcpy(to + i * page->bytes, page->data, page->bytes);
		if (XXH3_64bits(data, page->bytes) == page->checksum)
			continue;
		kvt_extent bad = *extent;
		bad.first_page += i;
		bad.n_pages = 1;
		tier->base.ops->discard(&tier->base, io->tenant, &bad);
		status = -EBADMSG;
	}
	return status;
}

static void complete(void *arg)
{
	host_io *state = arg;
	host_tier *tier = state->tier;
	kvt_io *io = state->io;
	int status = io->status;
	if (status == 0) {
		if (io->op == KVT_IO_READ && !state->ticket.stale)
			for (unsigned i = 0; i < io->n_extents && status == 0; i++)
				status = get_run(tier, io, i);
		int ended = kvt_page_store_end(tier->store, &state->ticket, status);
		status = status != 0 ? status : ended;
		for (unsigned i = 0; io->op == KVT_IO_WRITE && i < io->n_extents && status == 0;
			i++)
			put_run(tier, io, i);
	}
	io->status = status;
	io->bytes = status == 0 ? state->bytes : 0;
	io->completed = kvt_loop_now(tier->loop);
	state->next_free = tier->free_ios;
	tier->free_ios = state;
	tier->in_flight--;
	kvt_tier_stats_count(&tier->stats, io);
	io->done(io);
}

static int host_submit(kvt_tier *base, kvt_io *io)
{
	host_tier *tier = (host_tier *)base;
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	if (tier->in_flight >= MAX_IOS)
		return -EAGAIN;
	host_io *state = tier->free_ios;
	if (state) {
		tier->free_ios = state->next_free;
	} else {
		state = g_new(host_io, 1);
		g_ptr_array_add(tier->ios, state);
	}
	*state = (host_io){ .tier = tier, .io = io, .bytes = bytes };
	int status = kvt_page_store_begin(tier->store, &state->ticket, io, bytes);
	if (status == -EINVAL) {
		state->next_free = tier->free_ios;
		tier->free_ios = state;
		return status;
	}
	tier->in_flight++;
	tier->stats.device_ios += io->n_extents;
	io->submitted = kvt_loop_now(tier->loop);
	io->status = status;
	kvt_loop_at(tier->loop, io->submitted, complete, state);
	return 0;
}

typedef struct discarded_run {
	uint32_t tenant;
	const kvt_extent *extent;
} discarded_run;

static gboolean is_in_run(gpointer key, gpointer value, gpointer arg)
{
	const page_key *k = key;
	const discarded_run *run = arg;
	const kvt_extent *extent = run->extent;
	return k->tenant == run->tenant && k->context == extent->context &&
	       k->layer == extent->layer && k->page >= extent->first_page &&
	       k->page - extent->first_page < extent->n_pages;
}

static uint64_t host_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	host_tier *tier = (host_tier *)base;
	uint64_t freed = kvt_page_store_discard(tier->store, tenant, extent);
	if (freed > 0 && extent->n_pages > g_hash_table_size(tier->pages)) {
		discarded_run run = { tenant, extent };
		g_hash_table_foreach_remove(tier->pages, is_in_run, &run);
	} else if (freed > 0) {
		for (uint64_t i = 0; i < extent->n_pages; i++) {
			page_key key = { tenant, extent->context, extent->layer,
				extent->first_page + i };
			g_hash_table_remove(tier->pages, &key);
		}
	}
	return freed;
}

static bool host_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	return kvt_page_store_holds(((host_tier *)base)->store, tenant, extent);
}

static void host_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	host_tier *tier = (host_tier *)base;
	*stats = tier->stats;
	stats->used = kvt_page_store_used(tier->store);
	stats->peak_used = kvt_page_store_peak_taken(tier->store);
}

static void host_close(kvt_tier *base)
{
	host_tier *tier = (host_tier *)base;
	kvt_page_store_free(tier->store);
	g_hash_table_destroy(tier->pages);
	g_ptr_array_free(tier->ios, TRUE);
	g_free(tier);
}

static kvt_tier *host_open(const kvt_tier_env *env, const void *settings, GError **error)
{
	const host_settings *host = settings;
	host_tier *tier = g_new0(host_tier, 1);
	tier->base.ops = &kvt_tier_host;
	tier->loop = env->loop;
	tier->store = kvt_page_store_new(host->capacity);
	tier->pages = g_hash_table_new_full(key_hash, key_equal, NULL, g_free);
	tier->ios = g_ptr_array_new_with_free_func(g_free);
	kvt_tier_stats_init(&tier->stats, host->capacity);
	return &tier->base;
}

void *kvt_host_tier_page(
	kvt_tier *base, uint32_t tenant, uint32_t context, uint32_t layer, uint64_t page)
{
	page_key key = { tenant, context, layer, page };
	host_page *found = g_hash_table_lookup(((host_tier *)base)->pages, &key);
	return found ? found->data : NULL;
}

const kvt_tier_ops kvt_tier_host = {
	.name = "host-dram",
	.summary = "this process's memory; for the emulation",
	.flags = KVT_TIER_REAL,
	.options = host_options,
	.settings_size = sizeof(host_settings),
	.open = host_open,
	.submit = host_submit,
	.discard = host_discard,
	.holds = host_holds,
	.stats = host_stats,
	.close = host_close,
};
