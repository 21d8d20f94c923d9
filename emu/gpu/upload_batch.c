/* upload_batch.c: copies that the GPU is given in one call, and what of them is over. */
#include "emu/gpu/upload_internal.h"

enum {
	BATCH_BYTES = 32 << 20, /* about: half a millisecond of a fast link */
	BATCH_COPIES = 16384,
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
		batch->copies = g_array_new(FALSE, FALSE, sizeof(kvt_gpu_copy));
		batch->shares = g_ptr_array_new();
		g_ptr_array_add(tier->all_batches, batch);
	}
	batch->stream = stream;
	batch->bytes = 0;
	batch->aligned = true;
	g_array_set_size(batch->copies, 0);
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

uint64_t kvt_upload_batch_room(const upload_batch *batch)
{
	if (batch->bytes >= BATCH_BYTES || batch->copies->len >= BATCH_COPIES)
		return 0;
	return BATCH_BYTES - batch->bytes;
}

bool kvt_upload_stream_busy(const upload_tier *tier, unsigned stream)
{
	return tier->batches[stream] >= BATCHES;
}

static void passed(void *arg, int status)
{
	upload_batch *batch = arg;
	upload_tier *tier = batch->tier;
	tier->batches[batch->stream]--;
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

void kvt_upload_batch_send(upload_batch *batch)
{
	upload_tier *tier = batch->tier;
	kvt_gpu_stream *stream = tier->streams[batch->stream];
	kvt_gpu_copy_way way = (kvt_gpu_copy_way)tier->settings.way;
	if (way == KVT_GPU_COPY_KERNEL && !batch->aligned)
		way = KVT_GPU_COPY_ENGINE;
	tier->batches[batch->stream]++;
	tier->counts.calls++;
	tier->counts.runs += batch->copies->len;
	tier->counts.copied += batch->bytes;
	batch->refused = tier->gpu->ops->copy(
		stream, (const kvt_gpu_copy *)batch->copies->data, batch->copies->len, way);
	if (batch->refused == 0)
		kvt_gpu_watch_record(tier->watch, stream, batch->event, passed, batch);
	else
		kvt_loop_at(tier->loop, 0, refused, batch);
}

void kvt_upload_batch_free(gpointer pointer)
{
	upload_batch *batch = pointer;
	batch->tier->gpu->ops->event_free(batch->event);
	g_array_unref(batch->copies);
	g_ptr_array_unref(batch->shares);
	g_free(batch);
}
