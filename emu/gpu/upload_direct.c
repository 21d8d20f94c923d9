/* upload_direct.c: reads of pages that the GPU copies from where they lie in pinned memory. */
#include "emu/gpu/upload_internal.h"
#include "emu/tier/pinned_tier.h"

/* Whether the GPU can sum every page. */
static bool has_sums(const kvt_io *io)
{
	for (unsigned i = 0; i < io->n_extents; i++) {
		uint64_t bytes = io->extents[i].page_bytes;
		if (bytes < KVT_CUDA_CHECKSUM_LEAST || ((uintptr_t)io->memory[i] | bytes) % 16 != 0)
			return false;
	}
	return true;
}

static kvt_pinned_verify who_verifies(const upload_io *io)
{
	int verify = io->tier->settings.verify;
	if (verify == KVT_UPLOAD_VERIFY_DEVICE && has_sums(io->io))
		return KVT_PINNED_MOVED;
	return verify == KVT_UPLOAD_VERIFY_NO ? KVT_PINNED_TRUST : KVT_PINNED_IN_PLACE;
}

int kvt_upload_direct_begin(upload_io *io)
{
	upload_tier *tier = io->tier;
	kvt_pinned_verify verify = who_verifies(io);
	g_array_set_size(io->runs, 0);
	g_array_set_size(io->checks, 0);
	int error = kvt_pinned_tier_read_in_place(tier->inner, io->io, verify, io->runs,
		verify == KVT_PINNED_MOVED ? io->checks : NULL);
	if (error != 0)
		return error;
	if (io->runs->len == 0) {
		kvt_upload_give_io(io);
		return 0;
	}
	io->run = io->check = 0;
	io->byte = io->begun = io->checked = 0;
	io->check_end = 0;
	kvt_upload_enqueue(io);
	kvt_upload_pump_soon(tier);
	return 0;
}

/* Pages of the I/O that are complete with the batch's copies, as many as it has room for. */
static void add_checks(upload_io *io, upload_batch *batch)
{
	while (io->check < io->checks->len && kvt_upload_batch_room_for_page(batch)) {
		const kvt_pinned_check *check =
			&g_array_index(io->checks, kvt_pinned_check, io->check);
		if (io->check_end + check->page_bytes > io->begun)
			return;
		io->check_end += check->page_bytes;
		kvt_upload_batch_check(batch, io,
			(const uint8_t *)check->to + io->checked * check->page_bytes,
			check->page_bytes, &check->sums[io->checked]);
		if (++io->checked == check->n) {
			io->check++;
			io->checked = 0;
		}
	}
}

static bool is_through(const upload_io *io)
{
	return io->run == io->runs->len && io->check == io->checks->len;
}

/* Puts what there is room for of the class's first I/O into the batch. */
static void add_share(upload_tier *tier, unsigned class, upload_batch *batch)
{
	upload_io *io = tier->classes[class].first;
	uint64_t room;
	while ((room = kvt_upload_batch_room(batch)) > 0 && io->run < io->runs->len) {
		const kvt_pinned_run *run = &g_array_index(io->runs, kvt_pinned_run, io->run);
		uint64_t bytes = MIN(run->bytes - io->byte, room);
		kvt_upload_batch_add(batch, (uint8_t *)run->to + io->byte,
			(const uint8_t *)run->from + io->byte, bytes);
		io->byte += bytes;
		io->begun += bytes;
		if (io->byte == run->bytes) {
			io->run++;
			io->byte = 0;
		}
	}
	add_checks(io, batch);
	g_ptr_array_add(batch->shares, io);
	io->pending++;
	if (is_through(io))
		kvt_upload_dequeue(tier, class);
}

void kvt_upload_direct_pump(upload_tier *tier)
{
	for (;;) {
		unsigned may_go = kvt_upload_stream_busy(tier, UPLOAD_URGENT) ? 0 : 1;
		may_go |= kvt_upload_stream_busy(tier, UPLOAD_PATIENT) ? 0 : ~1u;
		unsigned class = kvt_upload_next_class(tier, may_go);
		if (class == KVT_PRIORITY_CLASSES)
			return;
		upload_batch *batch = kvt_upload_batch_take(
			tier, kvt_upload_stream_of(tier->classes[class].first));
		while (tier->classes[class].first && kvt_upload_batch_room(batch) > 0)
			add_share(tier, class, batch);
		kvt_upload_batch_send(batch);
	}
}

void kvt_upload_direct_end(upload_io *io)
{
	kvt_io *read = io->io;
	int status = io->status;
	kvt_upload_give_io(io);
	kvt_pinned_tier_moved(read, status);
}
