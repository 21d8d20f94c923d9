/* pinned_pages.c: spans of blocks by layer, and pins. */
#include "emu/tier/pinned_pages.h"

#include <string.h>
#include <xxhash.h>

#include "emu/store/store_spans.h"

typedef struct page_span {
	uint64_t first, end;
} page_span;

/* The key comes first: no bytes between. */
typedef struct layer_pages {
	uint32_t tenant, context, layer, padding;
	kvt_store_spans spans; /* records: kvt_pinned_block */
} layer_pages;

static guint layer_hash(gconstpointer key)
{
	return (guint)XXH3_64bits(key, offsetof(layer_pages, spans));
}

static gboolean layer_equal(gconstpointer a, gconstpointer b)
{
	return memcmp(a, b, offsetof(layer_pages, spans)) == 0;
}

static void free_layer(gpointer pointer)
{
	layer_pages *layer = pointer;
	kvt_store_spans_clear(&layer->spans);
	g_free(layer);
}

static layer_pages *find_layer(
	const kvt_pinned_pages *pages, uint32_t tenant, const kvt_extent *e, bool make)
{
	const layer_pages key = { .tenant = tenant, .context = e->context, .layer = e->layer };
	layer_pages *layer = g_hash_table_lookup(pages->layers, &key);
	if (!layer && make) {
		layer = g_new(layer_pages, 1);
		*layer = key;
		g_hash_table_add(pages->layers, layer);
	}
	return layer;
}

static void give_pages(
	kvt_pinned_pages *pages, kvt_pinned_block *block, uint64_t first, uint64_t end)
{
	uint64_t index = first - block->first_page;
	for (uint64_t i = index; block->places && i < index + end - first; i++)
		kvt_arena_give(pages->arena, block->places[i], block->page_bytes);
	if (!block->places)
		kvt_arena_give(pages->arena, block->offset + index * block->page_bytes,
			(end - first) * block->page_bytes);
	block->kept -= end - first;
}

/* The pages are no longer found; their memory goes now or with the last pin. */
static void drop_pages(
	kvt_pinned_pages *pages, kvt_pinned_block *block, uint64_t first, uint64_t end)
{
	if (block->pins > 0) {
		const page_span span = { first, end };
		if (!block->dead)
			block->dead = g_array_new(FALSE, FALSE, sizeof(page_span));
		g_array_append_val(block->dead, span);
		return;
	}
	give_pages(pages, block, first, end);
	if (block->kept == 0)
		g_free(block);
}

void kvt_pinned_pages_unpin(kvt_pinned_pages *pages, kvt_pinned_block *block)
{
	if (--block->pins > 0 || !block->dead)
		return;
	for (guint i = 0; i < block->dead->len; i++) {
		const page_span *span = &g_array_index(block->dead, page_span, i);
		give_pages(pages, block, span->first, span->end);
	}
	g_array_unref(block->dead);
	block->dead = NULL;
	if (block->kept == 0)
		g_free(block);
}

kvt_pinned_block *kvt_pinned_pages_take(
	kvt_pinned_pages *pages, uint64_t page_bytes, uint64_t first_page, uint64_t n)
{
	uint64_t offset;
	n = kvt_arena_take(pages->arena, page_bytes, n, &offset);
	if (n == 0)
		return NULL;
	kvt_pinned_block *block = g_malloc(sizeof(*block) + n * sizeof(uint64_t));
	*block = (kvt_pinned_block){ .offset = offset,
		.page_bytes = page_bytes,
		.first_page = first_page,
		.n_pages = n,
		.kept = n,
		.pins = 1 };
	return block;
}

kvt_pinned_block *kvt_pinned_pages_scatter(kvt_pinned_pages *pages, uint64_t page_bytes,
	uint64_t first_page, uint64_t n, const uint64_t *order)
{
	kvt_pinned_block *block = g_malloc(sizeof(*block) + 2 * n * sizeof(uint64_t));
	*block = (kvt_pinned_block){ .places = block->checksums + n,
		.page_bytes = page_bytes,
		.first_page = first_page,
		.n_pages = n,
		.kept = n,
		.pins = 1 };
	for (uint64_t done = 0, some, offset; done < n; done += some) {
		some = kvt_arena_take(pages->arena, page_bytes, n - done, &offset);
		for (uint64_t i = 0; i < some; i++)
			block->places[order[done + i]] = offset + i * page_bytes;
		if (some > 0)
			continue;
		for (uint64_t i = 0; i < done; i++)
			kvt_arena_give(pages->arena, block->places[order[i]], page_bytes);
		g_free(block);
		return NULL;
	}
	return block;
}

void kvt_pinned_pages_drop(kvt_pinned_pages *pages, kvt_pinned_block *block)
{
	drop_pages(pages, block, block->first_page, block->first_page + block->n_pages);
}

void kvt_pinned_pages_show(kvt_pinned_pages *pages, uint32_t tenant, const kvt_extent *extent,
	kvt_pinned_block *block, uint64_t sequence)
{
	layer_pages *layer = find_layer(pages, tenant, extent, true);
	uint64_t page = block->first_page, end = page + block->n_pages;
	while (page < end) {
		const kvt_store_span *found = kvt_store_spans_at(&layer->spans, page);
		bool there = found && found->first <= page;
		uint64_t stop = !found ? end : MIN(end, there ? found->end : found->first);
		if (there && found->generation > sequence) {
			/* never the last of the block's pages that is dropped here while it is
			 * used: the caller holds a pin */
			drop_pages(pages, block, page, stop);
		} else {
			kvt_pinned_block *old = there ? found->record : NULL;
			kvt_store_spans_set(&layer->spans, page, stop, sequence, block);
			if (old)
				drop_pages(pages, old, page, stop);
		}
		page = stop;
	}
}

kvt_pinned_block *kvt_pinned_pages_at(const kvt_pinned_pages *pages, uint32_t tenant,
	const kvt_extent *extent, uint64_t page, uint64_t *end)
{
	const layer_pages *layer = find_layer(pages, tenant, extent, false);
	const kvt_store_span *span = layer ? kvt_store_spans_at(&layer->spans, page) : NULL;
	if (!span || span->first > page)
		return NULL;
	*end = span->end;
	return span->record;
}

void kvt_pinned_pages_forget(kvt_pinned_pages *pages, uint32_t tenant, const kvt_extent *extent)
{
	layer_pages *layer = find_layer(pages, tenant, extent, false);
	uint64_t page = extent->first_page, end = page + extent->n_pages;
	while (layer && page < end) {
		const kvt_store_span *found = kvt_store_spans_at(&layer->spans, page);
		if (!found || found->first >= end)
			break;
		uint64_t first = MAX(found->first, page);
		kvt_pinned_block *block = found->record;
		page = MIN(found->end, end);
		kvt_store_spans_cut(&layer->spans, first, page);
		drop_pages(pages, block, first, page);
	}
	if (layer && kvt_store_spans_count(&layer->spans) == 0)
		g_hash_table_remove(pages->layers, layer);
}

void kvt_pinned_pages_init(kvt_pinned_pages *pages, kvt_arena *arena)
{
	pages->arena = arena;
	pages->layers = g_hash_table_new_full(layer_hash, layer_equal, free_layer, NULL);
}

void kvt_pinned_pages_clear(kvt_pinned_pages *pages)
{
	GHashTableIter iter;
	gpointer pointer;
	g_hash_table_iter_init(&iter, pages->layers);
	while (g_hash_table_iter_next(&iter, &pointer, NULL)) {
		layer_pages *layer = pointer;
		const kvt_store_span *span;
		while ((span = kvt_store_spans_at(&layer->spans, 0))) {
			kvt_pinned_block *block = span->record;
			uint64_t first = span->first, end = span->end;
			kvt_store_spans_cut(&layer->spans, first, end);
			drop_pages(pages, block, first, end);
		}
	}
	g_hash_table_unref(pages->layers);
}
