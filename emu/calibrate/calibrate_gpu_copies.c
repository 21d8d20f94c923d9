/* calibrate_gpu_copies.c: copies between pinned memory and the GPU's by size: what a window of
 * pages that lie anywhere takes, many windows, two at a time; and checksums of such pages on
 * the GPU. */
#include "emu/calibrate/gpu_bench.h"
#include "sim/base/rng.h"

/* Bytes of one call, as a window has, and of a series of calls; a series of small copies is
 * shorter. */
static const uint64_t CALL = 32 << 20, SERIES = UINT64_C(512) << 20;
enum { CALL_COPIES = 4096, SERIES_COPIES = 16384, PAGE = 65536 };

typedef struct copy_series {
	kvt_gpu_bench *bench;
	kvt_gpu_copy *copies;
	kvt_gpu_copy_way way;
	unsigned n, calls; /* copies of a call; calls */
	kvt_gpu_event *forked, *joined;
} copy_series;

/* On two streams in turn, as the tier that loads pages has it: the end of a window goes beside the
 * beginning of the next. */
static int copy_call(void *arg, kvt_gpu_stream *stream, unsigned i)
{
	const copy_series *s = arg;
	const kvt_gpu_ops *ops = s->bench->gpu->ops;
	kvt_gpu_stream *other = s->bench->streams[1];
	int status = i == 0 ? ops->record(stream, s->forked) : 0;
	if (i == 0 && status == 0)
		status = ops->wait_event(other, s->forked);
	if (status == 0)
		status = ops->copy(
			i % 2 ? other : stream, s->copies + (size_t)i * s->n, s->n, s->way);
	if (i + 1 == s->calls && status == 0)
		status = ops->record(other, s->joined);
	if (i + 1 == s->calls && status == 0)
		status = ops->wait_event(stream, s->joined);
	return status;
}

/* Pages of the host's memory in an order of chance, the GPU's one behind the other. */
static void place_copies(
	const kvt_gpu_bench *b, const kvt_gpu_copy_point *point, copy_series *series)
{
	uint64_t total = (uint64_t)series->n * series->calls, places = b->bytes / point->size;
	kvt_rng rng = kvt_rng_init(point->size, 0);
	g_autofree uint64_t *order = g_new(uint64_t, places);
	for (uint64_t i = 0; i < places; i++) {
		uint64_t at = kvt_rng_below(&rng, i + 1);
		order[i] = order[at];
		order[at] = i;
	}
	series->copies = g_new(kvt_gpu_copy, total);
	for (uint64_t i = 0; i < total; i++) {
		uint8_t *host = b->host + order[i % places] * point->size;
		uint8_t *device = b->device + i % places * point->size;
		series->copies[i] = (kvt_gpu_copy){ point->to_gpu ? device : host,
			point->to_gpu ? host : device, point->size };
	}
}

static int measure(kvt_gpu_bench *b, kvt_gpu_copy_point *point, double *rate)
{
	uint64_t copies = CLAMP(SERIES / point->size, 1, SERIES_COPIES);
	copies = MIN(copies, MAX(b->bytes / point->size, 1));
	copy_series series = { .bench = b,
		.way = point->way,
		.forked = b->gpu->ops->event_new(b->gpu),
		.joined = b->gpu->ops->event_new(b->gpu) };
	series.n = (unsigned)CLAMP(CALL / point->size, 1, MIN(CALL_COPIES, copies));
	series.calls = (unsigned)MAX(copies / series.n, 1);
	place_copies(b, point, &series);
	double seconds = 0;
	int status = kvt_gpu_bench_series(b, copy_call, &series, series.calls, &seconds);
	*rate = (double)series.n * (double)point->size / MAX(seconds, 1e-9);
	b->gpu->ops->event_free(series.forked);
	b->gpu->ops->event_free(series.joined);
	g_free(series.copies);
	return status;
}

/* Windows of pages that are verified where they arrived. */
typedef struct checksum_series {
	kvt_gpu_bench *bench;
	kvt_cuda_page *pages;
	unsigned n, calls; /* pages of a call; calls */
} checksum_series;

static int checksum_call(void *arg, kvt_gpu_stream *stream, unsigned i)
{
	const checksum_series *s = arg;
	return s->bench->gpu->ops->checksum(stream, s->pages + (size_t)(i % s->calls) * s->n, s->n,
		(uint64_t *)(void *)s->bench->host);
}

static int measure_checksums(kvt_gpu_bench *b, double *rate)
{
	unsigned total = (unsigned)(MIN(b->bytes, SERIES) / PAGE);
	checksum_series series = { .bench = b, .n = MIN((unsigned)(CALL / PAGE), total) };
	double seconds = 0;
	series.calls = total / series.n;
	series.pages = g_new(kvt_cuda_page, total);
	for (unsigned i = 0; i < total; i++)
		series.pages[i] = (kvt_cuda_page){ b->device + (size_t)i * PAGE, PAGE };
	int status = kvt_gpu_bench_series(b, checksum_call, &series, series.calls, &seconds);
	*rate = (double)series.n * PAGE / MAX(seconds, 1e-9);
	g_free(series.pages);
	return status;
}

static void add(
	GArray *points, const kvt_gpu_bench *b, bool to_gpu, kvt_gpu_copy_way way, uint64_t size)
{
	kvt_gpu_copy_point point = { .to_gpu = to_gpu, .way = way, .size = size };
	if (size <= b->bytes)
		g_array_append_val(points, point);
}

gboolean kvt_calibrate_gpu_copies(kvt_gpu_bench *b, kvt_gpu_calibration *gpu, GError **error)
{
	bool quick = b->settings->quick;
	for (uint64_t size = 4096; size <= 16 << 20; size *= quick ? 4 : 2) {
		add(gpu->copies, b, true, KVT_GPU_COPY_AUTOMATIC, size);
		add(gpu->copies, b, true, KVT_GPU_COPY_ENGINE, size);
		add(gpu->copies, b, true, KVT_GPU_COPY_KERNEL, size);
		if (size >= 65536)
			add(gpu->copies, b, false, KVT_GPU_COPY_AUTOMATIC, size);
	}
	add(gpu->copies, b, true, KVT_GPU_COPY_AUTOMATIC, 256 << 20);
	add(gpu->copies, b, false, KVT_GPU_COPY_AUTOMATIC, 256 << 20);
	g_autofree double *rates = g_new0(double, gpu->copies->len *KVT_GPU_ROUNDS);
	for (unsigned round = 0; round < b->rounds; round++)
		for (unsigned i = 0; i < gpu->copies->len; i++) {
			kvt_gpu_copy_point *point =
				&g_array_index(gpu->copies, kvt_gpu_copy_point, i);
			kvt_gpu_bench_progress(b, "copies", round * gpu->copies->len + i,
				b->rounds * gpu->copies->len);
			int status = measure(b, point, &rates[i * KVT_GPU_ROUNDS + round]);
			if (!kvt_gpu_bench_check(status, "copies", error))
				return FALSE;
		}
	for (unsigned i = 0; i < gpu->copies->len; i++)
		g_array_index(gpu->copies, kvt_gpu_copy_point, i).rate =
			kvt_measured_of(&rates[i * KVT_GPU_ROUNDS], b->rounds);
	if (!b->gpu->ops->checksum) {
		kvt_gpu_calibration_missing(gpu, "checksums: the GPU makes none");
		return TRUE;
	}
	double verified[KVT_GPU_ROUNDS];
	int status = 0;
	for (unsigned round = 0; round < b->rounds && status == 0; round++)
		status = measure_checksums(b, &verified[round]);
	gpu->figures[KVT_GPU_VERIFY] = kvt_measured_of(verified, b->rounds);
	return kvt_gpu_bench_check(status, "checksums", error);
}
