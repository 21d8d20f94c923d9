/* upload_direct.c: reads of pages that the GPU copies from where they lie in pinned memory. */
#include "emu/gpu/upload_internal.h"
#include "emu/tier/pinned_tier.h"

int kvt_upload_direct_begin(upload_io *io)
{
	upload_tier *tier = io->tier;
	g_array_set_size(io->runs, 0);
	int error =
		kvt_pinned_tier_read_in_place(tier->inner, io->io, tier->settings.verify, io->runs);
	if (error != 0)
		return error;
	if (io->runs->len == 0) {
		kvt_upload_give_io(io);
		return 0;
	}
	io->run = 0;
	io->byte = 0;
	kvt_upload_enqueue(io);
	kvt_upload_pump_soon(tier);
	return 0;
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
		if (io->byte == run->bytes) {
			io->run++;
			io->byte = 0;
		}
	}
	g_ptr_array_add(batch->shares, io);
	io->pending++;
	if (io->run == io->runs->len)
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
