/* page_writer.c: a few runs at once, made by threads, then written; then the next ones. */
#include "emu/tier/page_writer.h"

#include <errno.h>
#include <stdlib.h>

/* Less than this is not worth a thread. */
static const uint64_t THREAD_BYTES = 4 << 20;

/* Runs that are made, one by one, by whoever is free. */
typedef struct making {
	const kvt_page_writer *writer;
	const kvt_page_run *runs;
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

static void make_round(const kvt_page_writer *writer, const kvt_page_run *runs, unsigned n)
{
	making m = { .writer = writer, .runs = runs, .n = n };
	GThread *threads[KVT_PAGE_RUNS];
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

int kvt_page_writer_run(const kvt_page_writer *writer, kvt_page_writes *writes)
{
	g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(kvt_page_run));
	void *memory[KVT_PAGE_RUNS];
	int status;
	for (unsigned i = 0; i < KVT_PAGE_RUNS; i++)
		memory[i] = aligned_alloc(4096, (writer->run_bytes + 4095) / 4096 * 4096);
	do {
		g_array_set_size(runs, 0);
		kvt_page_run run;
		while (runs->len < KVT_PAGE_RUNS && writer->next(writer->arg, &run.extent)) {
			run.memory = memory[runs->len];
			g_array_append_val(runs, run);
		}
		if (runs->len > 0)
			make_round(writer, (const kvt_page_run *)runs->data, runs->len);
		status = kvt_page_runs_write(
			writer->loop, writer->tier, writer->tenant, 0, runs, writes);
	} while (status == 0 && runs->len > 0);
	for (unsigned i = 0; i < KVT_PAGE_RUNS; i++)
		free(memory[i]);
	return status;
}

const char *kvt_page_writer_reason(int status)
{
	return status == -EINVAL ? "it holds pages of another size, expected an empty one"
				 : g_strerror(-status);
}
