/*
 * slab_pool.c: slabs on three lists: free ones, idle ones by their last use, and held ones on none;
 * and a map of spans for each layer that says in which block a page is.
 */
#include "emu/remote/slab_pool.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "emu/store/store_spans.h"

typedef struct slab_list {
	kvt_slab *first, *last;
} slab_list;

/* Of one tenant; kept for good, as tenants are few. */
typedef struct slab_tenant {
	uint32_t number;
	unsigned taken, held;
	kvt_slab *filling[KVT_SLAB_USES];
} slab_tenant;

/* The key comes first: no bytes between. */
typedef struct slab_layer {
	uint64_t model;
	uint32_t tenant, context, layer, padding;
	kvt_store_spans spans; /* records: kvt_slab_block */
} slab_layer;

struct kvt_slab_pool {
	kvt_slab_pool_settings settings;
	kvt_arena *arena;
	kvt_slab *slabs;
	slab_list free, idle;
	GHashTable *tenants, *layers;
	kvt_slab_pool_info info;
};

/* --- Lists and tables --- */

static void append(slab_list *list, kvt_slab *slab)
{
	g_assert(!slab->listed);
	slab->previous = list->last;
	slab->next = NULL;
	*(list->last ? &list->last->next : &list->first) = slab;
	list->last = slab;
	slab->listed = true;
}

static void unlist(slab_list *list, kvt_slab *slab)
{
	if (!slab->listed)
		return;
	*(slab->previous ? &slab->previous->next : &list->first) = slab->next;
	*(slab->next ? &slab->next->previous : &list->last) = slab->previous;
	slab->listed = false;
}

static slab_tenant *tenant_of(kvt_slab_pool *pool, uint32_t number)
{
	slab_tenant *tenant = g_hash_table_lookup(pool->tenants, GUINT_TO_POINTER(number));
	if (!tenant) {
		tenant = g_new0(slab_tenant, 1);
		tenant->number = number;
		g_hash_table_insert(pool->tenants, GUINT_TO_POINTER(number), tenant);
	}
	return tenant;
}

static guint layer_hash(gconstpointer key)
{
	return (guint)XXH3_64bits(key, offsetof(slab_layer, spans));
}

static gboolean layer_equal(gconstpointer a, gconstpointer b)
{
	return memcmp(a, b, offsetof(slab_layer, spans)) == 0;
}

static void free_layer(gpointer layer)
{
	kvt_store_spans_clear(&((slab_layer *)layer)->spans);
	g_free(layer);
}

static slab_layer *layer_of(kvt_slab_pool *pool, const kvt_store_run *run, bool make)
{
	const slab_layer key = { .model = run->model,
		.tenant = run->tenant,
		.context = run->pages.context,
		.layer = run->pages.layer };
	slab_layer *layer = g_hash_table_lookup(pool->layers, &key);
	if (!layer && make) {
		layer = g_new(slab_layer, 1);
		*layer = key;
		g_hash_table_add(pool->layers, layer);
	}
	return layer;
}

/* --- Pages --- */

static uint64_t end_of(const kvt_extent *pages)
{
	return pages->first_page + pages->n_pages;
}

static void count_pages(kvt_slab_pool *pool, const kvt_slab_block *block, uint64_t n, bool added)
{
	uint64_t bytes = n * block->run.pages.page_bytes;
	block->slab->live_pages += added ? n : -n;
	pool->info.pages += added ? n : -n;
	pool->info.page_bytes += added ? bytes : -bytes;
}

/* Takes pages [first, end) out of the map, those of one block alone where it is given; a layer
 * without pages goes. Slabs stay what they are. Returns how many. */
static uint64_t unmap(kvt_slab_pool *pool, slab_layer *layer, uint64_t first, uint64_t end,
	const kvt_slab_block *of)
{
	uint64_t n = 0, at = first;
	const kvt_store_span *found;
	while (at < end && (found = kvt_store_spans_at(&layer->spans, at)) && found->first < end) {
		const kvt_store_span span = *found;
		uint64_t from = MAX(span.first, at), to = MIN(span.end, end);
		at = to;
		if (of && span.record != of)
			continue;
		kvt_store_spans_cut(&layer->spans, from, to);
		count_pages(pool, span.record, to - from, false);
		n += to - from;
	}
	return n;
}

static void drop_empty_layer(kvt_slab_pool *pool, slab_layer *layer)
{
	if (kvt_store_spans_count(&layer->spans) == 0)
		g_hash_table_remove(pool->layers, layer);
}

/* --- Slabs --- */

static void seal(kvt_slab_pool *pool, kvt_slab *slab)
{
	slab_tenant *tenant = tenant_of(pool, slab->tenant);
	if (!slab->filling)
		return;
	slab->filling = false;
	tenant->filling[slab->use] = NULL;
	pool->settings.sealed(pool->settings.arg, slab);
}

/* Forgets what lies in the slab, and makes it free. */
static void close_slab(kvt_slab_pool *pool, kvt_slab *slab)
{
	kvt_slab_block *block, *next;
	for (block = slab->blocks; block; block = next) {
		const kvt_extent *pages = &block->run.pages;
		slab_layer *layer =
			slab->live_pages > 0 ? layer_of(pool, &block->run, false) : NULL;
		if (layer) {
			unmap(pool, layer, pages->first_page, end_of(pages), block);
			drop_empty_layer(pool, layer);
		}
		next = block->next;
		g_free(block);
	}
	slab->blocks = NULL;
	g_assert(slab->live_pages == 0);
	seal(pool, slab);
	unlist(&pool->idle, slab);
	pool->settings.closed(pool->settings.arg, slab);
	tenant_of(pool, slab->tenant)->taken--;
	pool->info.taken--;
	slab->taken = false;
	slab->filled = 0;
	append(&pool->free, slab);
}

static void close_if_empty(kvt_slab_pool *pool, kvt_slab *slab)
{
	if (slab->taken && slab->holds == 0 && slab->live_pages == 0)
		close_slab(pool, slab);
}

/* Takes [first, end) out and gives up slabs that have nothing left. */
static uint64_t forget(kvt_slab_pool *pool, slab_layer *layer, uint64_t first, uint64_t end)
{
	uint64_t n = 0, at = first;
	const kvt_store_span *found;
	while (at < end && (found = kvt_store_spans_at(&layer->spans, at)) && found->first < end) {
		kvt_slab *slab = ((const kvt_slab_block *)found->record)->slab;
		uint64_t to = MIN(found->end, end);
		n += unmap(pool, layer, at, to, NULL);
		at = to;
		close_if_empty(pool, slab);
	}
	return n;
}

/* The idle slab that was not used for longest, of the tenant (NULL: of any). */
static kvt_slab *oldest(const kvt_slab_pool *pool, const slab_tenant *tenant)
{
	kvt_slab *slab = pool->settings.evict ? pool->idle.first : NULL;
	while (slab && tenant && slab->tenant != tenant->number)
		slab = slab->next;
	return slab;
}

static int open_slab(kvt_slab_pool *pool, slab_tenant *tenant, kvt_slab_use use, unsigned most)
{
	bool own = tenant->taken >= most;
	if (own || !pool->free.first) {
		kvt_slab *victim = oldest(pool, own ? tenant : NULL);
		if (!victim)
			return -EAGAIN;
		pool->info.evicted++;
		pool->info.evicted_pages += victim->live_pages;
		close_slab(pool, victim);
	}
	kvt_slab *slab = pool->free.first;
	slab->tenant = tenant->number;
	slab->use = use;
	slab->state = NULL;
	int status = pool->settings.opened(pool->settings.arg, slab);
	if (status != 0)
		return status;
	unlist(&pool->free, slab);
	slab->taken = slab->filling = true;
	tenant->filling[use] = slab;
	tenant->taken++;
	pool->info.taken++;
	pool->info.opened++;
	append(&pool->idle, slab);
	return 0;
}

void kvt_slab_hold(kvt_slab_pool *pool, kvt_slab *slab)
{
	g_assert(slab->taken);
	if (slab->holds++ > 0)
		return;
	unlist(&pool->idle, slab);
	tenant_of(pool, slab->tenant)->held++;
	pool->info.held++;
}

void kvt_slab_drop(kvt_slab_pool *pool, kvt_slab *slab)
{
	g_assert(slab->holds > 0);
	if (--slab->holds > 0)
		return;
	tenant_of(pool, slab->tenant)->held--;
	pool->info.held--;
	append(&pool->idle, slab);
	close_if_empty(pool, slab);
}

kvt_slab_block *kvt_slab_pool_take(
	kvt_slab_pool *pool, const kvt_store_run *run, kvt_slab_use use, unsigned most, int *status)
{
	slab_tenant *tenant = tenant_of(pool, run->tenant);
	uint64_t page_bytes = run->pages.page_bytes, room = pool->settings.slab_bytes;
	*status = page_bytes > room ? -E2BIG : 0;
	if (*status != 0)
		return NULL;
	kvt_slab *slab = tenant->filling[use];
	if (slab && room - slab->filled < page_bytes) {
		seal(pool, slab);
		slab = NULL;
	}
	if (!slab) {
		*status = open_slab(pool, tenant, use, most);
		pool->info.refused += *status != 0;
		if (*status != 0)
			return NULL;
		slab = tenant->filling[use];
	}
	kvt_slab_hold(pool, slab);
	uint64_t n = MIN((room - slab->filled) / page_bytes, run->pages.n_pages);
	kvt_slab_block *block = g_malloc0(sizeof(*block) + n * sizeof(uint64_t));
	block->slab = slab;
	block->memory = slab->memory + slab->filled;
	block->run = *run;
	block->run.pages.n_pages = n;
	block->next = slab->blocks;
	slab->blocks = block;
	uint64_t filled = slab->filled + n * page_bytes;
	slab->filled =
		MIN(room, (filled + KVT_STORE_BLOCK - 1) / KVT_STORE_BLOCK * KVT_STORE_BLOCK);
	return block;
}

void kvt_slab_pool_untake(kvt_slab_pool *pool, kvt_slab_block *block)
{
	kvt_slab *slab = block->slab;
	if (slab->blocks == block) {
		slab->filled = (uint64_t)(block->memory - slab->memory);
		slab->blocks = block->next;
		g_free(block);
	}
	kvt_slab_drop(pool, slab);
}

static void map(
	kvt_slab_pool *pool, slab_layer *layer, uint64_t first, uint64_t end, kvt_slab_block *block)
{
	kvt_store_spans_set(&layer->spans, first, end, 0, block);
	count_pages(pool, block, end - first, true);
}

void kvt_slab_pool_publish(kvt_slab_pool *pool, kvt_slab_block *block)
{
	const kvt_extent *pages = &block->run.pages;
	slab_layer *layer = layer_of(pool, &block->run, true);
	g_assert(block->slab->holds > 0);
	forget(pool, layer, pages->first_page, end_of(pages));
	map(pool, layer, pages->first_page, end_of(pages), block);
}

void kvt_slab_pool_fill(kvt_slab_pool *pool, kvt_slab_block *block)
{
	const kvt_extent *pages = &block->run.pages;
	slab_layer *layer = layer_of(pool, &block->run, true);
	uint64_t at = pages->first_page, end = end_of(pages);
	g_assert(block->slab->holds > 0);
	while (at < end) {
		const kvt_store_span *span = kvt_store_spans_at(&layer->spans, at);
		uint64_t to = span ? MIN(span->first, end) : end;
		uint64_t next = span ? MIN(span->end, end) : end;
		if (at < to)
			map(pool, layer, at, to, block);
		at = next;
	}
}

bool kvt_slab_pool_find(kvt_slab_pool *pool, const kvt_store_run *run, kvt_slab_piece *piece)
{
	slab_layer *layer = layer_of(pool, run, false);
	uint64_t first = run->pages.first_page, end = end_of(&run->pages);
	const kvt_store_span *span = layer ? kvt_store_spans_at(&layer->spans, first) : NULL;
	*piece = (kvt_slab_piece){ .first_page = first, .n_pages = end - first };
	if (!span || span->first >= end)
		return false;
	if (span->first > first) {
		piece->n_pages = span->first - first;
		return false;
	}
	const kvt_slab_block *block = span->record;
	piece->n_pages = MIN(span->end, end) - first;
	if (block->run.pages.page_bytes != run->pages.page_bytes)
		return false;
	uint64_t skipped = first - block->run.pages.first_page;
	piece->slab = block->slab;
	piece->memory = block->memory + skipped * block->run.pages.page_bytes;
	piece->checksums = block->checksums + skipped;
	if (piece->slab->holds == 0) {
		unlist(&pool->idle, piece->slab);
		append(&pool->idle, piece->slab);
	}
	return true;
}

uint64_t kvt_slab_pool_forget(kvt_slab_pool *pool, const kvt_store_run *run)
{
	slab_layer *layer = layer_of(pool, run, false);
	if (!layer)
		return 0;
	uint64_t n = forget(pool, layer, run->pages.first_page, end_of(&run->pages));
	drop_empty_layer(pool, layer);
	return n;
}

void kvt_slab_pool_each(const kvt_slab_pool *pool, uint32_t tenant, uint64_t model,
	void (*each)(void *arg, const kvt_store_run *run), void *arg)
{
	GHashTableIter iter;
	gpointer key;
	g_hash_table_iter_init(&iter, pool->layers);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		const slab_layer *layer = key;
		const kvt_store_span *span;
		if (layer->tenant != tenant || layer->model != model)
			continue;
		for (uint64_t at = 0; (span = kvt_store_spans_at(&layer->spans, at));
			at = span->end) {
			kvt_store_run run = ((const kvt_slab_block *)span->record)->run;
			run.pages.first_page = span->first;
			run.pages.n_pages = span->end - span->first;
			each(arg, &run);
		}
	}
}

/* --- The pool --- */

kvt_slab_pool *kvt_slab_pool_new(const kvt_slab_pool_settings *settings, GError **error)
{
	uint64_t n = settings->bytes / settings->slab_bytes;
	g_assert(n > 0 && settings->slab_bytes % KVT_STORE_BLOCK == 0);
	kvt_arena *arena = kvt_arena_new(
		n * settings->slab_bytes, settings->huge, settings->pinned, settings->node, error);
	if (!arena)
		return NULL;
	kvt_slab_pool *pool = g_new0(kvt_slab_pool, 1);
	pool->settings = *settings;
	pool->arena = arena;
	pool->info.slabs = n;
	pool->info.slab_bytes = settings->slab_bytes;
	pool->slabs = g_new0(kvt_slab, n);
	for (uint64_t i = 0; i < n; i++) {
		pool->slabs[i].memory = kvt_arena_base(arena) + i * settings->slab_bytes;
		append(&pool->free, &pool->slabs[i]);
	}
	pool->tenants = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);
	pool->layers = g_hash_table_new_full(layer_hash, layer_equal, free_layer, NULL);
	return pool;
}

void kvt_slab_pool_free(kvt_slab_pool *pool)
{
	if (!pool)
		return;
	for (uint64_t i = 0; i < pool->info.slabs; i++)
		if (pool->slabs[i].taken)
			close_slab(pool, &pool->slabs[i]);
	g_hash_table_unref(pool->layers);
	g_hash_table_unref(pool->tenants);
	kvt_arena_free(pool->arena);
	g_free(pool->slabs);
	g_free(pool);
}

uint8_t *kvt_slab_pool_memory(const kvt_slab_pool *pool, uint64_t *bytes)
{
	*bytes = pool->info.slabs * pool->info.slab_bytes;
	return kvt_arena_base(pool->arena);
}

kvt_slab_pool_info kvt_slab_pool_get_info(const kvt_slab_pool *pool)
{
	return pool->info;
}

unsigned kvt_slab_pool_taken(const kvt_slab_pool *pool, uint32_t tenant)
{
	const slab_tenant *found = g_hash_table_lookup(pool->tenants, GUINT_TO_POINTER(tenant));
	return found ? found->taken : 0;
}

unsigned kvt_slab_pool_held(const kvt_slab_pool *pool, uint32_t tenant)
{
	const slab_tenant *found = g_hash_table_lookup(pool->tenants, GUINT_TO_POINTER(tenant));
	return found ? found->held : 0;
}
