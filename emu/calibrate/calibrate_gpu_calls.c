/* calibrate_gpu_calls.c: what calls take beyond their work: from the loop to the card and back, on
 * the host's thread, from one call to the next, from stream to stream; and merges. */
#include <errno.h>

#include "emu/calibrate/gpu_bench.h"
#include "emu/gpu/gpu_watch.h"

enum { TRIPS = 200, QUICK_TRIPS = 50, SERIES = 48, DIM = 128, KV_HEADS = 4, SIZES = 2 };

/* Of the waits that gaps are measured between. */
static const kvt_time WAIT = 20 * KVT_MICROSECOND;
/* From one trip to the next: the card is idle again. */
static const kvt_time PAUSE = 50 * KVT_MICROSECOND;
/* Bytes of a copy whose time is next to nothing. */
static const uint64_t SMALL = 4096;
/* Rows of a merge: those of one token, and enough to see how fast it goes. */
static const uint64_t ROWS[SIZES] = { 28, 28 * 2048 };

typedef struct trips {
	kvt_gpu_bench *bench;
	kvt_gpu_watch *watch;
	bool copies;
	unsigned done, n;
	int status;
	kvt_time from;
	double seconds[TRIPS];
} trips;

static void start(void *arg);

static void heard(void *arg, int status)
{
	trips *t = arg;
	kvt_time took = kvt_loop_now(t->bench->loop) - t->from;
	if (t->status == 0)
		t->status = status;
	t->seconds[t->done] = MAX(kvt_time_to_seconds(took - (t->copies ? 0 : WAIT)), 1e-9);
	if (t->status == 0 && ++t->done < t->n)
		kvt_loop_after(t->bench->loop, PAUSE, start, t);
}

static void start(void *arg)
{
	trips *t = arg;
	kvt_gpu_bench *b = t->bench;
	const kvt_gpu_ops *ops = b->gpu->ops;
	const kvt_gpu_copy copy = { b->device, b->host, SMALL };
	t->from = kvt_loop_now(b->loop);
	t->status = t->copies ? ops->copy(b->streams[0], &copy, 1, KVT_GPU_COPY_AUTOMATIC)
			      : ops->wait_time(b->streams[0], WAIT);
	if (t->status == 0)
		kvt_gpu_watch_record(t->watch, b->streams[0], b->marks[0], heard, t);
}

/* Median with quartiles. */
static kvt_measured middle(double *values, unsigned n)
{
	kvt_measured all = kvt_measured_of(values, n);
	return (kvt_measured){ all.value, values[n / 4], values[n - 1 - n / 4] };
}

static int measure_trips(kvt_gpu_bench *b, bool copies, kvt_measured *out)
{
	g_autofree trips *t = g_new0(trips, 1);
	t->bench = b;
	t->copies = copies;
	t->n = b->settings->quick ? QUICK_TRIPS : TRIPS;
	t->watch = kvt_gpu_watch_new(b->loop, b->gpu);
	kvt_loop_after(b->loop, PAUSE, start, t);
	kvt_loop_run(b->loop);
	kvt_gpu_watch_free(t->watch);
	if (t->status == 0)
		*out = middle(t->seconds, t->n);
	return t->status;
}

static int wait_call(void *arg, kvt_gpu_stream *stream, unsigned i)
{
	(void)arg;
	(void)i;
	return stream->gpu->ops->wait_time(stream, WAIT);
}

/* The host's time of calls that the card takes later. */
static int measure_submit(kvt_gpu_bench *b, double *seconds)
{
	const kvt_gpu_ops *ops = b->gpu->ops;
	int status = ops->wait_time(b->streams[0], 2 * KVT_MILLISECOND);
	kvt_time begun = kvt_loop_now(b->loop);
	for (unsigned i = 0; i < SERIES && status == 0; i++) {
		status = ops->record(b->streams[0], b->marks[0]);
		if (status == 0)
			status = wait_call(b, b->streams[0], i);
		if (status == 0)
			status = ops->record(b->streams[0], b->marks[1]);
	}
	*seconds = MAX(kvt_time_to_seconds(kvt_loop_now(b->loop) - begun) / SERIES, 1e-9);
	return status != 0 ? status : kvt_gpu_bench_wait(b);
}

/* A token's keys and values to where they stay. */
static int append_call(void *arg, kvt_gpu_stream *stream, unsigned i)
{
	const kvt_gpu_bench *b = arg;
	kvt_gpu_copy copies[2 * KV_HEADS];
	for (unsigned j = 0; j < G_N_ELEMENTS(copies); j++) {
		uint8_t *page = b->device + ((i * G_N_ELEMENTS(copies) + j) << 13);
		copies[j] = (kvt_gpu_copy){ page + 4096, page, DIM * sizeof(uint16_t) };
	}
	return stream->gpu->ops->copy(stream, copies, G_N_ELEMENTS(copies), KVT_GPU_COPY_AUTOMATIC);
}

/* Waits of both streams in turn, each behind the other's last one. */
static int there_and_back(void *arg, kvt_gpu_stream *stream, unsigned i)
{
	kvt_gpu_bench *b = arg;
	const kvt_gpu_ops *ops = b->gpu->ops;
	kvt_gpu_event *there = b->marks[2 * i % 32], *back = b->marks[2 * i % 32 + 1];
	int status = ops->wait_time(stream, WAIT);
	if (status == 0)
		status = ops->record(stream, there);
	if (status == 0)
		status = ops->wait_event(b->streams[1], there);
	if (status == 0)
		status = ops->wait_time(b->streams[1], WAIT);
	if (status == 0)
		status = ops->record(b->streams[1], back);
	return status == 0 ? ops->wait_event(stream, back) : status;
}

typedef struct merges {
	kvt_cuda_partial into, from;
	uint64_t rows;
} merges;

static int merge_call(void *arg, kvt_gpu_stream *stream, unsigned i)
{
	const merges *m = arg;
	(void)i;
	return stream->gpu->ops->merge(stream, &m->into, &m->from, m->rows, DIM);
}

static kvt_cuda_partial partial_at(uint8_t **at)
{
	kvt_cuda_partial p = { (float *)(void *)*at, NULL };
	p.lse = p.output + ROWS[SIZES - 1] * DIM;
	*at += (ROWS[SIZES - 1] * (DIM + 1) * sizeof(float) + 4095) / 4096 * 4096;
	return p;
}

/* Numbers, and not what memory held before. */
static int fill_partials(kvt_gpu_bench *b, uint64_t bytes)
{
	const kvt_gpu_copy copy = { b->device, b->host, bytes };
	float *numbers = (float *)(void *)b->host;
	for (uint64_t i = 0; i < bytes / sizeof(float); i++)
		numbers[i] = (float)(i % 7) - 3;
	int status = b->gpu->ops->copy(b->streams[0], &copy, 1, KVT_GPU_COPY_AUTOMATIC);
	return status != 0 ? status : kvt_gpu_bench_wait(b);
}

static int measure_merges(kvt_gpu_bench *b, kvt_gpu_calibration *gpu)
{
	double seconds[SIZES][KVT_GPU_ROUNDS], rates[KVT_GPU_ROUNDS];
	uint8_t *at = b->device;
	merges m = { .into = partial_at(&at), .from = partial_at(&at) };
	int status = fill_partials(b, (uint64_t)(at - b->device));
	for (unsigned round = 0; round < b->rounds; round++) {
		for (unsigned i = 0; i < SIZES && status == 0; i++) {
			m.rows = ROWS[i];
			status = kvt_gpu_bench_time(b, merge_call, &m, SERIES, &seconds[i][round]);
		}
		if (status != 0)
			return status;
		rates[round] = (double)(ROWS[1] - ROWS[0]) * KVT_MERGE_BYTES(DIM) /
			       MAX(seconds[1][round] - seconds[0][round], 1e-9);
	}
	gpu->figures[KVT_GPU_START] = kvt_measured_of(seconds[0], b->rounds);
	gpu->figures[KVT_GPU_MERGE] = kvt_measured_of(rates, b->rounds);
	return 0;
}

static int measure_gaps(kvt_gpu_bench *b, kvt_gpu_calibration *gpu)
{
	const double wait = kvt_time_to_seconds(WAIT);
	double appends[KVT_GPU_ROUNDS], gaps[KVT_GPU_ROUNDS], steps[KVT_GPU_ROUNDS],
		submits[KVT_GPU_ROUNDS];
	for (unsigned round = 0; round < b->rounds; round++) {
		double series = 0, both = 0;
		int status = kvt_gpu_bench_series(b, wait_call, b, SERIES, &series);
		if (status == 0)
			status = kvt_gpu_bench_series(b, there_and_back, b, SERIES, &both);
		if (status == 0)
			status = kvt_gpu_bench_series(b, append_call, b, SERIES, &appends[round]);
		if (status == 0)
			status = measure_submit(b, &submits[round]);
		if (status != 0)
			return status;
		gaps[round] = MAX(series - wait, 1e-9);
		steps[round] = MAX(both / 2 - wait - gaps[round], 1e-9);
	}
	gpu->figures[KVT_GPU_GAP] = kvt_measured_of(gaps, b->rounds);
	gpu->figures[KVT_GPU_STREAM] = kvt_measured_of(steps, b->rounds);
	gpu->figures[KVT_GPU_APPEND] = kvt_measured_of(appends, b->rounds);
	gpu->figures[KVT_GPU_SUBMIT] = kvt_measured_of(submits, b->rounds);
	return 0;
}

gboolean kvt_calibrate_gpu_calls(kvt_gpu_bench *b, kvt_gpu_calibration *gpu, GError **error)
{
	kvt_gpu_bench_progress(b, "calls", 0, 1);
	int status = 2 * (ROWS[1] * (DIM + 1) * sizeof(float) + 4096) <= b->bytes ? 0 : -ENOMEM;
	if (status == 0)
		status = measure_trips(b, false, &gpu->figures[KVT_GPU_LAUNCH]);
	if (status == 0)
		status = measure_trips(b, true, &gpu->figures[KVT_GPU_COPY_LATENCY]);
	if (status == 0)
		status = measure_gaps(b, gpu);
	if (status == 0)
		status = measure_merges(b, gpu);
	return kvt_gpu_bench_check(status, "calls and merges", error);
}
