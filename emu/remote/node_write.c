/*
 * node_write.c: pages from clients: room for them, their checksums held against what arrived, the
 * store's word that it has them, and only then the acknowledgement. Also what is discarded.
 */
#include <errno.h>
#include <string.h>

#include "emu/remote/node_internal.h"

/* --- RESERVE --- */

/* What may be refused without looking for room: 0 or a negative errno. */
static int check_write(const node_request *request)
{
	const kvt_node *node = request->session->node;
	const node_tenant *tenant = request->session->tenant;
	if (request->run.pages.page_bytes < node->settings.smallest_page)
		return -EINVAL;
	uint64_t taken = tenant->used + tenant->reserved;
	if (taken > tenant->settings.capacity || request->bytes > tenant->settings.capacity - taken)
		return -ENOSPC;
	return 0;
}

static void untake_all(kvt_node *node, GPtrArray *blocks)
{
	for (guint i = blocks->len; i > 0; i--) {
		kvt_slab_block *block = g_ptr_array_index(blocks, i - 1);
		kvt_node_unwrite(node, block->slab);
		kvt_slab_pool_untake(node->pool, block);
	}
	g_ptr_array_unref(blocks);
}

/* Room for the run, in as many blocks as it takes. NULL with *status. */
static GPtrArray *take_room(const node_request *request, int *status)
{
	kvt_node *node = request->session->node;
	const node_tenant *tenant = request->session->tenant;
	uint64_t slab_bytes = node->settings.slab_bytes;
	GPtrArray *blocks = g_ptr_array_new();
	kvt_store_run rest = request->run;
	*status = 0;
	while (rest.pages.n_pages > 0 && *status == 0) {
		kvt_slab_block *block = kvt_slab_pool_take(node->pool, &rest, KVT_SLAB_WRITTEN,
			(unsigned)(tenant->settings.pool / slab_bytes), status);
		if (!block)
			break;
		((node_slab *)block->slab->state)->tickets++;
		g_ptr_array_add(blocks, block);
		rest.pages.first_page += block->run.pages.n_pages;
		rest.pages.n_pages -= block->run.pages.n_pages;
		if (kvt_slab_pool_held(node->pool, rest.tenant) * slab_bytes >
			tenant->settings.held)
			*status = -EDQUOT;
	}
	/* memory alone, and pages that stay: there will be no more room */
	if (*status == -EAGAIN && !node->has_store && kvt_slab_pool_get_info(node->pool).held == 0)
		*status = -ENOSPC;
	if (*status == 0)
		return blocks;
	untake_all(node, blocks);
	return NULL;
}

static void answer_reserved(node_request *request, const node_ticket *ticket)
{
	kvt_remote_piece pieces[KVT_REMOTE_PIECES];
	kvt_remote_record record = { .ticket = ticket->id, .pieces = pieces };
	for (guint i = 0; i < ticket->blocks->len; i++) {
		const kvt_slab_block *block = g_ptr_array_index(ticket->blocks, i);
		const node_slab *state = block->slab->state;
		pieces[record.n++] = (kvt_remote_piece){
			.address = state->write.address +
				   (uint64_t)(block->memory - block->slab->memory),
			.key = state->write.key,
			.n_pages = (uint32_t)block->run.pages.n_pages,
		};
	}
	kvt_node_answer(request, &record);
}

void kvt_node_reserve(node_request *request)
{
	node_session *session = request->session;
	kvt_page_map *map = session->model->pages;
	int status = check_write(request);
	if (status == 0 && !kvt_page_map_claim(map, request->run.tenant, &request->run.pages))
		status = -EINVAL;
	if (status != 0) {
		kvt_node_refuse(request, status);
		return;
	}
	GPtrArray *blocks = take_room(request, &status);
	/* a slab has room for one page at least: the run lies in two or three */
	if (blocks && blocks->len > KVT_REMOTE_PIECES) {
		untake_all(session->node, blocks);
		blocks = NULL;
		status = -E2BIG;
	}
	if (blocks) {
		answer_reserved(request, kvt_node_ticket(request, blocks));
		return;
	}
	kvt_page_map_release(map, request->run.tenant, &request->run.pages);
	if (status == -EAGAIN)
		kvt_node_wait(request);
	else
		kvt_node_refuse(request, status);
}

/* --- COMMIT --- */

static void check_sums(kvt_helper_task *task)
{
	node_request *request = task->arg;
	const GPtrArray *blocks = request->ticket->blocks;
	for (guint i = 0; i < blocks->len && !request->bad; i++) {
		const kvt_slab_block *block = g_ptr_array_index(blocks, i);
		uint64_t page_bytes = block->run.pages.page_bytes;
		for (uint64_t p = 0; p < block->run.pages.n_pages && !request->bad; p++)
			request->bad = kvt_store_checksum(block->memory + p * page_bytes,
					       page_bytes) != block->checksums[p];
	}
}

static void finish(node_request *request, int status)
{
	node_session *session = request->session;
	node_ticket *ticket = request->ticket;
	const kvt_extent *pages = &ticket->run.pages;
	for (guint i = 0; i < ticket->blocks->len && status == 0; i++)
		kvt_slab_pool_publish(session->node->pool, g_ptr_array_index(ticket->blocks, i));
	kvt_node_overtake(session, pages);
	if (status == 0) {
		kvt_node_stored(session->tenant, session->model, pages);
		session->tenant->counts.committed_bytes += kvt_extent_bytes(pages);
	} else {
		kvt_node_forget_lost(session, pages);
	}
	kvt_node_ticket_end(ticket);
	kvt_node_refuse(request, status);
}

static void write_done(kvt_io *io)
{
	node_request *request = io->arg;
	int status = io->status;
	kvt_resubmit_completed(&request->session->model->queue);
	finish(request, status == 0 || status == -ENOSPC || status == -EINVAL ? status : -EIO);
}

static void checked(kvt_helper_task *task)
{
	node_request *request = task->arg;
	if (request->bad) {
		finish(request, -EBADMSG);
	} else if (!request->session->model->tier) {
		finish(request, 0);
	} else {
		request->io.op = KVT_IO_WRITE;
		kvt_node_submit(request, request->ticket->blocks, write_done);
	}
}

void kvt_node_commit(node_request *request, const kvt_remote_record *record)
{
	node_session *session = request->session;
	node_ticket *ticket = g_hash_table_lookup(session->node->tickets, &record->ticket);
	if (!ticket || ticket->session != session || ticket->committing) {
		kvt_node_refuse(request, -ESTALE);
		return;
	}
	if (record->n_checksums != ticket->run.pages.n_pages) {
		kvt_node_refuse(request, -EINVAL);
		return;
	}
	const uint64_t *checksums = record->checksums;
	for (guint i = 0; i < ticket->blocks->len; i++) {
		kvt_slab_block *block = g_ptr_array_index(ticket->blocks, i);
		memcpy(block->checksums, checksums, 8 * block->run.pages.n_pages);
		checksums += block->run.pages.n_pages;
	}
	ticket->committing = true;
	request->ticket = ticket;
	request->run = ticket->run;
	request->priority = ticket->priority;
	request->task = (kvt_helper_task){ .work = check_sums, .done = checked, .arg = request };
	kvt_helper_pool_submit(session->node->helpers, &request->task);
}

/* --- DISCARD --- */

void kvt_node_discard(node_request *request)
{
	node_session *session = request->session;
	const kvt_extent *pages = &request->run.pages;
	uint32_t tenant = request->run.tenant;
	kvt_remote_record record = {
		.pages = kvt_page_map_count(session->model->pages, tenant, pages),
	};
	kvt_slab_pool_forget(session->node->pool, &request->run);
	kvt_node_overtake(session, pages);
	if (session->model->tier)
		session->model->tier->ops->discard(session->model->tier, tenant, pages);
	kvt_node_unstored(session->tenant, session->model, pages);
	kvt_node_room(session->node);
	kvt_node_answer(request, &record);
}
