/* page_read.c: one I/O, and halves of it where it fails. */
#include "sim/engine/page_read.h"

#include <errno.h>

const char *const kvt_loss_names[KVT_LOSSES] = {
	[KVT_LOSS_MISSING] = "missing",
	[KVT_LOSS_FAILED] = "failed",
	[KVT_LOSS_CORRUPT] = "corrupt",
};

bool kvt_loss_of(int status, kvt_loss *loss)
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

static void lose(kvt_page_read *read, const kvt_lost_run *run)
{
	if (!read->lost)
		read->lost = g_array_new(FALSE, FALSE, sizeof(kvt_lost_run));
	guint at = read->lost->len;
	while (at > 0 &&
		g_array_index(read->lost, kvt_lost_run, at - 1).first_page > run->first_page)
		at--;
	g_array_insert_val(read->lost, at, *run);
	read->lost_pages += run->n_pages;
}

/* What a part that was not delivered was lost for. */
static kvt_loss part_loss(const kvt_page_read *read, const kvt_page_read_part *part)
{
	kvt_loss loss = read->loss;
	kvt_loss_of(part->io.status, &loss);
	/* a tier may forget a page when it finds it bad: it was bad, and not missing */
	return loss == KVT_LOSS_MISSING && read->split ? read->loss : loss;
}

static void append(GArray **runs, const kvt_lost_run *run)
{
	if (!*runs)
		*runs = g_array_new(FALSE, FALSE, sizeof(kvt_lost_run));
	g_array_append_val(*runs, *run);
}

static guint count(const GArray *runs)
{
	return runs ? runs->len : 0;
}

static void clear(GArray *runs)
{
	if (runs)
		g_array_set_size(runs, 0);
}

/* What was looked into is at its end: what becomes of what has not come. */
static void end_run(kvt_page_read *read)
{
	bool dead = !read->came && count(read->next) > 0;
	if (dead)
		lose(read, &read->whole);
	for (guint i = 0; !dead && i < count(read->pages); i++)
		lose(read, &g_array_index(read->pages, kvt_lost_run, i));
	for (guint i = 0; !dead && i < count(read->next); i++)
		append(&read->later, &g_array_index(read->next, kvt_lost_run, i));
	clear(read->pages);
	clear(read->next);
	clear(read->level);
}

static void go_deeper(kvt_page_read *read)
{
	GArray *done = read->level;
	read->level = read->next;
	read->next = done;
	clear(done);
	read->at = 0;
}

/* Finds a level, or a run, that has something to be halved; false when there is nothing. */
static bool find_run(kvt_page_read *read)
{
	while (read->at == count(read->level)) {
		if (read->at > 0 && count(read->next) > 0 && ++read->depth < read->patience) {
			go_deeper(read);
			continue;
		}
		if (read->at > 0)
			end_run(read);
		read->at = 0;
		if (count(read->later) == 0)
			return false;
		guint last = read->later->len - 1;
		read->whole = g_array_index(read->later, kvt_lost_run, last);
		g_array_set_size(read->later, last);
		append(&read->level, &read->whole);
		read->depth = 0;
		read->came = false;
	}
	return true;
}

/* Reads the halves of what failed; false when there is nothing left. */
static bool halve(kvt_page_read *read)
{
	if (!find_run(read))
		return false;
	kvt_lost_run run = g_array_index(read->level, kvt_lost_run, read->at++);
	uint64_t first = run.n_pages / 2;
	read->loss = run.loss;
	read->split = true;
	read->pending = 2;
	read->rereads += 2;
	start_part(read, 0, run.first_page, first);
	start_part(read, 1, run.first_page + first, run.n_pages - first);
	return true;
}

/* Sorts what was not delivered. */
static void take_failed(kvt_page_read *read, const kvt_page_read_part *part)
{
	kvt_lost_run run = { part->extent.first_page, part->extent.n_pages, part_loss(read, part) };
	if (run.n_pages > 1)
		append(read->split ? &read->next : &read->later, &run);
	else if (read->split)
		append(&read->pages, &run);
	else
		lose(read, &run);
}

static void part_done(kvt_io *io)
{
	kvt_page_read_part *part = io->arg;
	kvt_page_read *read = part->owner;
	kvt_loss loss;
	read->bytes += io->bytes;
	read->came |= io->status == 0;
	if (!read->split)
		read->submitted = io->submitted;
	if (io->status != 0 && (read->patience == 0 || !kvt_loss_of(io->status, &loss)))
		read->status = io->status;
	if (--read->pending > 0)
		return;
	unsigned n = read->split ? 2 : 1;
	for (unsigned i = 0; i < n && read->status == 0; i++)
		if (read->parts[i].io.status != 0)
			take_failed(read, &read->parts[i]);
	if (read->status != 0 || !halve(read))
		read->done(read);
}

void kvt_page_read_start(kvt_page_read *read)
{
	GArray *runs[] = { read->lost, read->later, read->level, read->next, read->pages };
	read->status = 0;
	read->bytes = read->rereads = read->lost_pages = 0;
	read->split = false;
	read->at = 0;
	for (unsigned i = 0; i < G_N_ELEMENTS(runs); i++)
		clear(runs[i]);
	read->pending = 1;
	start_part(read, 0, read->extent.first_page, read->extent.n_pages);
}

void kvt_page_read_clear(kvt_page_read *read)
{
	GArray **runs[] = { &read->lost, &read->later, &read->level, &read->next, &read->pages };
	for (unsigned i = 0; i < G_N_ELEMENTS(read->parts); i++)
		kvt_extent_list_free(&read->parts[i].chosen);
	for (unsigned i = 0; i < G_N_ELEMENTS(runs); i++)
		g_clear_pointer(runs[i], g_array_unref);
}
