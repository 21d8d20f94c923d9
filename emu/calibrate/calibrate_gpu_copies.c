/* calibrate_gpu_copies.c: copies between pinned memory and the GPU's by size: what a window of
 * pages that lie anywhere takes, many windows one behind the other. */
#include "emu/calibrate/gpu_bench.h"
#include "emu/store/page_checksum.h"
#include "sim/base/rng.h"

/* Bytes of one call, as a window has, and of a series of calls; a series of small copies is
 * shorter. */
static const uint64_t CALL = 32 << 20, SERIES = UINT64_C(512) << 20;
enum { CALL_COPIES = 4096, SERIES_COPIES = 16384, PAGE = 65536, VERIFY_SERIES = 10 };

typedef struct copy_series {
	kvt_gpu_bench *bench;
	kvt_gpu_copy *copies;
	kvt_gpu_copy_way way;
	unsigned n, calls; /* copies of a call; calls */
} copy_series;

static int copy_call(void *arg, kvt_gpu_stream *stream, unsigned i)
{
	const copy_series *s = arg;
	return s->bench->gpu->ops->copy(
		stream, s->copies + (size_t)(i % s->calls) * s->n, s->n, s->way);
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
	copy_series series = { .bench = b, .way = point->way };
	series.n = (unsigned)CLAMP(CALL / point->size, 1, MIN(CALL_COPIES, copies));
	series.calls = (unsigned)MAX(copies / series.n, 1);
	place_copies(b, point, &series);
	double seconds = 0;
	int status = kvt_gpu_bench_series(b, copy_call, &series, series.calls, &seconds);
	*rate = (double)series.n * (double)point->size / MAX(seconds, 1e-9);
	g_free(series.copies);
	return status;
}

/* Threads that verify pages of the host's memory, each its part, again and again. */
typedef struct verifying {
	const kvt_gpu_bench *bench;
	int thread, stop; /* atomic */
	uint64_t pages[KVT_VERIFY_THREADS];
} verifying;

static gpointer verify_pages(gpointer arg)
{
	verifying *v = arg;
	const kvt_gpu_bench *b = v->bench;
	unsigned own = (unsigned)g_atomic_int_add(&v->thread, 1);
	uint64_t each = b->bytes / KVT_VERIFY_THREADS, sum = 0;
	const uint8_t *from = b->host + own * each;
	uint64_t pages = 0;
	for (uint64_t at = 0; !g_atomic_int_get(&v->stop) || pages == 0; pages++) {
		sum += kvt_page_checksum(from + at, PAGE);
		at = at + 2 * PAGE <= each ? at + PAGE : 0;
	}
	v->pages[own] = pages;
	return (gpointer)(uintptr_t)sum; /* so that it is not optimised away */
}

static int measure_verifying(kvt_gpu_bench *b, double *rate)
{
	verifying v = { .bench = b };
	GThread *threads[KVT_VERIFY_THREADS];
	kvt_gpu_copy_point point = { .to_gpu = true, .size = 1 << 20 };
	double copies;
	gint64 begun = g_get_monotonic_time();
	for (unsigned i = 0; i < KVT_VERIFY_THREADS; i++)
		threads[i] = g_thread_new("verify", verify_pages, &v);
	int status = 0;
	for (unsigned i = 0; i < VERIFY_SERIES && status == 0; i++)
		status = measure(b, &point, &copies);
	g_atomic_int_set(&v.stop, 1);
	uint64_t pages = 0;
	for (unsigned i = 0; i < KVT_VERIFY_THREADS; i++) {
		g_thread_join(threads[i]);
		pages += v.pages[i];
	}
	double seconds = (double)(g_get_monotonic_time() - begun) * 1e-6;
	*rate = (double)(pages * PAGE) / MAX(seconds, 1e-6);
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
	double verified[KVT_GPU_ROUNDS];
	int status = 0;
	for (unsigned round = 0; round < b->rounds && status == 0; round++)
		status = measure_verifying(b, &verified[round]);
	gpu->figures[KVT_GPU_VERIFY] = kvt_measured_of(verified, b->rounds);
	return kvt_gpu_bench_check(status, "copies beside checksums", error);
}
