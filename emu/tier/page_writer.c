/* page_writer.c: a few runs at once, made by threads, then written; then the next ones. */
#include "emu/tier/page_writer.h"

#include <errno.h>
#include <stdlib.h>

enum { WRITES = 16 }; /* under way at once */
/* Less than this is not worth a thread. */
static const uint64_t THREAD_BYTES = 4 << 20;

/* What is under way. */
typedef struct round_state {
	const kvt_page_writer *writer;
	uint64_t bytes;
	int status;
	unsigned writing;
} round_state;

typedef struct run_state {
	round_state *owner;
	kvt_extent extent;
	void *memory;
	kvt_io io;
} run_state;

static void written(kvt_io *io)
{
	round_state *owner = ((run_state *)io->arg)->owner;
	owner->writing--;
	owner->bytes += io->bytes;
	if (io->status != 0 && owner->status == 0)
		owner->status = io->status;
}

static void submit(void *arg)
{
	run_state *run = arg;
	const kvt_page_writer *writer = run->owner->writer;
	int error = kvt_tier_submit(writer->tier, &run->io);
	if (error == -EAGAIN) {
		kvt_loop_after(writer->loop, 10 * KVT_MICROSECOND, submit, run);
		return;
	}
	if (error == 0) {
		kvt_tier_commit(writer->tier);
		return;
	}
	/* refused: as if it had failed */
	run->io.status = error;
	run->io.bytes = 0;
	written(&run->io);
}

/* Runs that are made, one by one, by whoever is free. */
typedef struct making {
	const kvt_page_writer *writer;
	run_state *runs;
	unsigned n;
	int next; /* atomic */
} making;

static gpointer make_runs(gpointer arg)
{
	making *m = arg;
	for (;;) {
		int i = g_atomic_int_add(&m->next, 1);
		if ((unsigned)i >= m->n)
			return NULL;
		m->writer->fill(m->writer->arg, &m->runs[i].extent, m->runs[i].memory);
	}
}

static void make_round(const kvt_page_writer *writer, run_state *runs, unsigned n)
{
	making m = { .writer = writer, .runs = runs, .n = n };
	GThread *threads[WRITES];
	uint64_t bytes = 0;
	for (unsigned i = 0; i < n; i++)
		bytes += kvt_extent_bytes(&runs[i].extent);
	unsigned more = (unsigned)MIN(MIN(n, g_get_num_processors()), bytes / THREAD_BYTES + 1) - 1;
	for (unsigned i = 0; i < more; i++)
		threads[i] = g_thread_new("pages", make_runs, &m);
	make_runs(&m);
	for (unsigned i = 0; i < more; i++)
		g_thread_join(threads[i]);
}

/* False when there was nothing to write. */
static bool write_round(round_state *round, run_state *runs)
{
	const kvt_page_writer *writer = round->writer;
	unsigned n = 0;
	while (n < WRITES && writer->next(writer->arg, &runs[n].extent))
		n++;
	if (n > 0)
		make_round(writer, runs, n);
	for (unsigned i = 0; i < n; i++) {
		run_state *run = &runs[i];
		run->owner = round;
		run->io = (kvt_io){ .op = KVT_IO_WRITE,
			.tenant = writer->tenant,
			.extents = &run->extent,
			.n_extents = 1,
			.memory = &run->memory,
			.done = written,
			.arg = run };
		round->writing++;
		kvt_loop_at(writer->loop, 0, submit, run);
	}
	return n > 0;
}

int kvt_page_writer_run(const kvt_page_writer *writer, uint64_t *bytes, double *seconds)
{
	round_state round = { .writer = writer };
	run_state runs[WRITES];
	for (unsigned i = 0; i < WRITES; i++)
		runs[i].memory = aligned_alloc(4096, (writer->run_bytes + 4095) / 4096 * 4096);
	while (round.status == 0 && write_round(&round, runs)) {
		kvt_time began = kvt_loop_now(writer->loop);
		kvt_loop_run(writer->loop);
		g_assert(round.writing == 0);
		*seconds += kvt_time_to_seconds(kvt_loop_now(writer->loop) - began);
	}
	for (unsigned i = 0; i < WRITES; i++)
		free(runs[i].memory);
	*bytes += round.bytes;
	return round.status;
}

const char *kvt_page_writer_reason(int status)
{
	return status == -EINVAL ? "it holds pages of another size, expected an empty one"
				 : g_strerror(-status);
}
