/* upload_batch.c: copies that the GPU is given in one call, sums of the pages that came with them,
 * and what of them is over. */
#include "emu/gpu/upload_internal.h"
#include "emu/tier/pinned_tier.h"

enum {
	BATCH_BYTES = 32 << 20, /* about: half a millisecond of a fast link */
	BATCH_COPIES = 16384,
	BATCH_PAGES = 16384, /* that are summed */
	BATCHES = 4, /* of a stream: enough that it never runs dry while the loop is at work */
};

upload_batch *kvt_upload_batch_take(upload_tier *tier, unsigned stream)
{
	upload_batch *batch = tier->free_batches;
	if (batch) {
		tier->free_batches = batch->next_free;
	} else {
		batch = g_new0(upload_batch, 1);
		batch->tier = tier;
		batch->event = tier->gpu->ops->event_new(tier->gpu);
		batch->copied = tier->gpu->ops->event_new(tier->gpu);
		batch->copies = g_array_new(FALSE, FALSE, sizeof(kvt_gpu_copy));
		batch->pages = g_array_new(FALSE, FALSE, sizeof(kvt_cuda_page));
		batch->expected = g_array_new(FALSE, FALSE, sizeof(upload_expected));
		if (tier->sums) {
			/* no more are made than may be under way */
			g_assert(tier->all_batches->len < BATCHES * UPLOAD_STREAMS);
			batch->sums = tier->sums + tier->all_batches->len * BATCH_PAGES;
		}
		batch->shares = g_ptr_array_new();
		g_ptr_array_add(tier->all_batches, batch);
	}
	batch->stream = stream;
	batch->bytes = 0;
	batch->aligned = true;
	g_array_set_size(batch->copies, 0);
	g_array_set_size(batch->pages, 0);
	g_array_set_size(batch->expected, 0);
	g_ptr_array_set_size(batch->shares, 0);
	return batch;
}

void kvt_upload_batch_add(upload_batch *batch, void *to, const void *from, uint64_t bytes)
{
	const kvt_gpu_copy copy = { to, from, bytes };
	batch->aligned &= ((uintptr_t)to | (uintptr_t)from | bytes) % 16 == 0;
	batch->bytes += bytes;
	g_array_append_val(batch->copies, copy);
}

void kvt_upload_batch_check(
	upload_batch *batch, upload_io *io, const void *page, uint64_t bytes, const uint64_t *sum)
{
	const kvt_cuda_page added = { page, bytes };
	const upload_expected expected = { sum, io };
	g_array_append_val(batch->pages, added);
	g_array_append_val(batch->expected, expected);
}

bool kvt_upload_batch_room_for_page(const upload_batch *batch)
{
	return batch->pages->len < BATCH_PAGES;
}

uint64_t kvt_upload_batch_room(const upload_batch *batch)
{
	if (batch->bytes >= BATCH_BYTES || batch->copies->len >= BATCH_COPIES ||
		!kvt_upload_batch_room_for_page(batch))
		return 0;
	return BATCH_BYTES - batch->bytes;
}

uint64_t kvt_upload_sums_bytes(void)
{
	return (uint64_t)BATCHES * UPLOAD_STREAMS * BATCH_PAGES * sizeof(uint64_t);
}

bool kvt_upload_stream_busy(const upload_tier *tier, unsigned stream)
{
	return tier->streams[stream].batches >= BATCHES;
}

static void compare(const upload_batch *batch)
{
	const upload_expected *expected = (const upload_expected *)(void *)batch->expected->data;
	for (guint i = 0; i < batch->expected->len; i++)
		if (batch->sums[i] != *expected[i].sum)
			kvt_pinned_tier_wrong(expected[i].io->io, expected[i].sum);
}

static void passed(void *arg, int status)
{
	upload_batch *batch = arg;
	upload_tier *tier = batch->tier;
	tier->streams[batch->stream].batches--;
	if (status == 0)
		compare(batch);
	for (guint i = 0; i < batch->shares->len; i++) {
		gpointer share = g_ptr_array_index(batch->shares, i);
		if (tier->direct)
			kvt_upload_end_part(share, status);
		else
			kvt_upload_piece_end(share, status);
	}
	batch->next_free = tier->free_batches;
	tier->free_batches = batch;
	kvt_upload_pump_soon(tier);
}

static void refused(void *arg)
{
	upload_batch *batch = arg;
	passed(batch, batch->refused);
}

/* Submits what the batch has; the stream on which it is over when all is, or NULL: it was refused.
 */
static kvt_gpu_stream *submit(upload_batch *batch)
{
	upload_tier *tier = batch->tier;
	const kvt_gpu_ops *ops = tier->gpu->ops;
	upload_stream *stream = &tier->streams[batch->stream];
	kvt_gpu_stream *lane = stream->lanes[stream->lane];
	kvt_gpu_copy_way way = (kvt_gpu_copy_way)tier->settings.way;
	if (way == KVT_GPU_COPY_KERNEL && !batch->aligned)
		way = KVT_GPU_COPY_ENGINE;
	stream->lane = (stream->lane + 1) % UPLOAD_LANES;
	int status = ops->copy(
		lane, (const kvt_gpu_copy *)(void *)batch->copies->data, batch->copies->len, way);
	/* of every batch: a page may have begun with the one before, on the other lane */
	if (tier->sums) {
		status = status ? status : ops->record(lane, batch->copied);
		status = status ? status : ops->wait_event(stream->checks, batch->copied);
		lane = stream->checks;
	}
	if (status == 0 && batch->pages->len > 0)
		status = ops->checksum(lane, (const kvt_cuda_page *)(void *)batch->pages->data,
			batch->pages->len, batch->sums);
	batch->refused = status;
	return status == 0 ? lane : NULL;
}

void kvt_upload_batch_send(upload_batch *batch)
{
	upload_tier *tier = batch->tier;
	tier->streams[batch->stream].batches++;
	tier->counts.calls++;
	tier->counts.runs += batch->copies->len;
	tier->counts.copied += batch->bytes;
	tier->counts.verified += batch->pages->len;
	kvt_gpu_stream *last = submit(batch);
	if (last)
		kvt_gpu_watch_record(tier->watch, last, batch->event, passed, batch);
	else
		kvt_loop_at(tier->loop, 0, refused, batch);
}

void kvt_upload_batch_free(gpointer pointer)
{
	upload_batch *batch = pointer;
	batch->tier->gpu->ops->event_free(batch->event);
	batch->tier->gpu->ops->event_free(batch->copied);
	g_array_unref(batch->copies);
	g_array_unref(batch->pages);
	g_array_unref(batch->expected);
	g_ptr_array_unref(batch->shares);
	g_free(batch);
}
