/* page_runs.c: some runs at once, then the next ones. */
#include "sim/tier/page_runs.h"

#include <errno.h>

typedef struct writing {
	kvt_loop *loop;
	kvt_tier *tier;
	kvt_page_writes *writes;
	int status;
	unsigned under_way, failed;
} writing;

typedef struct run_write {
	writing *owner;
	kvt_page_run run;
	kvt_io io;
} run_write;

static void written(kvt_io *io)
{
	const run_write *write = io->arg;
	writing *owner = write->owner;
	owner->under_way--;
	owner->writes->bytes += io->bytes;
	if (io->status == 0)
		return;
	owner->writes->failed_bytes += kvt_extent_bytes(&write->run.extent);
	owner->failed++;
	if (owner->status == 0)
		owner->status = io->status;
}

static void submit(void *arg)
{
	run_write *write = arg;
	const writing *owner = write->owner;
	int error = kvt_tier_submit(owner->tier, &write->io);
	if (error == -EAGAIN) {
		kvt_loop_after(owner->loop, 10 * KVT_MICROSECOND, submit, write);
		return;
	}
	if (error == 0) {
		kvt_tier_commit(owner->tier);
		return;
	}
	/* refused: as if it had failed */
	write->io.status = error;
	write->io.bytes = 0;
	written(&write->io);
}

int kvt_page_runs_write(kvt_loop *loop, kvt_tier *tier, uint32_t tenant, unsigned priority,
	const GArray *runs, kvt_page_writes *writes)
{
	writing w = { .loop = loop, .tier = tier, .writes = writes };
	run_write some[KVT_PAGE_RUNS];
	kvt_time began = kvt_loop_now(loop);
	guint at = 0;
	for (unsigned n = 0; at < runs->len && (n == 0 || w.failed < n); at += n) {
		n = MIN(runs->len - at, KVT_PAGE_RUNS);
		w.failed = 0;
		w.under_way = n;
		for (unsigned i = 0; i < n; i++) {
			run_write *write = &some[i];
			write->owner = &w;
			write->run = g_array_index(runs, kvt_page_run, at + i);
			write->io = (kvt_io){ .op = KVT_IO_WRITE,
				.tenant = tenant,
				.priority = priority,
				.extents = &write->run.extent,
				.n_extents = 1,
				.memory = write->run.memory ? &write->run.memory : NULL,
				.done = written,
				.arg = write };
			kvt_loop_at(loop, 0, submit, write);
		}
		kvt_loop_run(loop);
		g_assert(w.under_way == 0);
	}
	for (; at < runs->len; at++)
		writes->failed_bytes +=
			kvt_extent_bytes(&g_array_index(runs, kvt_page_run, at).extent);
	writes->seconds += kvt_time_to_seconds(kvt_loop_now(loop) - began);
	return w.status;
}
