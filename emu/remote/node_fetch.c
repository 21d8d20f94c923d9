/*
 * node_fetch.c: pages for clients: those in the pool are leased where they lie, others are read
 * from the store into the pool, and written to the client's memory where it named some.
 */
#include <errno.h>
#include <string.h>

#include "emu/remote/node_internal.h"

/* --- Pages into the pool --- */

static void drop_parts(node_request *request)
{
	for (guint i = request->blocks->len; i > 0; i--)
		kvt_slab_pool_untake(node_pool(request), g_ptr_array_index(request->blocks, i - 1));
	for (guint i = 0; i < request->parts->len; i++) {
		const node_part *part = &g_array_index(request->parts, node_part, i);
		if (!part->staged)
			kvt_slab_drop(node_pool(request), part->piece.slab);
	}
	g_array_set_size(request->parts, 0);
	g_ptr_array_set_size(request->blocks, 0);
}

/* Room for pages that the store has. 0 or a negative errno. */
static int stage(node_request *request, kvt_store_run run)
{
	const node_tenant *tenant = request->session->tenant;
	const kvt_node *node = request->session->node;
	unsigned most = (unsigned)(tenant->settings.pool / node->settings.slab_bytes);
	while (run.pages.n_pages > 0) {
		int status;
		kvt_slab_block *block =
			kvt_slab_pool_take(node->pool, &run, KVT_SLAB_STAGED, most, &status);
		if (!block)
			return status;
		const kvt_extent *pages = &block->run.pages;
		const node_part part = { .staged = true,
			.request = request,
			.piece = { block->slab, block->memory, pages->first_page, pages->n_pages,
				block->checksums } };
		g_array_append_val(request->parts, part);
		g_ptr_array_add(request->blocks, block);
		run.pages.first_page += pages->n_pages;
		run.pages.n_pages -= pages->n_pages;
	}
	return 0;
}

/* Holds what the pool has of the run, and takes room for the rest. */
static int gather(node_request *request)
{
	node_session *session = request->session;
	kvt_store_run rest = request->run;
	int status = 0;
	while (rest.pages.n_pages > 0 && status == 0) {
		node_part part = { .request = request };
		kvt_store_run missing = rest;
		if (kvt_slab_pool_find(session->node->pool, &rest, &part.piece)) {
			kvt_slab_hold(session->node->pool, part.piece.slab);
			g_array_append_val(request->parts, part);
		} else {
			missing.pages.n_pages = part.piece.n_pages;
			status = session->model->tier ? stage(request, missing) : -EIO;
		}
		rest.pages.first_page += part.piece.n_pages;
		rest.pages.n_pages -= part.piece.n_pages;
	}
	if (status != 0)
		drop_parts(request);
	return status;
}

/* --- The answer --- */

static void written(kvt_transfer *transfer)
{
	/* what failed has ended the connection */
	kvt_node_settle(((node_part *)transfer->arg)->request);
}

static void write_part(node_request *request, node_part *part)
{
	node_session *session = request->session;
	const node_slab *state = part->piece.slab->state;
	uint64_t page_bytes = request->run.pages.page_bytes;
	uint64_t skipped = part->piece.first_page - request->run.pages.first_page;
	part->transfer = (kvt_transfer){ .op = KVT_TRANSFER_WRITE,
		.priority = request->priority,
		.queue = request->queue,
		.memory = part->piece.memory,
		.region = &state->read,
		.length = part->piece.n_pages * page_bytes,
		.remote_address = request->address + skipped * page_bytes,
		.remote_key = request->key,
		.done = written,
		.arg = part };
	request->pending++;
	session->tenant->counts.written_bytes += part->transfer.length;
	session->node->fabric->ops->submit(session->connection, &part->transfer);
}

/* A lease of the part's pages, as the client is told of it; false: it may have none. */
static bool lease_part(node_request *request, const node_part *part, kvt_remote_piece *piece)
{
	node_session *session = request->session;
	const kvt_slab *slab = part->piece.slab;
	const node_slab *state = slab->state;
	node_lease *lease = kvt_node_lease(session, part->piece.slab);
	if (!lease)
		return false;
	*piece = (kvt_remote_piece){
		.address = state->read.address + (uint64_t)(part->piece.memory - slab->memory),
		.key = state->read.key,
		.n_pages = (uint32_t)part->piece.n_pages,
		.lease = lease->id,
	};
	session->tenant->counts.leased_bytes += part->piece.n_pages * request->run.pages.page_bytes;
	return true;
}

static void end_leases(kvt_node *node, const kvt_remote_piece *pieces, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		node_lease *lease = g_hash_table_lookup(node->leases, &pieces[i].lease);
		if (lease)
			kvt_node_lease_end(lease);
	}
}

/* All pages are in the pool and held: says where they lie, or puts them where they are wanted. What
 * was read for this request is not looked for again soon by one who has it. */
static void respond(node_request *request)
{
	kvt_remote_piece pieces[KVT_REMOTE_PIECES];
	uint64_t checksums[KVT_REMOTE_PAGES];
	kvt_remote_record record = { .pieces = pieces, .checksums = checksums };
	bool wanted = request->address != 0;
	if (!request->session->connection) {
		kvt_node_refuse(request, -ECONNRESET);
		return;
	}
	for (guint i = 0; i < request->parts->len; i++) {
		node_part *part = &g_array_index(request->parts, node_part, i);
		const kvt_slab_piece *from = &part->piece;
		bool last = record.n > 0 && pieces[record.n - 1].address == 0;
		memcpy(checksums + record.n_checksums, from->checksums, 8 * from->n_pages);
		record.n_checksums += (uint32_t)from->n_pages;
		/* one place is kept for all that is left */
		bool room = record.n + (wanted ? 1 : 0) < KVT_REMOTE_PIECES;
		if (!(wanted && part->staged) && room &&
			lease_part(request, part, &pieces[record.n])) {
			record.n++;
		} else if (!wanted) {
			end_leases(request->session->node, pieces, record.n);
			kvt_node_refuse(request, room ? -EDQUOT : -E2BIG);
			return;
		} else {
			write_part(request, part);
			if (!last)
				pieces[record.n++] = (kvt_remote_piece){ 0 };
			pieces[record.n - 1].n_pages += (uint32_t)from->n_pages;
		}
	}
	kvt_node_answer(request, &record);
}

/* --- Pages from the store --- */

void kvt_node_overtake(const node_session *session, const kvt_extent *pages)
{
	for (node_request *r = session->model->reading; r; r = r->read_next)
		if (r->session->tenant == session->tenant &&
			kvt_extent_overlaps(&r->run.pages, pages))
			r->stale = true;
}

static void begin_reading(node_request *request)
{
	node_model *model = request->session->model;
	request->read_next = model->reading;
	if (request->read_next)
		request->read_next->read_before = request;
	model->reading = request;
}

static void end_reading(node_request *request)
{
	node_model *model = request->session->model;
	*(request->read_before ? &request->read_before->read_next : &model->reading) =
		request->read_next;
	if (request->read_next)
		request->read_next->read_before = request->read_before;
}

static void check_sum(kvt_helper_task *task)
{
	const node_request *request = task->arg;
	for (guint i = 0; i < request->blocks->len; i++) {
		kvt_slab_block *block = g_ptr_array_index(request->blocks, i);
		const kvt_extent *pages = &block->run.pages;
		kvt_store_checksums(
			block->memory, pages->page_bytes, pages->n_pages, block->checksums);
	}
}

static void summed(kvt_helper_task *task)
{
	node_request *request = task->arg;
	end_reading(request);
	for (guint i = 0; i < request->blocks->len && !request->stale; i++)
		kvt_slab_pool_fill(node_pool(request), g_ptr_array_index(request->blocks, i));
	respond(request);
}

static void read_done(kvt_io *io)
{
	node_request *request = io->arg;
	node_session *session = request->session;
	kvt_resubmit_completed(&session->model->queue);
	if (io->status != 0) {
		end_reading(request);
		for (unsigned i = 0; i < io->n_extents; i++)
			kvt_node_forget_lost(session, &io->extents[i]);
		kvt_node_refuse(request, io->status);
		return;
	}
	session->tenant->counts.store_bytes += io->bytes;
	request->task = (kvt_helper_task){ .work = check_sum, .done = summed, .arg = request };
	kvt_helper_pool_submit(session->node->helpers, &request->task);
}

void kvt_node_fetch(node_request *request)
{
	const kvt_extent *pages = &request->run.pages;
	const node_model *model = request->session->model;
	if (kvt_page_map_count(model->pages, request->run.tenant, pages) != pages->n_pages) {
		kvt_node_refuse(request, -ENOENT);
		return;
	}
	if (!request->parts) {
		request->parts = g_array_new(FALSE, FALSE, sizeof(node_part));
		request->blocks = g_ptr_array_new();
	}
	int status = gather(request);
	if (status == -EAGAIN) {
		kvt_node_wait(request);
	} else if (status != 0) {
		kvt_node_refuse(request, status);
	} else if (request->blocks->len == 0) {
		respond(request);
	} else {
		begin_reading(request);
		request->io.op = KVT_IO_READ;
		kvt_node_submit(request, request->blocks, read_done);
	}
}
