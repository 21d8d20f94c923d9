/* upload_write.c: pages of device memory on their way to the inner tier, by way of the host's
 * memory. */
#include <errno.h>
#include <stdlib.h>

#include "emu/gpu/upload_internal.h"

typedef struct upload_write {
	upload_tier *tier;
	kvt_io *io, inner;
	uint8_t *bytes; /* of all that was in device memory */
	void **memory;
	kvt_event refused; /* the call that says that nothing was written */
} upload_write;

void kvt_upload_write_free(gpointer pointer)
{
	upload_write *w = pointer;
	if (w->refused != 0)
		kvt_loop_cancel(w->tier->loop, w->refused);
	free(w->bytes);
	g_free(w->memory);
	g_free(w);
}

static void end(upload_write *w, int status, uint64_t bytes)
{
	upload_tier *tier = w->tier;
	kvt_io *io = w->io;
	io->status = status;
	io->bytes = bytes;
	io->completed = kvt_loop_now(tier->loop);
	kvt_tier_stats_count(&tier->stats, io);
	g_ptr_array_remove_fast(tier->writes, w);
	io->done(io);
}

static void on_written(kvt_io *inner)
{
	end(inner->arg, inner->status, inner->bytes);
}

static void on_refused(void *arg)
{
	upload_write *w = arg;
	w->refused = 0;
	end(w, -EIO, 0);
}

/* Brings the pages to the host; 0 or a negative errno. */
static int bring(upload_write *w)
{
	const kvt_io *io = w->io;
	g_autofree kvt_gpu_copy *copies = g_new(kvt_gpu_copy, io->n_extents);
	kvt_gpu_stream *stream = w->tier->streams[UPLOAD_PATIENT].lanes[0];
	uint8_t *to = w->bytes;
	unsigned n = 0;
	for (unsigned i = 0; i < io->n_extents; i++) {
		uint64_t bytes = kvt_extent_bytes(&io->extents[i]);
		w->memory[i] = io->memory[i];
		if (!kvt_upload_is_device(w->tier, io->memory[i]))
			continue;
		copies[n++] = (kvt_gpu_copy){ to, io->memory[i], bytes };
		w->memory[i] = to;
		to += bytes;
	}
	/* memory that is not pinned: the call is over when they are there */
	return stream->gpu->ops->copy(stream, copies, n, KVT_GPU_COPY_ENGINE);
}

int kvt_upload_write(upload_tier *tier, kvt_io *io, uint64_t bytes)
{
	upload_write *w = g_new0(upload_write, 1);
	w->tier = tier;
	w->io = io;
	/* as tiers that go around the page cache like it */
	w->bytes = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
	w->memory = g_new(void *, io->n_extents);
	bool there = w->bytes && bring(w) == 0;
	w->inner = *io;
	w->inner.memory = w->memory;
	w->inner.done = on_written;
	w->inner.arg = w;
	int error = there ? kvt_tier_submit(tier->inner, &w->inner) : 0;
	if (error != 0) {
		kvt_upload_write_free(w);
		return error;
	}
	if (!there)
		w->refused = kvt_loop_at(tier->loop, 0, on_refused, w);
	io->submitted = kvt_loop_now(tier->loop);
	g_ptr_array_add(tier->writes, w);
	return 0;
}
