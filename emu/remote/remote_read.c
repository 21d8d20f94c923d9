/*
 * remote_read.c: reads of the remote tier: by a lease that is known, or by asking, whereupon the
 * node tells where pages lie or has put them here; verified, each page, before it counts.
 */
#include <errno.h>
#include <string.h>

#include "emu/remote/remote_tier_internal.h"
#include "emu/store/store.h"

static void fetch(remote_part *part);

/* Reads are over: leases that are not kept go back. */
static void end_read(remote_part *part)
{
	for (guint i = 0; i < part->grants->len; i++)
		kvt_remote_grant_unpin(part->io->link, g_ptr_array_index(part->grants, i));
	g_ptr_array_set_size(part->grants, 0);
	kvt_remote_end_part(part);
}

/* --- Verification --- */

/* On a helper thread or the loop: verifies before anything is copied out. */
static void verify(kvt_helper_task *task)
{
	remote_part *part = task->arg;
	const kvt_extent *run = &part->run;
	const uint8_t *page = part->memory;
	for (uint64_t i = 0; i < run->n_pages && !part->bad; i++, page += run->page_bytes)
		part->bad = kvt_store_checksum(page, run->page_bytes) != part->checksums[i];
	if (!part->bad && part->home && part->home != part->memory)
		memcpy(part->home, part->memory, kvt_extent_bytes(run));
}

static void forget_bad(remote_part *part)
{
	remote_io *io = part->io;
	remote_tier *tier = io->tier;
	kvt_extent one = part->run;
	const uint8_t *page = part->memory;
	one.n_pages = 1;
	for (uint64_t i = 0; i < part->run.n_pages; i++, one.first_page++, page += one.page_bytes)
		if (kvt_store_checksum(page, one.page_bytes) != part->checksums[i]) {
			tier->counts.bad_pages++;
			kvt_page_store_discard(tier->pages, io->io->tenant, &one);
		}
	kvt_remote_grants_drop(io->link, &part->run);
}

/* Whether a lease that was read by is over: the memory may have become another's meanwhile. */
static bool overdue(const remote_part *part)
{
	kvt_time now = kvt_loop_now(part->io->tier->loop);
	for (guint i = 0; i < part->grants->len; i++)
		if (now >= ((const remote_grant *)g_ptr_array_index(part->grants, i))->expires)
			return true;
	return false;
}

static void verified(kvt_helper_task *task)
{
	remote_part *part = task->arg;
	remote_io *io = part->io;
	io->tier->counts.verified_pages += part->run.n_pages;
	if (part->bad && overdue(part) && io->status == 0) {
		kvt_remote_grants_drop(io->link, &part->run);
		for (guint i = 0; i < part->grants->len; i++)
			kvt_remote_grant_unpin(io->link, g_ptr_array_index(part->grants, i));
		g_ptr_array_set_size(part->grants, 0);
		part->bad = false;
		fetch(part);
		return;
	}
	if (part->bad) {
		forget_bad(part);
		kvt_remote_fail(io, -EBADMSG, KVT_REMOTE_FAILURE_CHECKSUM);
	}
	end_read(part);
}

static void moved(remote_part *part)
{
	if (part->status != 0) {
		kvt_remote_fail(part->io, -EIO, KVT_REMOTE_FAILURE_LOST);
		end_read(part);
		return;
	}
	kvt_remote_help(part, verify, verified);
}

/* --- Asking --- */

/* The node does not have the pages after all, or none that are whole. */
static void forget_run(remote_part *part)
{
	remote_tier *tier = part->io->tier;
	uint64_t bytes = kvt_page_store_discard(tier->pages, part->io->io->tenant, &part->run);
	tier->counts.lost_pages += bytes / part->run.page_bytes;
}

/* The pieces of an answer; false when they are none of what was asked for. */
static bool take_pieces(remote_part *part, const kvt_remote_record *record)
{
	remote_link *link = part->io->link;
	remote_tier *tier = part->io->tier;
	const kvt_extent *run = &part->run;
	kvt_time expires = part->asked + link->welcome.lease_ms * KVT_MILLISECOND;
	bool keep =
		!tier->settings.no_leases && kvt_remote_layer(link, run)->changes == part->changes;
	if (record->n_checksums != run->n_pages)
		return false;
	memcpy(part->checksums, record->checksums, run->n_pages * sizeof(uint64_t));
	kvt_extent rest = *run;
	for (uint32_t i = 0; i < record->n; i++) {
		const kvt_remote_piece *piece = &record->pieces[i];
		uint64_t done = rest.first_page - run->first_page;
		if (piece->address == 0)
			tier->counts.pushed_pages += piece->n_pages;
		else
			kvt_remote_add_transfer(part, KVT_TRANSFER_READ, done * run->page_bytes,
				piece->n_pages * run->page_bytes, piece->address, piece->key);
		if (piece->lease != 0) {
			remote_grant *grant = kvt_remote_grant_new(
				link, &rest, piece, part->checksums + done, expires);
			g_ptr_array_add(part->grants, grant);
			if (keep)
				kvt_remote_grant_keep(link, grant);
		}
		rest.first_page += piece->n_pages;
	}
	return true;
}

static void fetched(remote_request *request, const kvt_remote_record *record, int status)
{
	remote_part *part = request->arg;
	remote_io *io = part->io;
	if (status == -EDQUOT && kvt_remote_defer(part, fetch))
		return;
	if (record && status == 0 && !take_pieces(part, record)) {
		kvt_remote_link_lose(io->link, KVT_REMOTE_LOSS_PROTOCOL);
		status = -EIO;
	}
	if (status != 0) {
		if (status == -ENOENT || status == -EBADMSG)
			forget_run(part);
		kvt_remote_fail_answer(io, status);
		end_read(part);
		return;
	}
	if (part->transfers->len > 0)
		kvt_remote_move(part, moved);
	else
		moved(part);
}

static void fetch(remote_part *part)
{
	remote_io *io = part->io;
	remote_link *link = io->link;
	if (io->status != 0) {
		end_read(part);
		return;
	}
	g_array_set_size(part->transfers, 0);
	part->request.answered = fetched;
	part->request.arg = part;
	part->asked = kvt_loop_now(io->tier->loop);
	part->changes = kvt_remote_layer(link, &part->run)->changes;
	kvt_remote_record record = { .type = KVT_REMOTE_FETCH,
		.priority = (uint8_t)io->io->priority,
		.run = part->run,
		.address = part->region->address + (uint64_t)(part->memory - part->region->memory),
		.key = part->region->key };
	io->tier->counts.fetches++;
	io->tier->stats.device_ios++;
	kvt_remote_ask(link, kvt_remote_any_queue(link), &part->request, &record);
}

static void read_by(remote_part *part, remote_grant *grant)
{
	uint64_t skipped = part->run.first_page - grant->first_page;
	uint64_t bytes = kvt_extent_bytes(&part->run);
	part->io->tier->counts.leased_reads++;
	grant->pins++;
	g_ptr_array_add(part->grants, grant);
	memcpy(part->checksums, grant->checksums + skipped, part->run.n_pages * sizeof(uint64_t));
	kvt_remote_add_transfer(part, KVT_TRANSFER_READ, 0, bytes,
		grant->address + skipped * grant->page_bytes, grant->key);
	kvt_remote_move(part, moved);
}

remote_next kvt_remote_next_read(remote_io *io)
{
	const kvt_io *kvt = io->io;
	remote_next next;
	if (io->at == kvt->n_extents)
		return REMOTE_NO_MORE;
	const kvt_extent *extent = &kvt->extents[io->at];
	uint64_t span, most = kvt_remote_part_pages(io->link, extent->page_bytes);
	if (most == 0) {
		kvt_remote_fail(io, -EIO, KVT_REMOTE_FAILURE_NODE);
		return REMOTE_NO_MORE;
	}
	remote_grant *grant =
		kvt_remote_grant_find(io->link, extent, extent->first_page + io->offset, &span);
	uint64_t n = MIN(span, most);
	/* held while room is looked for */
	if (grant)
		grant->pins++;
	remote_part *part = kvt_remote_take_part(io, io->at, io->offset, n, &next);
	io->offset += part ? n : 0;
	if (io->offset == extent->n_pages) {
		io->at++;
		io->offset = 0;
	}
	if (part && grant)
		read_by(part, grant);
	else if (part)
		fetch(part);
	if (grant)
		kvt_remote_grant_unpin(io->link, grant);
	return next;
}
