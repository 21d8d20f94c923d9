/*
 * test_io_engine.c: the I/O engine by io_uring and by threads, with O_DIRECT where the file system
 * has it: what is read is what was written whatever is cut, put together, short or interrupted;
 * errors are those of their own I/O; classes, cancellation, a full ring. Nothing measures time.
 */
#include "emu/io/io_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emu/loop/real_loop.h"
#include "sim/base/rng.h"

enum { BLOCK = 4096, BLOCKS = 2048, MOST = 600 };
static const uint64_t FILE_BYTES = (uint64_t)BLOCK * BLOCKS;

typedef struct bench bench;

typedef struct trial {
	kvt_raw_io io;
	bench *bench;
	unsigned done;
} trial;

struct bench {
	kvt_io_method method;
	kvt_io_settings settings;
	kvt_loop *loop;
	kvt_io_engine *engine;
	char *path;
	int fd;
	unsigned char *shadow, *memory; /* FILE_BYTES: what the file holds; to read to */
	trial *trials;
	unsigned n;
	unsigned order[MOST], n_done; /* indices of trials as they ended */
	kvt_rng rng;
};

static void on_done(kvt_raw_io *io)
{
	trial *t = io->arg;
	t->done++;
	t->bench->order[t->bench->n_done++] = (unsigned)(t - t->bench->trials);
}

/* Deterministic bytes of every block. */
static void fill(unsigned char *at, uint64_t bytes, uint64_t seed)
{
	kvt_rng rng = kvt_rng_init(seed, 1);
	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t word = kvt_rng_next(&rng);
		memcpy(at + i, &word, 8);
	}
}

static void open_bench(bench *b)
{
	GError *error = NULL;
	b->settings.method = b->method;
	b->loop = kvt_real_loop_new(NULL);
	b->engine = kvt_io_engine_new(b->loop, &b->settings, &error);
	g_assert_no_error(error);
	b->path = g_build_filename(g_get_tmp_dir(), "kvtier-io-XXXXXX", NULL);
	int made = g_mkstemp(b->path);
	g_assert_cmpint(made, >=, 0);
	b->fd = open(b->path, O_RDWR | O_DIRECT);
	if (b->fd < 0)
		b->fd = dup(made);
	close(made);
	b->shadow = g_aligned_alloc(1, FILE_BYTES, BLOCK);
	b->memory = g_aligned_alloc0(1, FILE_BYTES, BLOCK);
	fill(b->shadow, FILE_BYTES, 1);
	g_assert_cmpint(pwrite(b->fd, b->shadow, FILE_BYTES, 0), ==, FILE_BYTES);
	b->trials = g_new0(trial, MOST);
	b->rng = kvt_rng_init(5, 5);
}

static void close_bench(bench *b)
{
	kvt_io_engine_free(b->engine);
	kvt_loop_free(b->loop);
	close(b->fd);
	g_unlink(b->path);
	g_free(b->path);
	g_aligned_free(b->shadow);
	g_aligned_free(b->memory);
	g_free(b->trials);
}

static trial *add(bench *b, kvt_raw_op op, uint64_t block, uint64_t blocks, unsigned priority)
{
	g_assert_cmpuint(b->n, <, MOST);
	trial *t = &b->trials[b->n++];
	*t = (trial){ .bench = b };
	t->io = (kvt_raw_io){ .op = op,
		.priority = priority,
		.fd = b->fd,
		.slot = KVT_NO_SLOT,
		.offset = block * BLOCK,
		.length = blocks * BLOCK,
		.memory = (op == KVT_RAW_WRITE ? b->shadow : b->memory) + block * BLOCK,
		.done = on_done,
		.arg = t };
	kvt_io_engine_submit(b->engine, &t->io);
	return t;
}

/* Runs to the end: every done once, each status 0 or `other`. Then all are forgotten. */
static unsigned run_all(bench *b, int other)
{
	unsigned failed = 0;
	for (unsigned i = 0; i < b->n; i++)
		g_assert_cmpuint(b->trials[i].done, ==, 0);
	kvt_loop_run(b->loop);
	g_assert_cmpuint(b->n_done, ==, b->n);
	for (unsigned i = 0; i < b->n; i++) {
		const trial *t = &b->trials[i];
		g_assert_cmpuint(t->done, ==, 1);
		g_assert_true(t->io.status == 0 || t->io.status == other);
		failed += t->io.status != 0;
		if (t->io.op == KVT_RAW_READ && t->io.status == 0)
			g_assert_true(
				memcmp(t->io.memory, b->shadow + t->io.offset, t->io.length) == 0);
	}
	memset(b->memory, 0, FILE_BYTES);
	b->n = b->n_done = 0;
	return failed;
}

static uint64_t blocks_below(bench *b, uint64_t most, uint64_t left)
{
	uint64_t blocks = 1 + kvt_rng_below(&b->rng, most);
	return MIN(blocks, left);
}

/* New bytes written to places that do not overlap, then everything read in other pieces. */
static void write_and_read(bench *b, int other)
{
	uint64_t at = 0, blocks;
	fill(b->shadow, FILE_BYTES, kvt_rng_next(&b->rng));
	for (; at < BLOCKS && b->n < MOST - 1; at += blocks) {
		blocks = blocks_below(b, 16, BLOCKS - at);
		add(b, KVT_RAW_WRITE, at, blocks, (unsigned)kvt_rng_below(&b->rng, 4));
	}
	if (at < BLOCKS)
		add(b, KVT_RAW_WRITE, at, BLOCKS - at, 0);
	g_assert_cmpuint(run_all(b, other), ==, 0);
	add(b, KVT_RAW_SYNC, 0, 0, 1);
	g_assert_cmpuint(run_all(b, other), ==, 0);
	/* neighbours, submitted together */
	for (unsigned i = 0; i < 100; i++)
		add(b, KVT_RAW_READ, 64 + i, 1, 2);
	/* what may overlap in the file must not in memory */
	for (at = 164; at < BLOCKS; at += blocks) {
		blocks = blocks_below(b, b->n % 10 == 0 ? 500 : 20, BLOCKS - at);
		uint64_t from = kvt_rng_below(&b->rng, BLOCKS - blocks);
		add(b, KVT_RAW_READ, from, blocks, (unsigned)kvt_rng_below(&b->rng, 4))->io.memory =
			b->memory + at * BLOCK;
	}
	g_assert_cmpuint(run_all(b, other), ==, 0);
}

static void test_moves(bench *b)
{
	for (unsigned i = 0; i < 4; i++)
		write_and_read(b, 0);
	kvt_io_stats stats = kvt_io_engine_stats(b->engine);
	g_assert_cmpuint(stats.coalesced, >, 0);
	g_assert_cmpuint(stats.resumed + stats.retried + stats.fixed + stats.fixed_file, ==, 0);
	g_assert_cmpuint(stats.peak_depth, <=, 64);
}

static void test_cut(bench *b)
{
	b->settings.max_transfer = 3 * BLOCK;
	b->settings.queue_depth = 5;
	open_bench(b);
	add(b, KVT_RAW_READ, 0, BLOCKS, 0);
	run_all(b, 0);
	kvt_io_stats stats = kvt_io_engine_stats(b->engine);
	g_assert_cmpuint(stats.commands, ==, (BLOCKS + 2) / 3);
	g_assert_cmpuint(stats.ios, ==, 1);
	g_assert_cmpuint(stats.bytes, ==, FILE_BYTES);
	write_and_read(b, 0);
	g_assert_cmpuint(kvt_io_engine_stats(b->engine).peak_depth, ==, 5);
}

static void test_coalescing(bench *b)
{
	for (unsigned off = 0; off < 2; off++) {
		b->settings.no_coalescing = off;
		open_bench(b);
		for (unsigned i = 0; i < 64; i++)
			add(b, KVT_RAW_READ, i * 4, 4, 1);
		run_all(b, 0);
		kvt_io_stats stats = kvt_io_engine_stats(b->engine);
		/* 1 MiB altogether: one command */
		g_assert_cmpuint(stats.commands, ==, off ? 64 : 1);
		g_assert_cmpuint(stats.coalesced, ==, off ? 0 : 63);
		/* scattered in memory they still share a command */
		for (unsigned i = 0; i < 40; i++)
			add(b, KVT_RAW_READ, i * 2, 1, 1)->io.offset = i * BLOCK;
		kvt_loop_run(b->loop);
		for (unsigned i = 0; i < 40; i++)
			g_assert_true(
				memcmp(b->trials[i].io.memory, b->shadow + i * BLOCK, BLOCK) == 0);
		stats = kvt_io_engine_stats(b->engine);
		g_assert_cmpuint(stats.commands, ==, off ? 104 : 2);
		b->n = b->n_done = 0;
		if (!off)
			close_bench(b);
	}
}

/* Some commands are cut short, others interrupted or told to come again; none so often in a row
 * that the engine gives up. */
static int disturb(void *arg, kvt_raw_op op, uint64_t offset, uint64_t length, int result)
{
	bench *b = arg;
	uint64_t what = kvt_rng_below(&b->rng, 16);
	if (what == 0)
		return -EINTR;
	if (what == 1)
		return -EAGAIN;
	if (op != KVT_RAW_SYNC && result > 0 && what < 5)
		return 1 + (int)kvt_rng_below(&b->rng, (uint64_t)result);
	return result;
}

static void test_short(bench *b)
{
	b->settings.fault = disturb;
	b->settings.fault_arg = b;
	b->settings.queue_depth = 16;
	open_bench(b);
	for (unsigned i = 0; i < 4; i++)
		write_and_read(b, 0);
	kvt_io_stats stats = kvt_io_engine_stats(b->engine);
	g_assert_cmpuint(stats.resumed, >, 0);
	g_assert_cmpuint(stats.retried, >, 0);
}

static int always_busy(void *arg, kvt_raw_op op, uint64_t offset, uint64_t length, int result)
{
	return -EAGAIN;
}

/* What never succeeds ends all the same. */
static void test_busy_for_ever(bench *b)
{
	b->settings.fault = always_busy;
	open_bench(b);
	add(b, KVT_RAW_READ, 0, 8, 0);
	add(b, KVT_RAW_WRITE, 8, 8, 0);
	g_assert_cmpuint(run_all(b, -EIO), ==, 2);
}

/* Block 37 cannot be read or written. */
static int bad_block(void *arg, kvt_raw_op op, uint64_t offset, uint64_t length, int result)
{
	return offset <= 37 * BLOCK && 37 * BLOCK < offset + length ? -EIO : result;
}

static void test_eio(bench *b)
{
	b->settings.fault = bad_block;
	b->settings.max_transfer = 128 << 10;
	open_bench(b);
	/* neighbours in one command: only the one with the bad block fails */
	for (unsigned i = 0; i < 64; i++)
		add(b, KVT_RAW_READ, i, 1, 1);
	kvt_loop_run(b->loop);
	for (unsigned i = 0; i < 64; i++) {
		g_assert_cmpuint(b->trials[i].done, ==, 1);
		g_assert_cmpint(b->trials[i].io.status, ==, i == 37 ? -EIO : 0);
	}
	g_assert_cmpuint(kvt_io_engine_stats(b->engine).coalesced, >, 0);
	b->n = b->n_done = 0;
	/* one that is cut fails as a whole, the others of its class go on */
	add(b, KVT_RAW_READ, 0, BLOCKS / 2, 2);
	add(b, KVT_RAW_READ, 38, 200, 2)->io.memory = b->memory + FILE_BYTES / 2;
	g_assert_cmpuint(run_all(b, -EIO), ==, 1);
}

static void test_end_of_file(bench *b)
{
	trial *t = add(b, KVT_RAW_READ, BLOCKS - 1, 1, 0);
	t->io.length = 2 * BLOCK;
	t->io.offset += BLOCK; /* all of it */
	t->io.memory = b->memory;
	t = add(b, KVT_RAW_READ, BLOCKS - 1, 1, 0);
	t->io.length = 2 * BLOCK; /* half of it */
	t->io.memory = b->memory + 4 * BLOCK;
	kvt_loop_run(b->loop);
	g_assert_cmpint(b->trials[0].io.status, ==, -ENODATA);
	g_assert_cmpint(b->trials[1].io.status, ==, -ENODATA);
	b->n = b->n_done = 0;
	/* an end within a block */
	g_assert_cmpint(ftruncate(b->fd, 100), ==, 0);
	add(b, KVT_RAW_READ, 0, 1, 0);
	g_assert_cmpuint(run_all(b, -ENODATA), ==, 1);
}

static void test_bad_file(bench *b)
{
	add(b, KVT_RAW_READ, 0, 4, 0)->io.fd = -1;
	add(b, KVT_RAW_WRITE, 0, 4, 0)->io.fd = -1;
	add(b, KVT_RAW_SYNC, 0, 0, 0)->io.fd = -1;
	g_assert_cmpuint(run_all(b, -EBADF), ==, 3);
	/* a descriptor that has no writing */
	int read_only = open(b->path, O_RDONLY);
	add(b, KVT_RAW_WRITE, 0, 4, 0)->io.fd = read_only;
	g_assert_cmpuint(run_all(b, -EBADF), ==, 1);
	close(read_only);
}

/* Far more than the ring holds. */
static void test_full_ring(bench *b)
{
	for (unsigned depth = 1; depth <= 3; depth++) {
		b->settings.queue_depth = depth;
		b->settings.no_coalescing = true;
		open_bench(b);
		for (unsigned i = 0; i < MOST; i++)
			add(b, KVT_RAW_READ, i * 3 % BLOCKS, 2, i % 4);
		run_all(b, 0);
		kvt_io_stats stats = kvt_io_engine_stats(b->engine);
		g_assert_cmpuint(stats.peak_depth, ==, depth);
		g_assert_cmpuint(stats.commands, ==, MOST);
		if (depth < 3)
			close_bench(b);
	}
}

/* At depth 1 the order of ends is that of beginnings. */
static void test_classes(bench *b)
{
	b->settings.queue_depth = 1;
	b->settings.no_coalescing = true;
	b->settings.patience = 4;
	open_bench(b);
	for (unsigned i = 0; i < 10; i++)
		add(b, KVT_RAW_READ, i, 1, 3);
	for (unsigned i = 0; i < 20; i++)
		add(b, KVT_RAW_READ, i, 1, 1);
	for (unsigned i = 0; i < 100; i++)
		add(b, KVT_RAW_READ, i, 1, 0);
	kvt_loop_run(b->loop);
	g_assert_cmpuint(b->n_done, ==, 130);
	unsigned high = 0, last[4] = { 0 }, waited[4] = { 0 }, seen[4] = { 0 };
	for (unsigned i = 0; i < 130; i++) {
		const trial *t = &b->trials[b->order[i]];
		unsigned class = t->io.priority;
		/* in a class, first come first served */
		g_assert_true(seen[class] == 0 || b->order[i] > last[class]);
		last[class] = b->order[i];
		seen[class]++;
		high += class == 0;
		for (unsigned c = 1; c < 4; c++)
			waited[c] = c == class ? 0 : waited[c] + 1;
		/* each waits for its patience, and for the other's turn at most */
		g_assert_true(seen[1] == 20 || waited[1] <= 6);
		g_assert_true(seen[3] == 10 || waited[3] <= 6);
		if (i < 5)
			g_assert_cmpuint(high, >=, i);
	}
	b->n = b->n_done = 0;
}

static void test_reserved(bench *b)
{
	b->settings.queue_depth = 8;
	b->settings.reserved = 6;
	b->settings.no_coalescing = true;
	open_bench(b);
	for (unsigned i = 0; i < 50; i++)
		add(b, KVT_RAW_READ, i, 1, 2);
	run_all(b, 0);
	g_assert_cmpuint(kvt_io_engine_stats(b->engine).peak_depth, ==, 2);
	for (unsigned i = 0; i < 50; i++)
		add(b, KVT_RAW_READ, i, 1, 0);
	run_all(b, 0);
	g_assert_cmpuint(kvt_io_engine_stats(b->engine).peak_depth, ==, 8);
}

static void cancel_others(kvt_raw_io *io)
{
	bench *b = ((trial *)io->arg)->bench;
	on_done(io);
	for (unsigned i = 0; i < b->n; i += 2)
		kvt_io_engine_cancel(b->engine, &b->trials[i].io);
}

static void test_cancel(bench *b)
{
	b->settings.queue_depth = 4;
	b->settings.max_transfer = 16 << 10;
	open_bench(b);
	/* before anything has begun */
	for (unsigned i = 0; i < 60; i++)
		add(b, KVT_RAW_READ, 32 * i, 32, i % 2);
	for (unsigned i = 0; i < 60; i += 3)
		kvt_io_engine_cancel(b->engine, &b->trials[i].io);
	for (unsigned i = 0; i < 60; i += 3)
		g_assert_cmpuint(b->trials[i].done, ==, 0);
	kvt_loop_run(b->loop);
	for (unsigned i = 0; i < 60; i++) {
		g_assert_cmpuint(b->trials[i].done, ==, 1);
		g_assert_cmpint(b->trials[i].io.status, ==, i % 3 == 0 ? -ECANCELED : 0);
		if (i % 3 == 0)
			g_assert_cmpuint(*(unsigned char *)b->trials[i].io.memory, ==, 0);
	}
	memset(b->memory, 0, FILE_BYTES);
	b->n = b->n_done = 0;
	/* in the middle of it, some already over, some twice */
	for (unsigned i = 0; i < 60; i++)
		add(b, KVT_RAW_READ, 32 * i, 32, i % 4)->io.done =
			i % 5 == 0 ? cancel_others : on_done;
	g_assert_cmpuint(run_all(b, -ECANCELED), >, 0);
	/* and the engine is as before */
	write_and_read(b, 0);
}

static void test_registered(bench *b)
{
	int error = kvt_io_engine_register_memory(b->engine, b->memory, FILE_BYTES / 2);
	if (b->method == KVT_IO_THREADS) {
		g_assert_cmpint(error, ==, -EOPNOTSUPP);
		g_assert_cmpint(kvt_io_engine_register_file(b->engine, 7, b->fd), ==, -EOPNOTSUPP);
		write_and_read(b, 0);
		return;
	}
	bool limited = error == -ENOMEM;
	g_assert_true(error == 0 || limited);
	g_assert_cmpint(kvt_io_engine_register_file(b->engine, 7, b->fd), ==, 0);
	g_assert_cmpint(kvt_io_engine_register_file(b->engine, -2, b->fd), ==, -EINVAL);
	g_assert_cmpint(kvt_io_engine_register_file(b->engine, KVT_IO_SLOTS, b->fd), ==, -EINVAL);
	/* the slot says which file it is, and where there is none the descriptor does */
	for (unsigned i = 0; i < 8; i++) {
		trial *t = add(b, KVT_RAW_READ, BLOCKS / 2 - 16 + 8 * i, 8, 0);
		t->io.slot = i % 2 ? 7 : 8;
		t->io.fd = i % 2 ? -1 : b->fd;
	}
	run_all(b, 0);
	kvt_io_stats stats = kvt_io_engine_stats(b->engine);
	g_assert_cmpuint(stats.fixed_file, ==, 4);
	g_assert_cmpuint(stats.fixed, ==, limited ? 0 : 2);
	write_and_read(b, 0);
	g_assert_cmpint(kvt_io_engine_register_file(b->engine, 7, -1), ==, 0);
	add(b, KVT_RAW_READ, 0, 8, 0)->io.slot = 7;
	kvt_io_engine_unregister_memory(b->engine, b->memory);
	run_all(b, 0);
	g_assert_cmpint(kvt_io_engine_register_memory(b->engine, b->memory, FILE_BYTES), ==,
		limited ? -ENOMEM : 0);
	write_and_read(b, 0);
}

/* Freed with I/Os waiting, at the device, and finished: no done runs, no memory is touched. */
static void test_free_early(bench *b)
{
	b->settings.queue_depth = 8;
	open_bench(b);
	for (unsigned i = 0; i < 40; i++)
		add(b, KVT_RAW_READ, 32 * i, 32, i % 4);
	kvt_io_engine_commit(b->engine);
	kvt_io_engine_cancel(b->engine, &b->trials[39].io);
	kvt_io_engine_free(b->engine);
	b->engine = NULL;
	g_assert_cmpuint(b->n_done, ==, 0);
}

/* All of it ends and is right, though a drive takes some of it, or nothing, in a polled way: syncs,
 * and commands that are larger than the drive's or lie in more places. */
static void test_iopoll(bench *b)
{
	b->settings.iopoll = true;
	open_bench(b);
	write_and_read(b, 0);
	kvt_io_engine_register_memory(b->engine, b->memory, FILE_BYTES);
	kvt_io_engine_register_file(b->engine, 3, b->fd);
	for (unsigned i = 0; i < 40; i++) {
		add(b, KVT_RAW_READ, 20 * i, 5 + 13 * (i % 2), 0)->io.slot = 3;
		if (i == 20)
			run_all(b, 0);
	}
	kvt_io_stats stats = kvt_io_engine_stats(b->engine);
	const char *notice = kvt_io_engine_notice(b->engine);
	g_test_message("%u commands, %u polled, of which %u refused; %s", (unsigned)stats.commands,
		(unsigned)stats.polled, (unsigned)stats.unpolled, notice ? notice : "no notice");
	g_assert_true(!notice || strstr(notice, "iopoll"));
	g_assert_true(notice || stats.polled > stats.unpolled || b->method == KVT_IO_THREADS);
	/* closed with some at the device */
	kvt_io_engine_commit(b->engine);
}

static void test_sqpoll(bench *b)
{
	b->settings.sqpoll = true;
	open_bench(b);
	write_and_read(b, 0);
}

/* Where the system refuses io_uring: threads, and a line that says so; an error for who insists.
 * The filter stays with the process: the last test. */
static void test_refused(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { G_N_ELEMENTS(filter), filter };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
		g_test_skip("system calls cannot be filtered here");
		return;
	}
	bench b = { .method = KVT_IO_URING };
	g_autoptr(GError) error = NULL;
	kvt_loop *loop = kvt_real_loop_new(NULL);
	const kvt_io_settings insist = { .method = KVT_IO_URING };
	g_assert_null(kvt_io_engine_new(loop, &insist, &error));
	g_assert_nonnull(strstr(error->message, "refused"));
	kvt_loop_free(loop);
	b.method = KVT_IO_AUTO;
	open_bench(&b);
	g_assert_cmpint(kvt_io_engine_method(b.engine), ==, KVT_IO_THREADS);
	const char *notice = kvt_io_engine_notice(b.engine);
	g_assert_true(notice && strstr(notice, "refused") && !strchr(notice, '\n'));
	write_and_read(&b, 0);
	close_bench(&b);
}

static const struct {
	const char *name;
	void (*run)(bench *b);
	bool opens; /* the bench itself, with settings of its own */
} tests[] = {
	{ "moves", test_moves, false },
	{ "cut", test_cut, true },
	{ "coalescing", test_coalescing, true },
	{ "short", test_short, true },
	{ "busy-for-ever", test_busy_for_ever, true },
	{ "eio", test_eio, true },
	{ "end-of-file", test_end_of_file, false },
	{ "bad-file", test_bad_file, false },
	{ "full-ring", test_full_ring, true },
	{ "classes", test_classes, true },
	{ "reserved", test_reserved, true },
	{ "cancel", test_cancel, true },
	{ "registered", test_registered, false },
	{ "free-early", test_free_early, true },
	{ "sqpoll", test_sqpoll, true },
	{ "iopoll", test_iopoll, true },
};

static void run_test(gconstpointer data)
{
	unsigned which = GPOINTER_TO_UINT(data);
	bench b = { .method = which % 2 ? KVT_IO_THREADS : KVT_IO_URING };
	if (b.method == KVT_IO_URING) {
		kvt_loop *loop = kvt_real_loop_new(NULL);
		kvt_io_engine *engine = kvt_io_engine_new(loop, NULL, NULL);
		g_assert_nonnull(engine);
		bool threads = kvt_io_engine_method(engine) == KVT_IO_THREADS;
		g_assert_true(threads == (kvt_io_engine_notice(engine) != NULL));
		if (threads)
			g_test_skip(kvt_io_engine_notice(engine));
		kvt_io_engine_free(engine);
		kvt_loop_free(loop);
		if (threads)
			return;
	}
	/* at depth 1 one thread keeps the order */
	b.settings.threads = tests[which / 2].run == test_classes ? 1 : 3;
	if (!tests[which / 2].opens)
		open_bench(&b);
	tests[which / 2].run(&b);
	close_bench(&b);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < 2 * G_N_ELEMENTS(tests); i++) {
		g_autofree char *path = g_strdup_printf(
			"/io-engine/%s/%s", i % 2 ? "threads" : "uring", tests[i / 2].name);
		g_test_add_data_func(path, GUINT_TO_POINTER(i), run_test);
	}
	g_test_add_func("/io-engine/refused/threads-instead", test_refused);
	return g_test_run();
}
