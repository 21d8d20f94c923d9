/*
 * pinned_tier.c: pages in memory: blocks of an arena in maps by layer, copied by helper threads or
 * the loop in parts of bounded size. A discarded page's memory is given back when no read that is
 * in flight needs it.
 */
#include "emu/tier/pinned_tier.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "emu/loop/helper_pool.h"
#include "emu/tier/memory_arena.h"
#include "emu/store/page_checksum.h"
#include "emu/store/store_spans.h"
#include "sim/tier/page_store.h"

/* Bytes that one task copies, about. */
#define PART_BYTES (UINT64_C(1) << 20)

typedef struct memory_settings {
	uint64_t capacity;
	int huge;
	bool pinned;
	int64_t node, helpers, max_ios;
} memory_settings;

#define SETTING(field) offsetof(memory_settings, field)

static const kvt_option memory_options[] = {
	{ "capacity", KVT_OPTION_BYTES, 0, SETTING(capacity), "64GB", 0, 0, NULL,
		"bytes of pages that it holds; a quarter more is mapped, for versions in flight, "
		"and taken as pages come" },
	{ "huge", KVT_OPTION_CHOICE, 0, SETTING(huge), "transparent", 0, 0, kvt_huge_page_names,
		"huge pages: none, as the kernel finds them, or of those set aside" },
	{ "pinned", KVT_OPTION_BOOL, 0, SETTING(pinned), "no", 0, 0, NULL,
		"whether the memory is locked" },
	{ "node", KVT_OPTION_INTEGER, 0, SETTING(node), "-1", -1, 1023, NULL,
		"NUMA node that the memory is bound to; -1: none" },
	{ "helpers", KVT_OPTION_INTEGER, 0, SETTING(helpers), "1", 0, 64, NULL,
		"threads that copy and verify; 0: the engine's own does it" },
	{ "max_ios", KVT_OPTION_INTEGER, 0, SETTING(max_ios), "1024", 1, 1e6, NULL,
		"I/Os that are taken before others are told to come again" },
	{ 0 },
};

/* Pages of a layer that were written together and lie together. */
typedef struct memory_block {
	uint64_t offset, page_bytes, first_page, n_pages;
	uint64_t kept; /* pages that are there or whose memory is still held */
	unsigned pins; /* reads in flight */
	GArray *dead;  /* spans of pages to be given back with the last pin; or NULL */
	uint64_t checksums[];
} memory_block;

typedef struct page_span {
	uint64_t first, end;
} page_span;

/* The key comes first: no bytes between. */
typedef struct memory_layer {
	uint32_t tenant, context, layer, padding;
	kvt_store_spans spans; /* records: memory_block */
} memory_layer;

typedef struct memory_tier memory_tier;
typedef struct memory_io memory_io;

/* Some pages of a block, copied by one task. */
typedef struct memory_part {
	kvt_helper_task task;
	memory_io *io;
	memory_block *block;
	uint64_t first, n; /* pages, from the block's first */
	uint8_t *home;     /* of the I/O; or NULL */
	bool bad;
} memory_part;

struct memory_io {
	memory_tier *tier;
	kvt_io *io;
	uint64_t bytes, sequence;
	bool begun, write;
	kvt_page_ticket ticket;
	GPtrArray *blocks;  /* read from, with a pin each; or written */
	GArray *extents_of; /* unsigned: whose a written block is */
	GArray *parts;
	unsigned pending;
	int status;
	memory_io *next_free;
};

struct memory_tier {
	kvt_tier base;
	kvt_loop *loop;
	kvt_arena *arena;
	kvt_helper_pool *helpers;
	kvt_page_store *pages;
	GHashTable *layers;
	kvt_tier_stats stats;
	uint64_t sequence, device_ios;
	unsigned max_ios, in_flight;
	memory_io *free_ios;
	GPtrArray *ios;
};

/* --- Layers and blocks --- */

static guint layer_hash(gconstpointer key)
{
	return (guint)XXH3_64bits(key, offsetof(memory_layer, spans));
}

static gboolean layer_equal(gconstpointer a, gconstpointer b)
{
	return memcmp(a, b, offsetof(memory_layer, spans)) == 0;
}

static memory_layer *find_layer(memory_tier *tier, uint32_t tenant, const kvt_extent *e, bool make)
{
	const memory_layer key = { .tenant = tenant, .context = e->context, .layer = e->layer };
	memory_layer *layer = g_hash_table_lookup(tier->layers, &key);
	if (!layer && make) {
		layer = g_new(memory_layer, 1);
		*layer = key;
		g_hash_table_add(tier->layers, layer);
	}
	return layer;
}

static uint8_t *page_at(const memory_tier *tier, const memory_block *block, uint64_t index)
{
	return kvt_arena_base(tier->arena) + block->offset + index * block->page_bytes;
}

static void give_pages(memory_tier *tier, memory_block *block, uint64_t first, uint64_t end)
{
	kvt_arena_give(tier->arena, block->offset + (first - block->first_page) * block->page_bytes,
		(end - first) * block->page_bytes);
	block->kept -= end - first;
}

/* The pages are no longer found; their memory goes now or with the last pin. */
static void drop_pages(memory_tier *tier, memory_block *block, uint64_t first, uint64_t end)
{
	if (block->pins > 0) {
		const page_span span = { first, end };
		if (!block->dead)
			block->dead = g_array_new(FALSE, FALSE, sizeof(page_span));
		g_array_append_val(block->dead, span);
		return;
	}
	give_pages(tier, block, first, end);
	if (block->kept == 0)
		g_free(block);
}

static void unpin(memory_tier *tier, memory_block *block)
{
	if (--block->pins > 0 || !block->dead)
		return;
	for (guint i = 0; i < block->dead->len; i++) {
		const page_span *span = &g_array_index(block->dead, page_span, i);
		give_pages(tier, block, span->first, span->end);
	}
	g_array_unref(block->dead);
	block->dead = NULL;
	if (block->kept == 0)
		g_free(block);
}

static void forget_pages(memory_tier *tier, uint32_t tenant, const kvt_extent *extent)
{
	memory_layer *layer = find_layer(tier, tenant, extent, false);
	uint64_t page = extent->first_page, end = page + extent->n_pages;
	while (layer && page < end) {
		const kvt_store_span *found = kvt_store_spans_at(&layer->spans, page);
		if (!found || found->first >= end)
			break;
		uint64_t first = MAX(found->first, page);
		memory_block *block = found->record;
		page = MIN(found->end, end);
		kvt_store_spans_cut(&layer->spans, first, page);
		drop_pages(tier, block, first, page);
	}
	if (layer && kvt_store_spans_count(&layer->spans) == 0)
		g_hash_table_remove(tier->layers, layer);
}

/* Makes a written block's pages found, but for those of which a later write is there. */
static void show_block(
	memory_tier *tier, uint32_t tenant, const kvt_extent *e, memory_block *b, uint64_t sequence)
{
	memory_layer *layer = find_layer(tier, tenant, e, true);
	uint64_t page = b->first_page, end = page + b->n_pages;
	while (page < end) {
		const kvt_store_span *found = kvt_store_spans_at(&layer->spans, page);
		bool there = found && found->first <= page;
		uint64_t stop = !found ? end : MIN(end, there ? found->end : found->first);
		if (there && found->generation > sequence) {
			/* never the last of the block's pages that is dropped here while it is
			 * used: the caller holds a pin */
			drop_pages(tier, b, page, stop);
		} else {
			memory_block *old = there ? found->record : NULL;
			kvt_store_spans_set(&layer->spans, page, stop, sequence, b);
			if (old)
				drop_pages(tier, old, page, stop);
		}
		page = stop;
	}
}

/* --- I/Os --- */

static memory_io *take_io(memory_tier *tier)
{
	memory_io *state = tier->free_ios;
	if (state) {
		tier->free_ios = state->next_free;
	} else {
		state = g_new0(memory_io, 1);
		state->tier = tier;
		state->blocks = g_ptr_array_new();
		state->extents_of = g_array_new(FALSE, FALSE, sizeof(unsigned));
		state->parts = g_array_new(FALSE, FALSE, sizeof(memory_part));
		g_ptr_array_add(tier->ios, state);
	}
	g_array_set_size(state->parts, 0);
	state->status = 0;
	state->pending = 0;
	return state;
}

static void give_io(memory_io *state)
{
	state->next_free = state->tier->free_ios;
	state->tier->free_ios = state;
}

static void free_io(gpointer pointer)
{
	memory_io *state = pointer;
	g_ptr_array_unref(state->blocks);
	g_array_unref(state->extents_of);
	g_array_unref(state->parts);
	g_free(state);
}

static void show_written(memory_io *state)
{
	const kvt_io *io = state->io;
	for (guint i = 0; i < state->blocks->len; i++) {
		memory_block *block = g_ptr_array_index(state->blocks, i);
		const kvt_extent *extent =
			&io->extents[g_array_index(state->extents_of, unsigned, i)];
		show_block(state->tier, io->tenant, extent, block, state->sequence);
	}
}

static void let_go(memory_io *state)
{
	for (guint i = 0; i < state->blocks->len; i++)
		unpin(state->tier, g_ptr_array_index(state->blocks, i));
	g_ptr_array_set_size(state->blocks, 0);
	g_array_set_size(state->extents_of, 0);
}

/* A write that found no room after all. */
static void drop_written(memory_io *state)
{
	for (guint i = 0; i < state->blocks->len; i++) {
		memory_block *block = g_ptr_array_index(state->blocks, i);
		drop_pages(
			state->tier, block, block->first_page, block->first_page + block->n_pages);
	}
}

static void finish(void *arg)
{
	memory_io *state = arg;
	memory_tier *tier = state->tier;
	kvt_io *io = state->io;
	if (io->op == KVT_IO_WRITE && state->status == 0)
		show_written(state);
	let_go(state);
	io->status = state->begun ? kvt_page_store_end(tier->pages, &state->ticket, state->status)
				  : state->status;
	io->bytes = io->status == 0 ? state->bytes : 0;
	io->completed = kvt_loop_now(tier->loop);
	tier->in_flight--;
	give_io(state);
	kvt_tier_stats_count(&tier->stats, io);
	io->done(io);
}

/* On a helper thread or the loop. What is copied out is verified where it has come to. */
static void copy_part(kvt_helper_task *task)
{
	memory_part *part = task->arg;
	const memory_tier *tier = part->io->tier;
	bool write = part->io->write;
	uint64_t bytes = part->block->page_bytes;
	uint8_t *home = part->home;
	for (uint64_t i = part->first; i < part->first + part->n; i++) {
		uint8_t *page = page_at(tier, part->block, i);
		if (write && home)
			memcpy(page, home, bytes);
		else if (write)
			memset(page, 0, bytes);
		else if (home)
			memcpy(home, page, bytes);
		uint64_t sum = kvt_page_checksum(write || !home ? page : home, bytes);
		if (write)
			part->block->checksums[i] = sum;
		else
			part->bad |= sum != part->block->checksums[i];
		home = home ? home + bytes : NULL;
	}
}

/* Forgets the pages of a part that are wrong. */
static void forget_bad(const memory_part *part)
{
	memory_tier *tier = part->io->tier;
	const kvt_io *io = part->io->io;
	const memory_block *block = part->block;
	for (uint64_t i = part->first; i < part->first + part->n; i++) {
		uint64_t page = block->first_page + i;
		if (kvt_page_checksum(page_at(tier, block, i), block->page_bytes) ==
			block->checksums[i])
			continue;
		for (unsigned e = 0; e < io->n_extents; e++) {
			kvt_extent one = io->extents[e];
			const memory_layer *layer = find_layer(tier, io->tenant, &one, false);
			const kvt_store_span *span =
				layer ? kvt_store_spans_at(&layer->spans, page) : NULL;
			if (!span || span->first > page || span->record != block)
				continue;
			one.first_page = page;
			one.n_pages = 1;
			kvt_page_store_discard(tier->pages, io->tenant, &one);
			forget_pages(tier, io->tenant, &one);
		}
	}
}

static void part_done(kvt_helper_task *task)
{
	memory_part *part = task->arg;
	memory_io *state = part->io;
	if (part->bad) {
		forget_bad(part);
		state->status = -EBADMSG;
	}
	if (--state->pending == 0)
		finish(state);
}

/* Cuts the pages [first, first + n) of a block into parts. */
static void add_parts(
	memory_io *state, memory_block *block, uint64_t first, uint64_t n, uint8_t *home)
{
	uint64_t most = MAX(PART_BYTES / block->page_bytes, 1);
	for (uint64_t done = 0, some; done < n; done += some) {
		some = MIN(most, n - done);
		const memory_part part = { .io = state,
			.block = block,
			.first = first - block->first_page + done,
			.n = some,
			.home = home ? home + done * block->page_bytes : NULL };
		g_array_append_val(state->parts, part);
	}
}

static void begin_read(memory_io *state, const kvt_extent *extent, uint8_t *home)
{
	memory_tier *tier = state->tier;
	const memory_layer *layer = find_layer(tier, state->io->tenant, extent, false);
	uint64_t page = extent->first_page, end = page + extent->n_pages;
	while (page < end) {
		const kvt_store_span *span = kvt_store_spans_at(&layer->spans, page);
		g_assert(span && span->first <= page);
		memory_block *block = span->record;
		uint64_t stop = MIN(end, span->end);
		block->pins++;
		g_ptr_array_add(state->blocks, block);
		add_parts(state, block, page, stop - page,
			home ? home + (page - extent->first_page) * extent->page_bytes : NULL);
		page = stop;
	}
}

static int begin_write(memory_io *state, unsigned which, uint8_t *home)
{
	const kvt_extent *extent = &state->io->extents[which];
	for (uint64_t done = 0; done < extent->n_pages;) {
		uint64_t offset;
		uint64_t n = kvt_arena_take(
			state->tier->arena, extent->page_bytes, extent->n_pages - done, &offset);
		if (n == 0)
			return -ENOSPC;
		memory_block *block = g_malloc(sizeof(*block) + n * sizeof(uint64_t));
		*block = (memory_block){ .offset = offset,
			.page_bytes = extent->page_bytes,
			.first_page = extent->first_page + done,
			.n_pages = n,
			.kept = n,
			.pins = 1 };
		g_ptr_array_add(state->blocks, block);
		g_array_append_val(state->extents_of, which);
		add_parts(state, block, block->first_page, n,
			home ? home + done * extent->page_bytes : NULL);
		done += n;
	}
	return 0;
}

static void begin(memory_io *state)
{
	memory_tier *tier = state->tier;
	const kvt_io *io = state->io;
	for (unsigned i = 0; i < io->n_extents && state->status == 0; i++) {
		uint8_t *home = io->memory ? io->memory[i] : NULL;
		if (io->op == KVT_IO_READ)
			begin_read(state, &io->extents[i], home);
		else
			state->status = begin_write(state, i, home);
	}
	if (state->status != 0) {
		drop_written(state);
		return;
	}
	state->pending = state->parts->len;
	tier->device_ios += state->pending;
	for (guint i = 0; i < state->parts->len; i++) {
		memory_part *part = &g_array_index(state->parts, memory_part, i);
		part->task = (kvt_helper_task){ .work = copy_part, .done = part_done, .arg = part };
		kvt_helper_pool_submit(tier->helpers, &part->task);
	}
}

static int memory_submit(kvt_tier *base, kvt_io *io)
{
	memory_tier *tier = (memory_tier *)base;
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	if (tier->in_flight >= tier->max_ios)
		return -EAGAIN;
	memory_io *state = take_io(tier);
	state->io = io;
	state->write = io->op == KVT_IO_WRITE;
	state->bytes = bytes;
	state->sequence = ++tier->sequence;
	state->status = kvt_page_store_begin(tier->pages, &state->ticket, io, bytes);
	if (state->status == -EINVAL) {
		give_io(state);
		return -EINVAL;
	}
	tier->in_flight++;
	io->submitted = kvt_loop_now(tier->loop);
	state->begun = state->status == 0;
	if (state->begun)
		begin(state);
	if (state->status != 0)
		kvt_loop_at(tier->loop, 0, finish, state);
	return 0;
}

/* --- The other operations --- */

static uint64_t memory_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	memory_tier *tier = (memory_tier *)base;
	uint64_t bytes = kvt_page_store_discard(tier->pages, tenant, extent);
	if (bytes > 0)
		forget_pages(tier, tenant, extent);
	return bytes;
}

static bool memory_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	return kvt_page_store_holds(((memory_tier *)base)->pages, tenant, extent);
}

static void memory_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	memory_tier *tier = (memory_tier *)base;
	*stats = tier->stats;
	stats->used = kvt_page_store_used(tier->pages);
	stats->peak_used = kvt_page_store_peak_taken(tier->pages);
	stats->device_ios = tier->device_ios;
}

static void free_layer(gpointer pointer)
{
	memory_layer *layer = pointer;
	kvt_store_spans_clear(&layer->spans);
	g_free(layer);
}

static kvt_tier *memory_open(const kvt_tier_env *env, const void *settings, GError **error)
{
	const memory_settings *s = settings;
	uint64_t mapped = s->capacity + s->capacity / 4 + (16 << 20);
	kvt_arena *arena =
		kvt_arena_new(mapped, (kvt_huge_pages)s->huge, s->pinned, (int)s->node, error);
	kvt_helper_pool *helpers =
		arena ? kvt_helper_pool_new(env->loop, (unsigned)s->helpers, error) : NULL;
	if (!helpers) {
		kvt_arena_free(arena);
		return NULL;
	}
	memory_tier *tier = g_new0(memory_tier, 1);
	tier->base.ops = &kvt_tier_memory;
	tier->loop = env->loop;
	tier->arena = arena;
	tier->helpers = helpers;
	tier->pages = kvt_page_store_new(s->capacity);
	tier->layers = g_hash_table_new_full(layer_hash, layer_equal, free_layer, NULL);
	tier->max_ios = (unsigned)s->max_ios;
	tier->ios = g_ptr_array_new_with_free_func(free_io);
	kvt_tier_stats_init(&tier->stats, s->capacity);
	return &tier->base;
}

static void memory_close(kvt_tier *base)
{
	memory_tier *tier = (memory_tier *)base;
	kvt_helper_pool_free(tier->helpers);
	for (guint i = 0; i < tier->ios->len; i++) {
		memory_io *state = g_ptr_array_index(tier->ios, i);
		if (state->write)
			drop_written(state);
		let_go(state);
	}
	GHashTableIter iter;
	gpointer pointer;
	g_hash_table_iter_init(&iter, tier->layers);
	while (g_hash_table_iter_next(&iter, &pointer, NULL)) {
		memory_layer *layer = pointer;
		const kvt_store_span *span;
		while ((span = kvt_store_spans_at(&layer->spans, 0))) {
			memory_block *block = span->record;
			uint64_t first = span->first, end = span->end;
			kvt_store_spans_cut(&layer->spans, first, end);
			drop_pages(tier, block, first, end);
		}
	}
	g_hash_table_unref(tier->layers);
	g_ptr_array_unref(tier->ios);
	kvt_arena_free(tier->arena);
	kvt_page_store_free(tier->pages);
	g_free(tier);
}

const kvt_tier_ops kvt_tier_memory = {
	.name = "memory",
	.summary = "this machine's memory, copied and verified (real)",
	.flags = KVT_TIER_REAL,
	.options = memory_options,
	.settings_size = sizeof(memory_settings),
	.open = memory_open,
	.submit = memory_submit,
	.discard = memory_discard,
	.holds = memory_holds,
	.stats = memory_stats,
	.close = memory_close,
};

void *kvt_pinned_tier_page(kvt_tier *base, uint32_t tenant, const kvt_extent *page)
{
	memory_tier *tier = (memory_tier *)base;
	const memory_layer *layer = find_layer(tier, tenant, page, false);
	const kvt_store_span *span =
		layer ? kvt_store_spans_at(&layer->spans, page->first_page) : NULL;
	if (!span || span->first > page->first_page)
		return NULL;
	const memory_block *block = span->record;
	return page_at(tier, block, page->first_page - block->first_page);
}
