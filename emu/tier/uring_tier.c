/*
 * uring_tier.c: the operations of the tier of real drives: opening a store and an engine,
 * admission, discards, statistics. How I/Os move is uring_parts.c's, uring_read.c's and
 * uring_write.c's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "emu/tier/uring_tier_internal.h"
#include "sim/base/error.h"

typedef struct store_settings {
	char *path, *model;
	uint64_t capacity, room, segment, max_transfer;
	int sync, method;
	int64_t queue_depth, reserved, patience, threads, helpers, max_ios;
	bool coalesce, sqpoll, iopoll;
} store_settings;

#define SETTING(field) offsetof(store_settings, field)

static const kvt_option store_options[] = {
	{ "path", KVT_OPTION_STRING, 0, SETTING(path), NULL, 0, 0, NULL,
		"directory or block device of the page store; made when it is missing or empty" },
	{ "capacity", KVT_OPTION_BYTES, 0, SETTING(capacity), NULL, 0, 0, NULL,
		"bytes of pages that it holds" },
	{ "room", KVT_OPTION_BYTES, 0, SETTING(room), "0B", 0, 0, NULL,
		"bytes that its files may take; 0B: half more than the capacity, and 32 MiB" },
	{ "segment", KVT_OPTION_BYTES, 0, SETTING(segment), "0B", 0, 0, NULL,
		"bytes of one file of a new store; 0B: as the store chooses" },
	{ "sync", KVT_OPTION_CHOICE, 0, SETTING(sync), "none", 0, 0, kvt_store_sync_names,
		"of a new store: none survives kill -9, data a power cut" },
	{ "model", KVT_OPTION_STRING, 0, SETTING(model), "any", 0, 0, NULL,
		"whose pages: names of model, precision and layout keep stores' pages apart" },
	{ "method", KVT_OPTION_CHOICE, 0, SETTING(method), "auto", 0, 0, kvt_io_method_names,
		"io_uring, threads with pread and pwrite, or io_uring where it is not refused" },
	{ "queue_depth", KVT_OPTION_INTEGER, 0, SETTING(queue_depth), "64", 1, 4096, NULL,
		"commands at the device at most" },
	{ "max_transfer", KVT_OPTION_BYTES, 0, SETTING(max_transfer), "1MiB", 4096, 1 << 30, NULL,
		"bytes of a command at most; neighbours are read together up to it" },
	{ "coalesce", KVT_OPTION_BOOL, 0, SETTING(coalesce), "yes", 0, 0, NULL,
		"whether neighbours share a command" },
	{ "reserved", KVT_OPTION_INTEGER, 0, SETTING(reserved), "0", 0, 4095, NULL,
		"commands of the queue depth that only the first priority class may use" },
	{ "patience", KVT_OPTION_INTEGER, 0, SETTING(patience), "16", 1, 1e6, NULL,
		"commands of higher classes that one of a lower class waits for at most" },
	{ "sqpoll", KVT_OPTION_BOOL, 0, SETTING(sqpoll), "no", 0, 0, NULL,
		"a kernel thread looks for commands" },
	{ "iopoll", KVT_OPTION_BOOL, 0, SETTING(iopoll), "no", 0, 0, NULL,
		"completions are polled for, where the drive has poll queues" },
	{ "threads", KVT_OPTION_INTEGER, 0, SETTING(threads), "4", 1, 64, NULL,
		"of the method threads" },
	{ "helpers", KVT_OPTION_INTEGER, 0, SETTING(helpers), "0", 0, 64, NULL,
		"threads for checksums and copies; 0: the engine's own does it" },
	{ "max_ios", KVT_OPTION_INTEGER, 0, SETTING(max_ios), "1024", 1, 1e6, NULL,
		"I/Os that are taken before others are told to come again" },
	{ 0 },
};

static void add_notice(uring_tier *tier, const char *line)
{
	if (tier->notice->len > 0)
		g_string_append_c(tier->notice, '\n');
	g_string_append(tier->notice, line);
}

static void on_notice(void *arg, const char *line)
{
	add_notice(arg, line);
}

/* The store's files come and go: the ring's table of files follows. */
static void on_slot(void *arg, uint32_t slot, int fd)
{
	uring_tier *tier = arg;
	if (tier->engine && slot < KVT_IO_SLOTS)
		kvt_io_engine_register_file(tier->engine, (int)slot, fd);
}

static bool open_store(uring_tier *tier, const store_settings *s, GError **error)
{
	const kvt_store_settings settings = { .direct = true,
		.ahead = true,
		.slot_changed = on_slot,
		.notice = on_notice,
		.arg = tier };
	if (!kvt_store_exists(s->path)) {
		const kvt_store_shape shape = { .sync = (kvt_store_sync)s->sync,
			.segment_bytes = s->segment,
			.capacity = s->room > 0 ? s->room
						: s->capacity + s->capacity / 2 + (32 << 20) };
		if (!kvt_store_create(s->path, &shape, &settings, error))
			return false;
	}
	tier->store = kvt_store_open(s->path, &settings, error);
	return tier->store != NULL;
}

/* A number that the system says of the drive under a path, or is to be; -1: it says nothing. */
static int64_t drive_limit(const char *path, const char *name)
{
	struct stat st;
	g_autofree char *folder = g_path_get_dirname(path);
	if (stat(path, &st) != 0 && stat(folder, &st) != 0)
		return -1;
	dev_t device = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	static const char *const places[] = { "queue", "../queue" }; /* of drives; of their parts */
	for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
		g_autofree char *file = g_strdup_printf("/sys/dev/block/%u:%u/%s/%s", major(device),
			minor(device), places[i], name);
		g_autofree char *text = NULL;
		if (g_file_get_contents(file, &text, NULL, NULL))
			return g_ascii_strtoll(text, NULL, 10);
	}
	return -1;
}

/* Whether to ask for polling: where the drive has no queues for it, a thread would spin for
 * nothing.
 */
static bool choose_polling(uring_tier *tier, const store_settings *s)
{
	if (!s->iopoll || s->method == KVT_IO_THREADS)
		return false;
	if (drive_limit(s->path, "io_poll") > 0)
		return true;
	g_autofree char *line = g_strdup_printf(
		"%s: iopoll: no drive with poll queues: completions are waited for", s->path);
	add_notice(tier, line);
	return false;
}

/* Commands that a drive takes whole, wherever their memory lies: others are not polled for. */
static uint64_t polled_transfer(const store_settings *s)
{
	int64_t kib = drive_limit(s->path, "max_sectors_kb");
	int64_t segments = drive_limit(s->path, "max_segments");
	uint64_t bytes = s->max_transfer;
	if (kib > 0)
		bytes = MIN(bytes, (uint64_t)kib << 10);
	if (segments > 0)
		bytes = MIN(bytes, (uint64_t)segments * KVT_STORE_BLOCK);
	return MAX(bytes, KVT_STORE_BLOCK);
}

static bool open_engine(
	uring_tier *tier, const kvt_tier_env *env, const store_settings *s, GError **error)
{
	bool polled = choose_polling(tier, s);
	tier->max_transfer = polled ? polled_transfer(s) : s->max_transfer;
	tier->max_transfer = tier->max_transfer / KVT_STORE_BLOCK * KVT_STORE_BLOCK;
	const kvt_io_settings settings = {
		.method = (kvt_io_method)s->method,
		.queue_depth = (unsigned)s->queue_depth,
		.max_transfer = tier->max_transfer,
		.no_coalescing = !s->coalesce,
		.patience = (unsigned)s->patience,
		.reserved = (unsigned)s->reserved,
		.sqpoll = s->sqpoll,
		.iopoll = polled,
		.threads = (unsigned)s->threads,
	};
	tier->engine = kvt_io_engine_new(env->loop, &settings, error);
	if (!tier->engine)
		return false;
	if (kvt_io_engine_notice(tier->engine))
		add_notice(tier, kvt_io_engine_notice(tier->engine));
	tier->helpers = kvt_helper_pool_new(env->loop, (unsigned)s->helpers, error);
	return tier->helpers != NULL;
}

typedef struct recovery {
	uring_tier *tier;
	uint64_t dropped;
} recovery;

/* Pages that the store had; what is more than the capacity is not taken. */
static void recover_run(void *arg, const kvt_store_run *run)
{
	recovery *r = arg;
	if (!kvt_page_store_preload(r->tier->pages, run->tenant, &run->pages))
		r->dropped += run->pages.n_pages;
}

static void recover_pages(uring_tier *tier)
{
	recovery r = { .tier = tier };
	kvt_store_each(tier->store, tier->model, recover_run, &r);
	if (r.dropped > 0) {
		g_autofree char *line =
			g_strdup_printf("%" G_GUINT64_FORMAT " pages of the store are beyond the "
					"capacity and not used",
				r.dropped);
		add_notice(tier, line);
	}
}

static void uring_close(kvt_tier *base);

static uring_tier *tier_new(kvt_loop *loop, uint64_t capacity)
{
	uring_tier *tier = g_new0(uring_tier, 1);
	tier->base.ops = &kvt_tier_store;
	tier->loop = loop;
	tier->notice = g_string_new(NULL);
	tier->ios = g_ptr_array_new();
	tier->all_parts = g_ptr_array_new();
	tier->all_zeros = g_ptr_array_new_with_free_func(free);
	tier->beside = g_ptr_array_new();
	tier->pages = kvt_page_store_new(capacity);
	kvt_tier_stats_init(&tier->stats, capacity);
	return tier;
}

static kvt_tier *uring_open(const kvt_tier_env *env, const void *settings, GError **error)
{
	const store_settings *s = settings;
	uring_tier *tier = tier_new(env->loop, s->capacity);
	tier->model = kvt_store_checksum(s->model, strlen(s->model));
	tier->max_ios = (unsigned)s->max_ios;
	tier->max_parts = 2 * (unsigned)s->queue_depth;
	if (!open_engine(tier, env, s, error) || !open_store(tier, s, error)) {
		uring_close(&tier->base);
		return NULL;
	}
	kvt_store_info info;
	kvt_store_info_get(tier->store, &info);
	tier->sync = info.shape.sync == KVT_STORE_SYNC_DATA;
	if (!info.direct)
		add_notice(tier, "the file system refuses O_DIRECT: reads may come from its cache");
	recover_pages(tier);
	return &tier->base;
}

static void finish_later(void *arg)
{
	kvt_uring_finish(arg);
}

static int uring_submit(kvt_tier *base, kvt_io *io)
{
	uring_tier *tier = (uring_tier *)base;
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	if (tier->in_flight >= tier->max_ios)
		return -EAGAIN;
	uring_io *state = kvt_uring_take_io(tier, io, bytes);
	int status = kvt_page_store_begin(tier->pages, &state->ticket, io, bytes);
	if (status == -EINVAL) {
		kvt_uring_give_io(state);
		return status;
	}
	tier->in_flight++;
	io->submitted = kvt_loop_now(tier->loop);
	state->begun = status == 0;
	state->status = status;
	if (status == 0 && io->op == KVT_IO_READ)
		kvt_uring_begin_read(state);
	else if (status == 0)
		kvt_uring_begin_write(state);
	if (state->status != 0)
		kvt_loop_at(tier->loop, 0, finish_later, state);
	else if (io->op == KVT_IO_READ)
		kvt_uring_enqueue(state);
	return 0;
}

static void uring_commit(kvt_tier *base)
{
	kvt_io_engine_commit(((uring_tier *)base)->engine);
}

static uint64_t uring_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	uring_tier *tier = (uring_tier *)base;
	uint64_t bytes = kvt_page_store_discard(tier->pages, tenant, extent);
	const kvt_store_run run = { tier->model, tenant, *extent };
	if (bytes > 0)
		kvt_store_discard(tier->store, &run, 1, NULL);
	return bytes;
}

static bool uring_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	return kvt_page_store_holds(((uring_tier *)base)->pages, tenant, extent);
}

static void uring_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	uring_tier *tier = (uring_tier *)base;
	*stats = tier->stats;
	stats->used = kvt_page_store_used(tier->pages);
	stats->peak_used = kvt_page_store_peak_taken(tier->pages);
	stats->device_ios = kvt_io_engine_stats(tier->engine).commands;
}

static int uring_register_memory(kvt_tier *base, void *memory, uint64_t bytes)
{
	return kvt_io_engine_register_memory(((uring_tier *)base)->engine, memory, bytes);
}

static const char *uring_notice(kvt_tier *base)
{
	const GString *notice = ((uring_tier *)base)->notice;
	return notice->len > 0 ? notice->str : NULL;
}

static void drop_ios(uring_tier *tier)
{
	for (unsigned i = 0; i < tier->ios->len; i++) {
		uring_io *io = g_ptr_array_index(tier->ios, i);
		if (io->in_use) {
			kvt_uring_abandon(io);
			kvt_store_release(tier->store, (const kvt_store_piece *)io->pieces->data,
				io->pieces->len);
		}
		g_array_unref(io->pieces);
		g_array_unref(io->homes);
		g_array_unref(io->records);
		free(io->headers);
		g_free(io);
	}
	g_ptr_array_unref(tier->ios);
}

/* After drop_ios. */
static void free_tier(uring_tier *tier)
{
	for (unsigned i = 0; i < tier->all_parts->len; i++) {
		uring_part *part = g_ptr_array_index(tier->all_parts, i);
		free(part->buffer);
		g_free(part);
	}
	g_ptr_array_unref(tier->all_parts);
	g_ptr_array_unref(tier->all_zeros);
	g_ptr_array_unref(tier->beside);
	kvt_page_store_free(tier->pages);
	g_string_free(tier->notice, TRUE);
	g_free(tier);
}

static void uring_close(kvt_tier *base)
{
	uring_tier *tier = (uring_tier *)base;
	if (tier->owner) {
		/* what is in flight is the engine's, and so waits for the owner's end */
		if (tier->in_flight == 0 && g_ptr_array_remove(tier->owner->beside, tier)) {
			drop_ios(tier);
			free_tier(tier);
		}
		return;
	}
	kvt_io_engine *engine = tier->engine;
	tier->engine = NULL;
	kvt_io_engine_free(engine);
	kvt_helper_pool_free(tier->helpers);
	for (unsigned i = 0; i < tier->beside->len; i++) {
		drop_ios(g_ptr_array_index(tier->beside, i));
		free_tier(g_ptr_array_index(tier->beside, i));
	}
	drop_ios(tier);
	/* what cannot be made durable shows when the store is opened again */
	if (tier->store)
		kvt_store_close(tier->store, NULL);
	free_tier(tier);
}

kvt_tier *kvt_uring_tier_beside(kvt_tier *base, uint64_t model)
{
	uring_tier *first = (uring_tier *)base;
	g_assert(!first->owner);
	if (model == first->model)
		return base;
	uring_tier *tier = tier_new(first->loop, first->stats.capacity);
	tier->owner = first;
	tier->engine = first->engine;
	tier->helpers = first->helpers;
	tier->store = first->store;
	tier->model = model;
	tier->max_transfer = first->max_transfer;
	tier->sync = first->sync;
	tier->max_ios = first->max_ios;
	tier->max_parts = first->max_parts;
	g_ptr_array_add(first->beside, tier);
	recover_pages(tier);
	return &tier->base;
}

const kvt_tier_ops kvt_tier_store = {
	.name = "store",
	.summary = "a page store on this machine's drives, by io_uring (real)",
	.flags = KVT_TIER_REAL | KVT_TIER_LASTING,
	.options = store_options,
	.settings_size = sizeof(store_settings),
	.open = uring_open,
	.submit = uring_submit,
	.commit = uring_commit,
	.discard = uring_discard,
	.holds = uring_holds,
	.register_memory = uring_register_memory,
	.notice = uring_notice,
	.stats = uring_stats,
	.close = uring_close,
};

kvt_uring_counts kvt_uring_tier_counts(const kvt_tier *tier)
{
	return ((const uring_tier *)tier)->counts;
}

kvt_io_engine *kvt_uring_tier_engine(kvt_tier *tier)
{
	return ((uring_tier *)tier)->engine;
}

kvt_store *kvt_uring_tier_store(kvt_tier *tier)
{
	return ((uring_tier *)tier)->store;
}
