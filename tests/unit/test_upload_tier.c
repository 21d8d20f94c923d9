/*
 * test_upload_tier.c: the conformance suite over pages that end in a GPU's memory, from where they
 * lie and by way of staging, of memory, of drives and of a tier that stalls; and that what arrives
 * is what was written, however scattered, or nothing.
 */
#include <errno.h>
#include <string.h>

#include "emu/tier/pinned_tier.h"
#include "sim/base/rng.h"
#include "tests/unit/upload_fixture.h"

enum { PAGE = 16 << 10, MIB = 1 << 20 };

#define STAGING(staging, buffers)                                                                  \
	{                                                                                          \
		staging, buffers, KVT_UPLOAD_VERIFY_DEVICE, KVT_GPU_COPY_AUTOMATIC                 \
	}

static const upload_shape direct = { "direct", INNER_MEMORY, "helpers = 2\nhuge = no",
	STAGING(2 * MIB, 4), GPU_PROMPT };
static const upload_shape alone = { "direct-alone", INNER_MEMORY, "helpers = 0\nhuge = no",
	{ 2 * MIB, 4, KVT_UPLOAD_VERIFY_HOST, KVT_GPU_COPY_KERNEL }, GPU_LATE };
static const upload_shape trusted = { "direct-trusted", INNER_MEMORY, "huge = no\nscattered = yes",
	{ 2 * MIB, 4, KVT_UPLOAD_VERIFY_NO, KVT_GPU_COPY_ENGINE }, GPU_PROMPT };
static const upload_shape late = { "direct-late", INNER_MEMORY,
	"helpers = 0\nhuge = no\nscattered = yes", STAGING(2 * MIB, 4), GPU_LATE };
static const upload_shape old = { "direct-old", INNER_MEMORY, "helpers = 1\nhuge = no",
	STAGING(2 * MIB, 4), GPU_WITHOUT_SUMS };
static const upload_shape store = { "staged-store", INNER_STORE, "method = threads",
	STAGING(16 * MIB, 16), GPU_PROMPT };
static const upload_shape ring = { "staged-ring", INNER_STORE, "queue_depth = 8",
	STAGING(2 * MIB, 8), GPU_LATE };
static const upload_shape wrapped = { "staged-memory", INNER_WRAPPED, "helpers = 1\nhuge = no",
	STAGING(4 * MIB, 5), GPU_PROMPT };
static const upload_shape slow = { "staged-slow", INNER_SLOW, "helpers = 1\nhuge = no",
	STAGING(2 * MIB, 3), GPU_PROMPT };
static const upload_shape busy = { "staged-busy", INNER_BUSY, "huge = no", STAGING(2 * MIB, 40),
	GPU_PROMPT };

static const upload_shape *const shapes[] = { &direct, &alone, &trusted, &late, &old, &store, &ring,
	&wrapped, &slow, &busy };

static bool is_direct(const upload_shape *shape)
{
	return shape->inner == INNER_MEMORY;
}

/* Reads runs to one place after the other in device memory, from `at` there on. */
typedef struct reading {
	test_io io;
	kvt_extent *runs;
	void **memory;
	unsigned n;
} reading;

static void reading_init(
	reading *r, upload_rig *rig, const kvt_extent *runs, unsigned n, uint8_t *at)
{
	r->runs = g_memdup2(runs, n * sizeof(*runs));
	r->memory = g_new(void *, n);
	r->n = n;
	for (unsigned i = 0; i < n; i++) {
		r->memory[i] = at;
		at += kvt_extent_bytes(&runs[i]);
	}
	g_assert_true(at <= rig->device + rig->device_bytes);
	test_io_init_many(&r->io, KVT_IO_READ, r->runs, n);
	r->io.io.memory = r->memory;
}

static void reading_free(reading *r)
{
	g_free(r->runs);
	g_free(r->memory);
}

static void check_arrived(upload_rig *rig, const reading *r, unsigned version)
{
	g_assert_cmpint(r->io.io.status, ==, 0);
	for (unsigned i = 0; i < r->n; i++)
		g_assert_true(upload_arrived(rig, &r->runs[i], version, r->memory[i]));
}

static int read_runs(upload_rig *rig, const kvt_extent *runs, unsigned n, unsigned version)
{
	reading r;
	reading_init(&r, rig, runs, n, rig->device);
	test_io_submit(rig->tier, &r.io);
	kvt_loop_run(rig->loop);
	g_assert_cmpuint(r.io.done, ==, 1);
	if (r.io.io.status == 0)
		check_arrived(rig, &r, version);
	reading_free(&r);
	return r.io.io.status;
}

/* Every page of two layers once, in no order, and runs of any length. */
static void test_scattered(gconstpointer data)
{
	enum { PAGES = 2500 };
	const upload_shape *shape = data;
	upload_rig *rig = upload_rig_new(shape, 128 * MIB, 80 * MIB);
	const kvt_extent layers[] = { { 1, 0, 0, PAGES / 2, PAGE }, { 1, 1, 0, PAGES / 2, PAGE } };
	kvt_extent pages[PAGES];
	kvt_rng rng = kvt_rng_init(1, 1);
	for (unsigned i = 0; i < G_N_ELEMENTS(layers); i++)
		upload_write(rig, &layers[i], 1);
	for (unsigned i = 0; i < PAGES; i++)
		pages[i] = (kvt_extent){ 1, i % 2, i / 2, 1, PAGE };
	for (unsigned i = PAGES - 1; i > 0; i--) {
		unsigned k = (unsigned)kvt_rng_below(&rng, i + 1);
		kvt_extent other = pages[k];
		pages[k] = pages[i];
		pages[i] = other;
	}
	g_assert_cmpint(read_runs(rig, pages, PAGES, 1), ==, 0);
	kvt_upload_counts counts = kvt_upload_tier_counts(rig->tier);
	g_assert_cmpint(counts.direct, ==, is_direct(shape));
	g_assert_cmpuint(counts.copied, ==, (uint64_t)PAGES * PAGE);
	/* 39 MiB: as many pages as a batch takes are one call */
	if (counts.direct)
		g_assert_cmpuint(counts.calls, ==, 2);
	else
		g_assert_cmpuint(counts.peak_staged, <=, shape->settings.staging);
	for (unsigned i = 0; i < 20; i++) {
		kvt_extent runs[8];
		for (unsigned k = 0; k < G_N_ELEMENTS(runs); k++) {
			uint64_t first = kvt_rng_below(&rng, PAGES / 2);
			uint64_t n = 1 + kvt_rng_below(&rng, MIN(PAGES / 2 - first, 200));
			runs[k] = (kvt_extent){ 1, k % 2, first, n, PAGE };
		}
		g_assert_cmpint(read_runs(rig, runs, G_N_ELEMENTS(runs), 1), ==, 0);
	}
	upload_rig_free(rig);
}

/* Pages of odd and of large sizes in one I/O. */
static void test_sizes(gconstpointer data)
{
	static const uint64_t sizes[] = { 16, 4097, 10000, 65536, 700000, 1048576, 16 };
	upload_rig *rig = upload_rig_new(data, 256 * MIB, 32 * MIB);
	kvt_extent runs[G_N_ELEMENTS(sizes)];
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		runs[i] = (kvt_extent){ 1, i, 3, sizes[i] > 100000 ? 4 : 300, sizes[i] };
		upload_write(rig, &runs[i], 5);
	}
	g_assert_cmpint(read_runs(rig, runs, G_N_ELEMENTS(runs), 5), ==, 0);
	if (!kvt_upload_tier_counts(rig->tier).direct) {
		const kvt_extent huge = { 1, 99, 0, 1, 17 * MIB };
		reading r;
		reading_init(&r, rig, &huge, 1, rig->device);
		g_assert_cmpint(kvt_tier_submit(rig->tier, &r.io.io), ==, -EINVAL);
		reading_free(&r);
	}
	upload_rig_free(rig);
}

/* What the GPU has no part in: host memory, and none. */
static void test_passed(gconstpointer data)
{
	upload_rig *rig = upload_rig_new(data, 16 * MIB, MIB);
	const kvt_extent run = { 1, 0, 0, 40, PAGE }, page = { 1, 0, 7, 1, PAGE };
	g_autofree uint8_t *memory = g_malloc(40 * PAGE), *expected = g_malloc(40 * PAGE);
	void *const where[] = { memory };
	test_io io;
	upload_write(rig, &run, 2);
	upload_fill(&run, 2, expected);
	test_io_init(&io, KVT_IO_READ, run);
	io.io.memory = where;
	test_io_submit(rig->tier, &io);
	kvt_loop_run(rig->loop);
	g_assert_cmpint(io.io.status, ==, 0);
	g_assert_cmpmem(memory, 40 * PAGE, expected, 40 * PAGE);
	g_assert_cmpint(test_io_run(rig->loop, rig->tier, KVT_IO_READ, page), ==, 0);
	g_assert_cmpuint(kvt_upload_tier_counts(rig->tier).calls, ==, 0);
	g_assert_cmpint(read_runs(rig, &run, 1, 2), ==, 0);
	kvt_tier_stats stats;
	rig->tier->ops->stats(rig->tier, &stats);
	g_assert_cmpuint(stats.reads, ==, 3);
	g_assert_cmpuint(stats.read_bytes, ==, 81 * PAGE);
	g_assert_cmpuint(stats.writes, ==, 1);
	g_assert_cmpuint(stats.read_latency.count, ==, 3);
	g_assert_cmpuint(stats.capacity, ==, 16 * MIB);
	upload_rig_free(rig);
}

/* A bit of a page in memory: nothing of the I/O is served, and the page is forgotten. */
static void test_corrupt(gconstpointer data)
{
	const upload_shape *shape = data;
	upload_rig *rig = upload_rig_new(shape, 64 * MIB, 32 * MIB);
	const kvt_extent run = { 1, 0, 0, 400, PAGE }, page = { 1, 0, 77, 1, PAGE };
	const kvt_extent rest[] = { { 1, 0, 0, 77, PAGE }, { 1, 0, 78, 322, PAGE } };
	upload_write(rig, &run, 2);
	*(uint8_t *)kvt_pinned_tier_page(rig->inner, 0, &page) ^= 4;
	int expected = shape->settings.verify == KVT_UPLOAD_VERIFY_NO ? 0 : -EBADMSG;
	reading r;
	reading_init(&r, rig, &run, 1, rig->device);
	test_io_submit(rig->tier, &r.io);
	kvt_loop_run(rig->loop);
	g_assert_cmpint(r.io.io.status, ==, expected);
	reading_free(&r);
	if (expected != 0)
		g_assert_cmpint(read_runs(rig, &run, 1, 2), ==, -ENOENT);
	g_assert_cmpint(read_runs(rig, rest, 2, 2), ==, 0);
	upload_rig_free(rig);
}

/* Who verifies pages, by their size and by what the GPU can; and that a bit that is wrong in the
 * first, the last or one between is found by it, in pages of any size: some of which are more than
 * a batch takes, and of some a batch takes fewer than it has bytes for. */
static void test_verified(gconstpointer data)
{
	static const struct {
		uint64_t page_bytes, n_pages;
		bool summed;
	} cases[] = { { 256, 40000, true }, { 4112, 9000, true }, { MIB, 70, true },
		{ 36 * MIB, 2, true }, { 240, 500, false }, { 4104, 500, false } };
	const upload_shape *shape = data;
	bool device = shape->settings.verify == KVT_UPLOAD_VERIFY_DEVICE &&
		      shape->gpu != GPU_WITHOUT_SUMS;
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		const kvt_extent run = { 1, i, 0, cases[i].n_pages, cases[i].page_bytes };
		uint64_t n = run.n_pages, wrong[] = { 0, n - 1, n * 2 / 3 };
		upload_rig *rig = upload_rig_new(shape, 192 * MIB, 80 * MIB);
		memory_gpu_counts before, counts;
		upload_write(rig, &run, 1);
		memory_gpu_count(rig->gpu, &before);
		g_assert_cmpint(read_runs(rig, &run, 1, 1), ==, 0);
		memory_gpu_count(rig->gpu, &counts);
		uint64_t summed = device && cases[i].summed ? n : 0;
		g_assert_cmpuint(counts.pages - before.pages, ==, summed);
		g_assert_cmpuint(kvt_upload_tier_counts(rig->tier).verified, ==, summed);
		for (unsigned k = 0; k < G_N_ELEMENTS(wrong); k++) {
			const kvt_extent page = { 1, i, wrong[k], 1, run.page_bytes };
			uint8_t *at = kvt_pinned_tier_page(rig->inner, 0, &page);
			at[run.page_bytes - 1 - k] ^= 1;
			g_assert_cmpint(read_runs(rig, &run, 1, 1), ==, -EBADMSG);
			g_assert_null(kvt_pinned_tier_page(rig->inner, 0, &page));
			g_assert_cmpint(read_runs(rig, &run, 1, 1), ==, -ENOENT);
			upload_write(rig, &page, 1);
			g_assert_cmpint(read_runs(rig, &run, 1, 1), ==, 0);
		}
		upload_rig_free(rig);
	}
}

/* The card falls over with I/Os under way, and stays so: all end. */
static void test_gpu_fails(gconstpointer data)
{
	upload_rig *rig = upload_rig_new(data, 64 * MIB, 32 * MIB);
	const kvt_extent run = { 1, 0, 0, 500, PAGE };
	reading r[4];
	upload_write(rig, &run, 1);
	for (unsigned i = 0; i < G_N_ELEMENTS(r); i++) {
		reading_init(&r[i], rig, &run, 1, rig->device + i * kvt_extent_bytes(&run));
		r[i].io.io.priority = i;
		test_io_submit(rig->tier, &r[i].io);
	}
	memory_gpu_fail(rig->gpu);
	kvt_loop_run(rig->loop);
	for (unsigned i = 0; i < G_N_ELEMENTS(r); i++) {
		g_assert_cmpuint(r[i].io.done, ==, 1);
		g_assert_cmpint(r[i].io.io.status, ==, -EIO);
	}
	g_assert_cmpint(read_runs(rig, &run, 1, 1), ==, -EIO);
	for (unsigned i = 0; i < G_N_ELEMENTS(r); i++)
		reading_free(&r[i]);
	upload_rig_free(rig);
}

typedef struct victim {
	upload_rig *rig;
	kvt_extent pages;
	bool write; /* it is written anew, too */
	test_io writing;
	void *where[1];
	unsigned waits;
} victim;

static void discard_victim(void *arg)
{
	victim *v = arg;
	if (v->waits > 0) {
		v->waits--;
		kvt_loop_after(v->rig->loop, 100 * KVT_MICROSECOND, discard_victim, v);
		return;
	}
	v->rig->tier->ops->discard(v->rig->tier, 0, &v->pages);
	if (!v->write)
		return;
	test_io_init(&v->writing, KVT_IO_WRITE, v->pages);
	v->writing.io.memory = v->where;
	int error = kvt_tier_submit(v->rig->tier, &v->writing.io);
	g_assert_true(error == 0 || error == -EAGAIN);
	if (error != 0)
		kvt_loop_after(v->rig->loop, 0, discard_victim, v);
}

/* Pages go, and come anew, while they are copied: what was read is what was there, or nothing. */
static void test_discard(gconstpointer data)
{
	upload_shape shape = *(const upload_shape *)data;
	shape.gpu = GPU_LATE;
	upload_rig *rig = upload_rig_new(&shape, 64 * MIB, 32 * MIB);
	const kvt_extent run = { 1, 0, 0, 1000, PAGE };
	victim v = { .rig = rig, .pages = { 1, 0, 0, 600, PAGE } };
	g_autofree uint8_t *memory = g_malloc(600 * PAGE);
	unsigned lost = 0;
	v.where[0] = memory;
	for (unsigned i = 0; i < 12; i++) {
		reading r;
		upload_write(rig, &run, i);
		upload_fill(&v.pages, i + 1, memory);
		reading_init(&r, rig, &run, 1, rig->device);
		test_io_submit(rig->tier, &r.io);
		v.waits = i / 2;
		v.write = i % 2 == 1;
		kvt_loop_at(rig->loop, 0, discard_victim, &v);
		kvt_loop_run(rig->loop);
		g_assert_cmpuint(r.io.done, ==, 1);
		if (r.io.io.status == 0)
			check_arrived(rig, &r, i);
		else
			g_assert_cmpint(r.io.io.status, ==, -ENOENT);
		lost += r.io.io.status != 0;
		reading_free(&r);
		if (v.write)
			g_assert_cmpint(read_runs(rig, &v.pages, 1, i + 1), ==, 0);
		rig->tier->ops->discard(rig->tier, 0, &run);
	}
	g_assert_cmpuint(lost, >, 0);
	upload_rig_free(rig);
}

/* Closed with all kinds of things on their way. */
static void test_close_early(gconstpointer data)
{
	const kvt_extent run = { 1, 0, 0, 330, PAGE };
	for (unsigned rounds = 0; rounds < 6; rounds++) {
		upload_rig *rig = upload_rig_new(data, 64 * MIB, 32 * MIB);
		reading r[6];
		upload_write(rig, &run, 1);
		for (unsigned i = 0; i < G_N_ELEMENTS(r); i++) {
			reading_init(&r[i], rig, &run, 1, rig->device + i * kvt_extent_bytes(&run));
			r[i].io.io.priority = i % KVT_PRIORITY_CLASSES;
			test_io_submit(rig->tier, &r[i].io);
		}
		if (rounds > 0) {
			kvt_loop_after(rig->loop, rounds * 200 * KVT_MICROSECOND,
				(kvt_callback)kvt_loop_stop, rig->loop);
			kvt_loop_run(rig->loop);
		}
		upload_rig_free(rig);
		for (unsigned i = 0; i < G_N_ELEMENTS(r); i++)
			reading_free(&r[i]);
	}
}

typedef struct crowd {
	upload_rig *rig;
	test_io *last;      /* of the lowest class */
	unsigned ended;     /* of these */
	unsigned overtaken; /* that had not ended when the first class's had */
	unsigned again;
} crowd;

static void low_ended(test_io *io)
{
	((crowd *)io->hook_arg)->ended++;
}

static void first_ended(test_io *io)
{
	crowd *c = io->hook_arg;
	c->overtaken = c->ended;
}

/* Submits itself until the last of the lowest class is through. */
static void press_on(test_io *io)
{
	crowd *c = io->hook_arg;
	c->again++;
	if (c->last->done == 0)
		g_assert_cmpint(kvt_tier_submit(c->rig->tier, &io->io), ==, 0);
}

enum { LOW = 12, HIGH = 3, CROWDS = 5 };

/* Submits all of the low class and then one of the first, and waits: those of the low class that
 * had ended when it had. */
static unsigned overtaken(crowd *c, reading *low, reading *first)
{
	c->ended = 0;
	for (unsigned i = 0; i < LOW; i++) {
		low[i].io.done = 0;
		test_io_submit(c->rig->tier, &low[i].io);
	}
	first->io.done = 0;
	test_io_submit(c->rig->tier, &first->io);
	kvt_loop_run(c->rig->loop);
	g_assert_cmpuint(c->ended, ==, LOW);
	return c->overtaken;
}

/* The first class goes before what was submitted before it; and does not starve it. */
static void test_classes(gconstpointer data)
{
	const kvt_extent run = { 1, 0, 0, 1200, PAGE }, small = { 1, 0, 100, 30, PAGE };
	upload_rig *rig = upload_rig_new(data, 64 * MIB, 32 * MIB);
	reading low[LOW], first, high[HIGH];
	upload_write(rig, &run, 1);
	crowd c = { .rig = rig };
	for (unsigned i = 0; i < LOW; i++) {
		reading_init(&low[i], rig, &run, 1, rig->device);
		low[i].io.io.priority = 3;
		low[i].io.hook = low_ended;
		low[i].io.hook_arg = &c;
	}
	reading_init(&first, rig, &small, 1, rig->device + 24 * MIB);
	first.io.hook = first_ended;
	first.io.hook_arg = &c;
	/* 225 MiB, of which a few batches went before. Its stream is a thread here, which may have
	 * to wait for a processor for as long as that; not again and again. */
	unsigned crowds = 1;
	while (overtaken(&c, low, &first) == LOW)
		g_assert_cmpuint(++crowds, <=, CROWDS);
	check_arrived(rig, &low[0], 1);

	low[0].io.done = 0;
	c.last = &low[0].io;
	test_io_submit(rig->tier, &low[0].io);
	for (unsigned i = 0; i < HIGH; i++) {
		reading_init(&high[i], rig, &small, 1, rig->device + 24 * MIB);
		high[i].io.hook = press_on;
		high[i].io.hook_arg = &c;
		test_io_submit(rig->tier, &high[i].io);
	}
	kvt_loop_run(rig->loop);
	g_assert_cmpuint(low[0].io.done, ==, 1);
	for (unsigned i = 0; i < LOW; i++)
		reading_free(&low[i]);
	for (unsigned i = 0; i < HIGH; i++)
		reading_free(&high[i]);
	reading_free(&first);
	upload_rig_free(rig);
}

/* Memory that cannot be pinned is read by way of staging, and somebody is told. */
static void test_not_pinned(void)
{
	upload_rig *rig = upload_rig_begin(&direct, 32 * MIB, 16 * MIB);
	uint64_t bytes;
	void *region = kvt_pinned_tier_region(rig->inner, &bytes);
	const kvt_extent run = { 1, 0, 0, 500, PAGE }, page = { 1, 0, 20, 1, PAGE };
	/* no memory is pinned twice */
	g_assert_cmpint(rig->gpu->ops->pin(rig->gpu, region, 4096), ==, 0);
	upload_rig_open(rig, &direct.settings);
	g_assert_false(kvt_upload_tier_counts(rig->tier).direct);
	const char *notice = rig->tier->ops->notice(rig->tier);
	g_assert_nonnull(notice);
	g_assert_nonnull(strstr(notice, "cannot be pinned"));
	upload_write(rig, &run, 1);
	g_assert_cmpint(read_runs(rig, &run, 1, 1), ==, 0);
	*(uint8_t *)kvt_pinned_tier_page(rig->inner, 0, &page) ^= 4;
	g_assert_cmpint(read_runs(rig, &run, 1, 1), ==, -EBADMSG);
	rig->gpu->ops->unpin(rig->gpu, region);
	upload_rig_free(rig);
}

/* --- The suite --- */

static void make(tier_under_test *t, const upload_shape *shape, uint64_t capacity)
{
	upload_rig *rig = upload_rig_new(shape, capacity, 24 * MIB);
	t->loop = rig->loop;
	t->tier = upload_to_device_new(rig);
}

static void free_kind(tier_under_test *t)
{
	kvt_tier_close(t->tier);
}

#define KIND(shape)                                                                                \
	static void make_##shape(tier_under_test *t, uint64_t capacity, uint64_t seed)             \
	{                                                                                          \
		make(t, &shape, capacity);                                                         \
	}
KIND(direct)
KIND(alone)
KIND(late)
KIND(store)
KIND(wrapped)

static const tier_kind kinds[] = {
	{ "upload-direct", make_direct, free_kind },
	{ "upload-direct-alone", make_alone, free_kind },
	{ "upload-direct-late", make_late, free_kind },
	{ "upload-store", make_store, free_kind },
	{ "upload-wrapped", make_wrapped, free_kind },
};

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(gconstpointer shape);
		bool memory; /* of memory alone */
	} tests[] = {
		{ "scattered", test_scattered, false },
		{ "sizes", test_sizes, false },
		{ "passed", test_passed, false },
		{ "corrupt", test_corrupt, true },
		{ "gpu-fails", test_gpu_fails, false },
		{ "discard", test_discard, false },
		{ "close-early", test_close_early, false },
		{ "classes", test_classes, false },
	};
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
		for (unsigned k = 0; k < G_N_ELEMENTS(shapes); k++) {
			if (tests[i].memory && !is_direct(shapes[k]))
				continue;
			g_autofree char *path = g_strdup_printf(
				"/upload-tier/%s/%s", tests[i].name, shapes[k]->name);
			g_test_add_data_func(path, shapes[k], tests[i].run);
		}
	}
	static const upload_shape *const verifying[] = { &direct, &late, &old };
	for (unsigned i = 0; i < G_N_ELEMENTS(verifying); i++) {
		g_autofree char *path =
			g_strdup_printf("/upload-tier/verified/%s", verifying[i]->name);
		g_test_add_data_func(path, verifying[i], test_verified);
	}
	g_test_add_func("/upload-tier/not-pinned", test_not_pinned);
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
		tier_conformance_add(&kinds[i]);
	return g_test_run();
}
