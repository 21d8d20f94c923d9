/* upload_fixture.c: rigs, content of pages, and reads that are sent to the device. */
#include "tests/unit/upload_fixture.h"

#include <string.h>

#include "emu/loop/real_loop.h"
#include "emu/tier/pinned_tier.h"
#include "emu/tier/uring_tier.h"
#include "sim/tier/fault_tier.h"
#include "tests/unit/store_fixture.h"

static kvt_tier *open_inner(upload_rig *rig, const upload_shape *shape, uint64_t capacity)
{
	g_autoptr(GError) error = NULL;
	bool store = shape->inner == INNER_STORE;
	/* the largest of the suite is asked for and not used */
	capacity = MIN(capacity, (uint64_t)1 << 30);
	rig->folder = store ? store_folder_new() : NULL;
	g_autofree char *path = store ? g_strdup_printf("path = %s\n", rig->folder) : NULL;
	g_autofree char *text =
		g_strdup_printf("[inner]\ncapacity = %" G_GUINT64_FORMAT "B\n%s%s\n", capacity,
			store ? path : "", shape->options ? shape->options : "");
	g_autoptr(kvt_config) config = kvt_config_parse("inner", text, &error);
	g_assert_no_error(error);
	const kvt_tier_env env = { .loop = rig->loop, .seed = 3 };
	kvt_tier *tier = kvt_tier_open_kind(store ? &kvt_tier_store : &kvt_tier_memory, &env,
		kvt_config_section(config, "inner"), &error);
	g_assert_no_error(error);
	const kvt_fault_settings faults = { .busy_rate = shape->inner == INNER_BUSY ? 0.2 : 0,
		.delay_rate = shape->inner == INNER_WRAPPED ? 0 : 0.05,
		.delay = KVT_MILLISECOND };
	bool wrapped = shape->inner != INNER_MEMORY && !store;
	return wrapped ? kvt_fault_tier_new(&env, tier, &faults) : tier;
}

upload_rig *upload_rig_begin(const upload_shape *shape, uint64_t capacity, uint64_t device_bytes)
{
	const memory_gpu_settings gpu = { .late = shape->gpu == GPU_LATE,
		.no_checksums = shape->gpu == GPU_WITHOUT_SUMS };
	upload_rig *rig = g_new0(upload_rig, 1);
	rig->loop = kvt_real_loop_new(NULL);
	rig->gpu = memory_gpu_new(&gpu);
	rig->inner = open_inner(rig, shape, capacity);
	rig->device = rig->gpu->ops->alloc(rig->gpu, device_bytes);
	rig->device_bytes = device_bytes;
	g_assert_nonnull(rig->device);
	return rig;
}

void upload_rig_open(upload_rig *rig, const kvt_upload_settings *settings)
{
	g_autoptr(GError) error = NULL;
	const kvt_tier_env env = { .loop = rig->loop };
	rig->tier = kvt_upload_tier_new(&env, rig->gpu, rig->inner, settings, &error);
	g_assert_no_error(error);
	kvt_upload_tier_add_device_memory(rig->tier, rig->device, rig->device_bytes);
}

upload_rig *upload_rig_new(const upload_shape *shape, uint64_t capacity, uint64_t device_bytes)
{
	upload_rig *rig = upload_rig_begin(shape, capacity, device_bytes);
	upload_rig_open(rig, &shape->settings);
	return rig;
}

void upload_rig_free(upload_rig *rig)
{
	kvt_tier_close(rig->tier);
	rig->gpu->ops->release(rig->gpu, rig->device);
	rig->gpu->ops->free(rig->gpu);
	kvt_loop_free(rig->loop);
	if (rig->folder)
		store_folder_free(rig->folder);
	g_free(rig);
}

void upload_fill(const kvt_extent *run, unsigned version, uint8_t *memory)
{
	for (uint64_t i = 0; i < run->n_pages; i++) {
		uint64_t word = (run->first_page + i) * 0x9e3779b97f4a7c15u +
				run->layer * 0xbf58476d1ce4e5b9u + version;
		for (uint64_t at = 0; at + 8 <= run->page_bytes; at += 8, word += 0x10001)
			memcpy(memory + i * run->page_bytes + at, &word, 8);
		memset(memory + (i + 1) * run->page_bytes - run->page_bytes % 8, 7,
			run->page_bytes % 8);
	}
}

void upload_write(upload_rig *rig, const kvt_extent *run, unsigned version)
{
	g_autofree uint8_t *memory = g_malloc(kvt_extent_bytes(run));
	void *const where[] = { memory };
	test_io io;
	upload_fill(run, version, memory);
	test_io_init(&io, KVT_IO_WRITE, *run);
	io.io.memory = where;
	test_io_submit(rig->tier, &io);
	kvt_loop_run(rig->loop);
	g_assert_cmpuint(io.done, ==, 1);
	g_assert_cmpint(io.io.status, ==, 0);
}

bool upload_arrived(upload_rig *rig, const kvt_extent *run, unsigned version, const uint8_t *device)
{
	uint64_t bytes = kvt_extent_bytes(run);
	g_autofree uint8_t *expected = g_malloc(bytes), *got = g_malloc(bytes);
	upload_fill(run, version, expected);
	memory_gpu_peek(rig->gpu, device, bytes, got);
	return memcmp(expected, got, bytes) == 0;
}

/* --- Reads without memory --- */

typedef struct to_device {
	kvt_tier base;
	kvt_tier_ops ops;
	upload_rig *rig;
	kvt_tier *inner;
	/* of the device's memory: a half for each stream, since copies of two are in no order */
	uint64_t next[2];
	GPtrArray *sent; /* every one, to free them */
} to_device;

/* An I/O's own end, while the tier's is in its place. */
typedef struct sent_io {
	void (*done)(kvt_io *io);
	void *arg;
	void *memory[];
} sent_io;

static void take_back(kvt_io *io)
{
	sent_io *sent = io->arg;
	io->done = sent->done;
	io->arg = sent->arg;
	io->memory = NULL;
}

static void arrived(kvt_io *io)
{
	take_back(io);
	io->done(io);
}

static int to_device_submit(kvt_tier *base, kvt_io *io)
{
	to_device *tier = (to_device *)base;
	uint64_t bytes, half = tier->rig->device_bytes / 2;
	if (io->op != KVT_IO_READ || io->memory || kvt_io_check(io, &bytes) != 0 || bytes > half)
		return kvt_tier_submit(tier->inner, io);
	sent_io *sent = g_malloc(sizeof(*sent) + io->n_extents * sizeof(void *));
	g_ptr_array_add(tier->sent, sent);
	*sent = (sent_io){ io->done, io->arg };
	bool urgent = io->priority == 0;
	uint64_t next = tier->next[urgent] + bytes > half ? 0 : tier->next[urgent];
	for (unsigned i = 0; i < io->n_extents; i++) {
		sent->memory[i] = tier->rig->device + urgent * half + next;
		next += kvt_extent_bytes(&io->extents[i]);
	}
	io->memory = sent->memory;
	io->done = arrived;
	io->arg = sent;
	int error = kvt_tier_submit(tier->inner, io);
	if (error != 0)
		take_back(io);
	else
		tier->next[urgent] = next;
	return error;
}

static void to_device_commit(kvt_tier *base)
{
	kvt_tier_commit(((to_device *)base)->inner);
}

static uint64_t to_device_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((to_device *)base)->inner;
	return inner->ops->discard(inner, tenant, extent);
}

static bool to_device_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((to_device *)base)->inner;
	return inner->ops->holds(inner, tenant, extent);
}

static void to_device_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	kvt_tier *inner = ((to_device *)base)->inner;
	inner->ops->stats(inner, stats);
}

/* The rig closes what is inside. */
static void to_device_close(kvt_tier *base)
{
	to_device *tier = (to_device *)base;
	upload_rig_free(tier->rig);
	g_ptr_array_unref(tier->sent);
	g_free(tier);
}

kvt_tier *upload_to_device_new(upload_rig *rig)
{
	to_device *tier = g_new0(to_device, 1);
	tier->ops = (kvt_tier_ops){
		.name = rig->tier->ops->name,
		.flags = rig->tier->ops->flags,
		.submit = to_device_submit,
		.commit = to_device_commit,
		.discard = to_device_discard,
		.holds = to_device_holds,
		.stats = to_device_stats,
		.close = to_device_close,
	};
	tier->base.ops = &tier->ops;
	tier->rig = rig;
	tier->inner = rig->tier;
	tier->sent = g_ptr_array_new_with_free_func(g_free);
	return &tier->base;
}
