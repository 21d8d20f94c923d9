/* gpu_bench.c: series of calls between two events of a stream. */
#include "emu/calibrate/gpu_bench.h"

#include <errno.h>

#include "emu/loop/real_loop.h"
#include "sim/base/error.h"

/* The card waits so long for each call of a series to be submitted, and at most so long. */
static const kvt_time AHEAD = 30 * KVT_MICROSECOND, AHEAD_MOST = 4 * KVT_MILLISECOND;
/* How long a series should last, s. */
static const double SERIES = 2e-3;
/* A card that has not answered by then does not, s. */
static const double PATIENCE = 30;

gboolean kvt_gpu_bench_check(int status, const char *what, GError **error)
{
	return status == 0 ||
	       kvt_error_failed(error, "calibrate: the GPU: %s: %s", what, g_strerror(-status));
}

void kvt_gpu_bench_progress(
	const kvt_gpu_bench *bench, const char *what, unsigned done, unsigned total)
{
	if (bench->settings->progress)
		bench->settings->progress(bench->settings->progress_arg, what, done, total);
}

static gboolean open_memory(kvt_gpu_bench *b, GError **error)
{
	uint64_t bytes = b->given->bytes;
	if (bytes == 0)
		bytes = b->settings->quick ? UINT64_C(512) << 20 : UINT64_C(2) << 30;
	/* a card that is used beside this has less */
	for (b->bytes = 2 * bytes; !b->device && b->bytes > bytes / 16;) {
		b->bytes /= 2;
		b->device = b->gpu->ops->alloc(b->gpu, b->bytes);
	}
	if (!b->device)
		return kvt_error_failed(error, "calibrate: the GPU has no memory left");
	b->arena = kvt_arena_new(b->bytes, KVT_HUGE_TRANSPARENT, false, -1, error);
	if (!b->arena)
		return FALSE;
	uint8_t *host = kvt_arena_base(b->arena);
	/* pages that nobody has written are one page of zeros */
	for (uint64_t i = 0; i < b->bytes; i += 4096)
		host[i] = 1;
	if (!kvt_gpu_bench_check(b->gpu->ops->pin(b->gpu, host, b->bytes), "pinning", error))
		return FALSE;
	b->host = host;
	return TRUE;
}

gboolean kvt_gpu_bench_open(
	kvt_gpu_bench *b, const kvt_calibrate_settings *settings, GError **error)
{
	const kvt_real_loop_settings spin = { .spin = KVT_SECOND };
	*b = (kvt_gpu_bench){ .settings = settings,
		.given = settings->gpu,
		.gpu = settings->gpu->gpu,
		.loop = kvt_real_loop_new(&spin),
		.rounds = settings->quick ? 1 : KVT_GPU_ROUNDS };
	if (!b->loop)
		return kvt_error_failed(error, "calibrate: no loop: %s", g_strerror(errno));
	const kvt_gpu_ops *ops = b->gpu->ops;
	bool made = (b->first = ops->event_new(b->gpu)) && (b->last = ops->event_new(b->gpu));
	for (unsigned i = 0; i < KVT_GPU_MARKS; i++)
		made = made && (b->marks[i] = ops->event_new(b->gpu));
	for (unsigned i = 0; i < G_N_ELEMENTS(b->streams); i++)
		made = made && (b->streams[i] = ops->stream_new(b->gpu, false));
	if (!made)
		return kvt_error_failed(error, "calibrate: the GPU has no streams left");
	return open_memory(b, error);
}

void kvt_gpu_bench_close(kvt_gpu_bench *b)
{
	const kvt_gpu_ops *ops = b->gpu->ops;
	for (unsigned i = 0; i < G_N_ELEMENTS(b->streams); i++)
		ops->stream_free(b->streams[i]);
	for (unsigned i = 0; i < KVT_GPU_MARKS; i++)
		ops->event_free(b->marks[i]);
	ops->event_free(b->first);
	ops->event_free(b->last);
	ops->release(b->gpu, b->device);
	if (b->host)
		ops->unpin(b->gpu, b->host);
	kvt_arena_free(b->arena);
	kvt_loop_free(b->loop);
}

static int wait_for(kvt_gpu_bench *b, kvt_gpu_event *event)
{
	int64_t begun = g_get_monotonic_time();
	int status;
	while ((status = b->gpu->ops->query(event)) == -EBUSY)
		if ((double)(g_get_monotonic_time() - begun) * 1e-6 > PATIENCE)
			return -ETIMEDOUT;
	return status;
}

int kvt_gpu_bench_wait(kvt_gpu_bench *b)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(b->streams); i++) {
		int status = b->gpu->ops->record(b->streams[i], b->marks[i]);
		if (status == 0)
			status = wait_for(b, b->marks[i]);
		if (status != 0)
			return status;
	}
	return 0;
}

int kvt_gpu_bench_series(
	kvt_gpu_bench *b, kvt_gpu_call call, void *arg, unsigned n, double *seconds)
{
	const kvt_gpu_ops *ops = b->gpu->ops;
	kvt_gpu_stream *stream = b->streams[0];
	kvt_time ahead = MIN((kvt_time)n * AHEAD, AHEAD_MOST);
	int status = n > 1 ? ops->wait_time(stream, ahead) : 0;
	if (status == 0)
		status = ops->record(stream, b->first);
	for (unsigned i = 0; i < n && status == 0; i++) {
		status = ops->record(stream, b->marks[2 * i % KVT_GPU_MARKS]);
		if (status == 0)
			status = call(arg, stream, i);
		if (status == 0)
			status = ops->record(stream, b->marks[(2 * i + 1) % KVT_GPU_MARKS]);
	}
	if (status == 0)
		status = ops->record(stream, b->last);
	if (status == 0)
		status = wait_for(b, b->last);
	if (status == 0)
		*seconds = MAX(kvt_time_to_seconds(ops->elapsed(b->first, b->last)) / n, 1e-9);
	return status;
}

int kvt_gpu_bench_time(
	kvt_gpu_bench *b, kvt_gpu_call call, void *arg, unsigned most, double *seconds)
{
	/* the first call of a shape may have a kernel to load */
	int status = kvt_gpu_bench_series(b, call, arg, 1, seconds);
	if (status != 0 || *seconds > SERIES)
		return status;
	unsigned n = (unsigned)MIN(SERIES / *seconds + 1, KVT_GPU_MARKS);
	return kvt_gpu_bench_series(b, call, arg, MIN(n, most), seconds);
}
