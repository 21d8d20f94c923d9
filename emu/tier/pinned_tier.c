/*
 * pinned_tier.c: I/Os of pages in memory: copied and verified by helper threads or the loop in
 * tasks of bounded size, or verified where they lie while somebody else copies from there, or by
 * whom they are copied. Which pages lie where is pinned_pages.c's.
 */
#include "emu/tier/pinned_tier.h"

#include <errno.h>
#include <string.h>

#include "emu/loop/helper_pool.h"
#include "emu/store/page_checksum.h"
#include "emu/tier/pinned_pages.h"
#include "sim/base/rng.h"
#include "sim/tier/page_store.h"

/* Bytes that one task copies or verifies, about. */
#define TASK_BYTES (UINT64_C(1) << 20)

typedef struct memory_settings {
	uint64_t capacity;
	int huge;
	bool pinned, scattered;
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
	{ "scattered", KVT_OPTION_BOOL, 0, SETTING(scattered), "no", 0, 0, NULL,
		"pages that are written together lie apart, as in memory that has long been in "
		"use" },
	{ "node", KVT_OPTION_INTEGER, 0, SETTING(node), "-1", -1, 1023, NULL,
		"NUMA node that the memory is bound to; -1: none" },
	{ "helpers", KVT_OPTION_INTEGER, 0, SETTING(helpers), "1", 0, 64, NULL,
		"threads that copy and verify; 0: the engine's own does it" },
	{ "max_ios", KVT_OPTION_INTEGER, 0, SETTING(max_ios), "1024", 1, 1e6, NULL,
		"I/Os that are taken before others are told to come again" },
	{ 0 },
};

typedef struct memory_tier memory_tier;
typedef struct memory_io memory_io;

/* Pages of a block that follow each other, at most a task's. */
typedef struct memory_part {
	kvt_pinned_block *block;
	uint64_t first, n; /* pages, from the block's first */
	uint8_t *home;     /* of the I/O; or NULL */
} memory_part;

/* Parts [first, end) of an I/O. */
typedef struct memory_task {
	kvt_helper_task task;
	memory_io *io;
	guint first, end;
	bool bad; /* a page of them is */
} memory_task;

struct memory_io {
	memory_tier *tier;
	kvt_io *io;
	uint64_t bytes, sequence;
	bool begun, write;
	bool trusted;          /* the tier does not verify pages */
	GArray *runs, *checks; /* of a read in place: the caller's, until it has begun; or NULL */
	kvt_page_ticket ticket;
	GPtrArray *blocks;  /* read from, with a pin each; or written */
	GArray *extents_of; /* unsigned: whose a written block is */
	GArray *parts, *tasks;
	unsigned pending; /* tasks, and whoever moves pages that are read in place */
	int status;
	memory_io *next_free;
};

struct memory_tier {
	kvt_tier base;
	kvt_loop *loop;
	kvt_arena *arena;
	kvt_helper_pool *helpers;
	kvt_page_store *pages;
	kvt_pinned_pages places;
	kvt_tier_stats stats;
	uint64_t sequence, device_ios;
	unsigned max_ios, in_flight;
	bool scattered;
	kvt_rng rng; /* of where pages are put then */
	memory_io *free_ios;
	GPtrArray *ios;
};

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
		state->tasks = g_array_new(FALSE, FALSE, sizeof(memory_task));
		g_ptr_array_add(tier->ios, state);
	}
	g_array_set_size(state->parts, 0);
	g_array_set_size(state->tasks, 0);
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
	g_array_unref(state->tasks);
	g_free(state);
}

static void show_written(memory_io *state)
{
	const kvt_io *io = state->io;
	for (guint i = 0; i < state->blocks->len; i++) {
		const kvt_extent *extent =
			&io->extents[g_array_index(state->extents_of, unsigned, i)];
		kvt_pinned_pages_show(&state->tier->places, io->tenant, extent,
			g_ptr_array_index(state->blocks, i), state->sequence);
	}
}

static void let_go(memory_io *state)
{
	for (guint i = 0; i < state->blocks->len; i++)
		kvt_pinned_pages_unpin(&state->tier->places, g_ptr_array_index(state->blocks, i));
	g_ptr_array_set_size(state->blocks, 0);
	g_array_set_size(state->extents_of, 0);
}

/* A write that found no room after all. */
static void drop_written(memory_io *state)
{
	for (guint i = 0; i < state->blocks->len; i++)
		kvt_pinned_pages_drop(&state->tier->places, g_ptr_array_index(state->blocks, i));
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

/* Copies one part; whether all its pages are as they were written. What is copied out is verified
 * where it has come to. */
static bool copy_part(const memory_io *io, const memory_part *part)
{
	kvt_pinned_block *block = part->block;
	uint64_t bytes = block->page_bytes;
	uint8_t *home = part->home;
	bool good = true;
	for (uint64_t i = part->first; i < part->first + part->n; i++) {
		uint8_t *page = kvt_pinned_page(&io->tier->places, block, i);
		if (io->write && home)
			memcpy(page, home, bytes);
		else if (io->write)
			memset(page, 0, bytes);
		else if (home)
			memcpy(home, page, bytes);
		uint64_t sum = kvt_page_checksum(io->write || !home ? page : home, bytes);
		if (io->write)
			block->checksums[i] = sum;
		else
			good &= sum == block->checksums[i];
		home = home ? home + bytes : NULL;
	}
	return good;
}

/* On a helper thread or the loop. */
static void work_on_parts(kvt_helper_task *helper)
{
	memory_task *task = helper->arg;
	const memory_part *parts = (const memory_part *)task->io->parts->data;
	for (guint i = task->first; i < task->end; i++)
		task->bad |= !copy_part(task->io, &parts[i]);
}

/* Forgets those of n pages of a block, from its `first` on, that are wrong. */
static void forget_bad(memory_io *state, const kvt_pinned_block *block, uint64_t first, uint64_t n)
{
	memory_tier *tier = state->tier;
	const kvt_io *io = state->io;
	for (uint64_t i = first; i < first + n; i++) {
		if (kvt_page_checksum(kvt_pinned_page(&tier->places, block, i),
			    block->page_bytes) == block->checksums[i])
			continue;
		for (unsigned e = 0; e < io->n_extents; e++) {
			kvt_extent one = io->extents[e];
			uint64_t end;
			one.first_page = block->first_page + i;
			one.n_pages = 1;
			if (kvt_pinned_pages_at(
				    &tier->places, io->tenant, &one, one.first_page, &end) != block)
				continue;
			kvt_page_store_discard(tier->pages, io->tenant, &one);
			kvt_pinned_pages_forget(&tier->places, io->tenant, &one);
		}
	}
}

static void task_done(kvt_helper_task *helper)
{
	memory_task *task = helper->arg;
	memory_io *state = task->io;
	if (task->bad) {
		for (guint i = task->first; i < task->end; i++) {
			const memory_part *part = &g_array_index(state->parts, memory_part, i);
			forget_bad(state, part->block, part->first, part->n);
		}
		state->status = -EBADMSG;
	}
	if (--state->pending == 0)
		finish(state);
}

/* Cuts the pages [first, first + n) of a block into parts. */
static void add_parts(
	memory_io *state, kvt_pinned_block *block, uint64_t first, uint64_t n, uint8_t *home)
{
	uint64_t most = MAX(TASK_BYTES / block->page_bytes, 1);
	for (uint64_t done = 0, some; done < n; done += some) {
		some = MIN(most, n - done);
		const memory_part part = { .block = block,
			.first = first - block->first_page + done,
			.n = some,
			.home = home ? home + done * block->page_bytes : NULL };
		g_array_append_val(state->parts, part);
	}
}

static void add_run(GArray *runs, const uint8_t *from, uint8_t *to, uint64_t bytes)
{
	kvt_pinned_run *last =
		runs->len > 0 ? &g_array_index(runs, kvt_pinned_run, runs->len - 1) : NULL;
	if (last && (const uint8_t *)last->from + last->bytes == from &&
		(uint8_t *)last->to + last->bytes == to) {
		last->bytes += bytes;
		return;
	}
	const kvt_pinned_run run = { to, from, bytes };
	g_array_append_val(runs, run);
}

/* Notes n pages of a block, from its `first` on, that somebody else moves; neighbours on both sides
 * are one run. */
static void add_runs(
	memory_io *state, const kvt_pinned_block *block, uint64_t first, uint64_t n, uint8_t *to)
{
	const kvt_pinned_pages *places = &state->tier->places;
	uint64_t bytes = block->page_bytes;
	if (!block->places)
		add_run(state->runs, kvt_pinned_page(places, block, first), to, n * bytes);
	for (uint64_t i = 0; block->places && i < n; i++)
		add_run(state->runs, kvt_pinned_page(places, block, first + i), to + i * bytes,
			bytes);
}

/* Notes pages that who moves them verifies. */
static void add_check(GArray *checks, const kvt_pinned_block *block, uint64_t first, uint64_t n,
	const uint8_t *to)
{
	const kvt_pinned_check check = { to, block->page_bytes, n, block->checksums + first };
	g_array_append_val(checks, check);
}

static void begin_read(memory_io *state, const kvt_extent *extent, uint8_t *home)
{
	memory_tier *tier = state->tier;
	uint64_t page = extent->first_page, end = page + extent->n_pages;
	while (page < end) {
		uint64_t stop;
		kvt_pinned_block *block =
			kvt_pinned_pages_at(&tier->places, state->io->tenant, extent, page, &stop);
		g_assert(block);
		stop = MIN(end, stop);
		block->pins++;
		g_ptr_array_add(state->blocks, block);
		if (state->runs)
			add_runs(state, block, page - block->first_page, stop - page, home);
		if (state->checks)
			add_check(
				state->checks, block, page - block->first_page, stop - page, home);
		if (!state->trusted)
			add_parts(state, block, page, stop - page, state->runs ? NULL : home);
		home = home ? home + (stop - page) * block->page_bytes : NULL;
		page = stop;
	}
}

/* Pages of a write that have memory now; whether there was any. */
static bool add_block(memory_io *state, unsigned which, uint8_t *home, kvt_pinned_block *block)
{
	const kvt_extent *extent = &state->io->extents[which];
	if (!block)
		return false;
	uint64_t first = block->first_page;
	g_ptr_array_add(state->blocks, block);
	g_array_append_val(state->extents_of, which);
	add_parts(state, block, first, block->n_pages,
		home ? home + (first - extent->first_page) * extent->page_bytes : NULL);
	return true;
}

/* Neighbours of a run come to lie apart: its pages take their places in an order of chance. */
static int scatter(memory_io *state, unsigned which, uint8_t *home)
{
	const kvt_extent *extent = &state->io->extents[which];
	g_autofree uint64_t *order = g_new(uint64_t, extent->n_pages);
	for (uint64_t i = 0; i < extent->n_pages; i++) {
		uint64_t k = kvt_rng_below(&state->tier->rng, i + 1);
		order[i] = i;
		order[i] = order[k];
		order[k] = i;
	}
	kvt_pinned_block *block = kvt_pinned_pages_scatter(&state->tier->places, extent->page_bytes,
		extent->first_page, extent->n_pages, order);
	return add_block(state, which, home, block) ? 0 : -ENOSPC;
}

static int begin_write(memory_io *state, unsigned which, uint8_t *home)
{
	const kvt_extent *extent = &state->io->extents[which];
	if (state->tier->scattered)
		return scatter(state, which, home);
	for (uint64_t done = 0; done < extent->n_pages;) {
		kvt_pinned_block *block = kvt_pinned_pages_take(&state->tier->places,
			extent->page_bytes, extent->first_page + done, extent->n_pages - done);
		if (!add_block(state, which, home, block))
			return -ENOSPC;
		done += block->n_pages;
	}
	return 0;
}

/* Puts parts together into tasks: scattered pages are too small for one each. */
static void begin_tasks(memory_io *state)
{
	const memory_part *parts = (const memory_part *)state->parts->data;
	for (guint i = 0; i < state->parts->len;) {
		memory_task task = { .io = state, .first = i };
		uint64_t bytes = 0;
		do {
			bytes += parts[i].n * parts[i].block->page_bytes;
			i++;
		} while (i < state->parts->len &&
			 bytes + parts[i].n * parts[i].block->page_bytes <= TASK_BYTES);
		task.end = i;
		g_array_append_val(state->tasks, task);
	}
	state->pending += state->tasks->len;
	for (guint i = 0; i < state->tasks->len; i++) {
		memory_task *task = &g_array_index(state->tasks, memory_task, i);
		task->task =
			(kvt_helper_task){ .work = work_on_parts, .done = task_done, .arg = task };
		kvt_helper_pool_submit(state->tier->helpers, &task->task);
	}
}

static void begin(memory_io *state)
{
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
	state->pending = state->runs != NULL;
	state->tier->device_ios += state->runs ? state->runs->len : state->parts->len;
	begin_tasks(state);
}

/* Memory of a read goes to `runs`, if there are any, instead of being copied. */
static int submit(memory_tier *tier, kvt_io *io, GArray *runs, GArray *checks, bool trusted)
{
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	if (tier->in_flight >= tier->max_ios)
		return -EAGAIN;
	memory_io *state = take_io(tier);
	state->io = io;
	state->write = io->op == KVT_IO_WRITE;
	state->runs = runs;
	state->checks = checks;
	state->trusted = trusted;
	state->bytes = bytes;
	state->sequence = ++tier->sequence;
	state->status = kvt_page_store_begin(tier->pages, &state->ticket, io, bytes);
	if (state->status == -EINVAL) {
		give_io(state);
		return -EINVAL;
	}
	tier->in_flight++;
	io->submitted = kvt_loop_now(tier->loop);
	io->tier_state = state;
	state->begun = state->status == 0;
	if (state->begun)
		begin(state);
	state->runs = state->checks = NULL;
	if (state->status != 0)
		kvt_loop_at(tier->loop, 0, finish, state);
	return 0;
}

static int memory_submit(kvt_tier *base, kvt_io *io)
{
	return submit((memory_tier *)base, io, NULL, NULL, false);
}

int kvt_pinned_tier_read_in_place(
	kvt_tier *base, kvt_io *io, kvt_pinned_verify verify, GArray *runs, GArray *checks)
{
	g_assert(io->op == KVT_IO_READ && io->memory && runs->len == 0);
	g_assert(verify == KVT_PINNED_MOVED ? checks && checks->len == 0 : !checks);
	return submit((memory_tier *)base, io, runs, checks, verify != KVT_PINNED_IN_PLACE);
}

void kvt_pinned_tier_wrong(kvt_io *io, const uint64_t *sum)
{
	memory_io *state = io->tier_state;
	for (guint i = 0; i < state->blocks->len; i++) {
		const kvt_pinned_block *block = g_ptr_array_index(state->blocks, i);
		if (sum < block->checksums || sum >= block->checksums + block->n_pages)
			continue;
		forget_bad(state, block, (uint64_t)(sum - block->checksums), 1);
		break;
	}
	state->status = -EBADMSG;
}

void kvt_pinned_tier_moved(kvt_io *io, int status)
{
	memory_io *state = io->tier_state;
	if (state->status == 0)
		state->status = status;
	if (--state->pending == 0)
		finish(state);
}

/* --- The other operations --- */

static uint64_t memory_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	memory_tier *tier = (memory_tier *)base;
	uint64_t bytes = kvt_page_store_discard(tier->pages, tenant, extent);
	if (bytes > 0)
		kvt_pinned_pages_forget(&tier->places, tenant, extent);
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
	kvt_pinned_pages_init(&tier->places, arena);
	tier->max_ios = (unsigned)s->max_ios;
	tier->scattered = s->scattered;
	tier->rng = kvt_rng_init(env->seed, kvt_rng_stream_id("pinned.scattered", env->instance));
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
	kvt_pinned_pages_clear(&tier->places);
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
	uint64_t first = page->first_page, end;
	const kvt_pinned_block *block =
		kvt_pinned_pages_at(&tier->places, tenant, page, first, &end);
	return block ? kvt_pinned_page(&tier->places, block, first - block->first_page) : NULL;
}

void *kvt_pinned_tier_region(kvt_tier *base, uint64_t *bytes)
{
	const memory_tier *tier = (const memory_tier *)base;
	*bytes = kvt_arena_bytes(tier->arena);
	return kvt_arena_base(tier->arena);
}
