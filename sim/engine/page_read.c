/* page_read.c: one I/O, and halves of it where it fails. */
#include "sim/engine/page_read.h"

#include <errno.h>

const char *const kvt_loss_names[KVT_LOSSES] = {
	[KVT_LOSS_MISSING] = "missing",
	[KVT_LOSS_FAILED] = "failed",
	[KVT_LOSS_CORRUPT] = "corrupt",
};

/* A run that was not delivered. */
typedef struct failed_run {
	uint64_t first_page, n_pages;
	unsigned barren; /* how often in a row neither half of a half came */
	kvt_loss loss;
} failed_run;

static bool loss_of(int status, kvt_loss *loss)
{
	switch (status) {
	case -ENOENT:
		*loss = KVT_LOSS_MISSING;
		return true;
	case -EIO:
		*loss = KVT_LOSS_FAILED;
		return true;
	case -EBADMSG:
		*loss = KVT_LOSS_CORRUPT;
		return true;
	default:
		return false;
	}
}

static void part_done(kvt_io *io);

static void submit_part(void *arg)
{
	kvt_page_read_part *part = arg;
	kvt_engine *engine = part->owner->engine;
	int error = kvt_tier_submit(engine->storage, &part->io);
	if (error == -EAGAIN) {
		kvt_loop_after(engine->loop, 10 * KVT_MICROSECOND, submit_part, part);
		return;
	}
	g_assert(error == 0);
	kvt_tier_commit(engine->storage);
}

static void start_part(kvt_page_read *read, unsigned which, uint64_t first_page, uint64_t n_pages)
{
	kvt_page_read_part *part = &read->parts[which];
	part->owner = read;
	part->extent = read->extent;
	part->extent.first_page = first_page;
	part->extent.n_pages = n_pages;
	part->io = (kvt_io){ .op = KVT_IO_READ,
		.tenant = read->engine->tenant,
		.priority = read->priority,
		.extents = &part->extent,
		.n_extents = 1,
		.done = part_done,
		.arg = part };
	if (read->memory) {
		part->memory = (char *)read->memory +
			       (first_page - read->extent.first_page) * read->extent.page_bytes;
		part->io.memory = &part->memory;
	}
	if (read->choice) {
		kvt_extent_list_clear(&part->chosen);
		kvt_page_choice_extents(read->choice, &read->engine->layout, read->extent.layer,
			first_page, n_pages, &part->chosen);
		part->io.extents = part->chosen.extents;
		part->io.n_extents = part->chosen.n;
	}
	submit_part(part);
}

static void lose(kvt_page_read *read, uint64_t first_page, uint64_t n_pages, kvt_loss loss)
{
	if (!read->lost)
		read->lost = g_array_new(FALSE, FALSE, sizeof(kvt_lost_run));
	kvt_lost_run run = { first_page, n_pages, loss };
	guint at = read->lost->len;
	while (at > 0 && g_array_index(read->lost, kvt_lost_run, at - 1).first_page > first_page)
		at--;
	g_array_insert_val(read->lost, at, run);
	read->lost_pages += n_pages;
}

/* What becomes of a part that was not delivered. */
static void take_failed(kvt_page_read *read, const kvt_page_read_part *part, unsigned barren)
{
	kvt_loss loss = read->loss;
	loss_of(part->io.status, &loss);
	/* a tier may forget a page when it finds it bad: it was bad, and not missing */
	if (loss == KVT_LOSS_MISSING && read->split)
		loss = read->loss;
	failed_run run = { part->extent.first_page, part->extent.n_pages, barren, loss };
	if (run.n_pages == 1 || barren >= read->patience)
		lose(read, run.first_page, run.n_pages, loss);
	else
		g_array_append_val(read->failed, run);
}

/* Reads the halves of what failed last; false when there is nothing. */
static bool halve(kvt_page_read *read)
{
	if (read->failed->len == 0)
		return false;
	guint last = read->failed->len - 1;
	failed_run run = g_array_index(read->failed, failed_run, last);
	g_array_set_size(read->failed, last);
	uint64_t first = run.n_pages / 2;
	read->barren = run.barren;
	read->loss = run.loss;
	read->split = true;
	read->pending = 2;
	read->rereads += 2;
	start_part(read, 0, run.first_page, first);
	start_part(read, 1, run.first_page + first, run.n_pages - first);
	return true;
}

static void part_done(kvt_io *io)
{
	kvt_page_read_part *part = io->arg;
	kvt_page_read *read = part->owner;
	kvt_loss loss;
	read->bytes += io->bytes;
	if (!read->split)
		read->submitted = io->submitted;
	if (io->status != 0 && (read->patience == 0 || !loss_of(io->status, &loss)))
		read->status = io->status;
	if (--read->pending > 0)
		return;
	unsigned n = read->split ? 2 : 1, failed = 0;
	for (unsigned i = 0; i < n; i++)
		failed += read->parts[i].io.status != 0;
	if (failed > 0 && read->status == 0) {
		if (!read->failed)
			read->failed = g_array_new(FALSE, FALSE, sizeof(failed_run));
		unsigned barren = failed == 2 ? read->barren + 1 : 0;
		for (unsigned i = 0; i < n; i++)
			if (read->parts[i].io.status != 0)
				take_failed(read, &read->parts[i], barren);
	}
	if (read->status != 0 || !read->failed || !halve(read))
		read->done(read);
}

void kvt_page_read_start(kvt_page_read *read)
{
	read->status = 0;
	read->bytes = read->rereads = read->lost_pages = 0;
	read->split = false;
	read->barren = 0;
	if (read->lost)
		g_array_set_size(read->lost, 0);
	if (read->failed)
		g_array_set_size(read->failed, 0);
	read->pending = 1;
	start_part(read, 0, read->extent.first_page, read->extent.n_pages);
}

void kvt_page_read_clear(kvt_page_read *read)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(read->parts); i++)
		kvt_extent_list_free(&read->parts[i].chosen);
	if (read->lost)
		g_array_unref(read->lost);
	if (read->failed)
		g_array_unref(read->failed);
	read->lost = read->failed = NULL;
}
