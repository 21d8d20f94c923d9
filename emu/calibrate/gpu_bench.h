/*
 * gpu_bench.h: calls on a GPU's streams, timed. For the files of calibration alone.
 */
#ifndef KVT_GPU_BENCH_H
#define KVT_GPU_BENCH_H

#include "emu/calibrate/gpu_calibration.h"
#include "emu/tier/memory_arena.h"
#include "sim/core/loop.h"

enum { KVT_GPU_MARKS = 64, KVT_GPU_ROUNDS = 3 };

typedef struct kvt_gpu_bench {
	const kvt_calibrate_settings *settings;
	const kvt_gpu_calibrate_settings *given;
	kvt_real_gpu *gpu;
	kvt_loop *loop;
	kvt_gpu_stream *streams[2];
	kvt_gpu_event *first, *last;
	kvt_gpu_event *marks[KVT_GPU_MARKS]; /* around each call, as a device records them */
	/* Memory of both sides, as much of each, and pinned memory of little bytes for lists. */
	uint64_t bytes;
	uint8_t *device;
	kvt_arena *arena;
	uint8_t *host;
	unsigned rounds;
} kvt_gpu_bench;

gboolean kvt_gpu_bench_open(
	kvt_gpu_bench *bench, const kvt_calibrate_settings *settings, GError **error);
void kvt_gpu_bench_close(kvt_gpu_bench *bench);

/* Submits the i-th call of a series on a stream. */
typedef int (*kvt_gpu_call)(void *arg, kvt_gpu_stream *stream, unsigned i);

/*
 * Seconds of a call in a series of `n`, each between two events as a device has them; all are
 * submitted before the first begins. 0 or a negative errno.
 */
int kvt_gpu_bench_series(
	kvt_gpu_bench *bench, kvt_gpu_call call, void *arg, unsigned n, double *seconds);

/* The same of as many calls as take a few milliseconds, at least one and `most` at most. */
int kvt_gpu_bench_time(
	kvt_gpu_bench *bench, kvt_gpu_call call, void *arg, unsigned most, double *seconds);

/* Waits until the streams are through. */
int kvt_gpu_bench_wait(kvt_gpu_bench *bench);

/* False, with `what` and why in the error, where status is one. */
gboolean kvt_gpu_bench_check(int status, const char *what, GError **error);

/* Says how far it is. */
void kvt_gpu_bench_progress(
	const kvt_gpu_bench *bench, const char *what, unsigned done, unsigned total);

/* Parts of the whole; in this order. */
gboolean kvt_calibrate_gpu_copies(kvt_gpu_bench *b, kvt_gpu_calibration *gpu, GError **error);
gboolean kvt_calibrate_gpu_calls(kvt_gpu_bench *b, kvt_gpu_calibration *gpu, GError **error);
gboolean kvt_calibrate_gpu_attention(kvt_gpu_bench *b, kvt_gpu_calibration *gpu, GError **error);
gboolean kvt_calibrate_gpu_products(kvt_gpu_bench *b, kvt_gpu_calibration *gpu, GError **error);

/* Adds a sentence to what was not measured. */
void kvt_gpu_calibration_missing(kvt_gpu_calibration *gpu, const char *format, ...)
	G_GNUC_PRINTF(2, 3);

#endif
