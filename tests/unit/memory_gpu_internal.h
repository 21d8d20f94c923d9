/* memory_gpu_internal.h: what memory_gpu.c (memory, streams, events) and memory_gpu_work.c (what a
 * work does) share. */
#ifndef MEMORY_GPU_INTERNAL_H
#define MEMORY_GPU_INTERNAL_H

#include <glib.h>
#include <pthread.h>

#include "tests/unit/memory_gpu.h"

/* Device memory: `base` is what the host sees and cannot touch, `shadow` the same bytes. */
typedef struct memory_region {
	uint8_t *base, *shadow;
	uint64_t bytes, mapped;
} memory_region;

typedef struct memory_pin {
	const uint8_t *base;
	uint64_t bytes;
} memory_pin;

typedef struct memory_gpu {
	kvt_real_gpu base;
	kvt_gpu_ops ops; /* its own copy */
	memory_gpu_settings settings;
	pthread_mutex_t lock; /* of everything below, and of streams and events */
	pthread_cond_t changed;
	GArray *regions, *pins;
	uint64_t used, peak;
	GPtrArray *streams; /* memory_stream */
	unsigned events;
	bool failed;
	memory_gpu_counts counts;
} memory_gpu;

typedef struct memory_event {
	kvt_gpu_event base;
	unsigned refs;
	uint64_t recorded, done; /* how many times */
	int64_t ns;              /* when last done */
} memory_event;

typedef enum memory_work_kind {
	MEMORY_WORK_COPY,
	MEMORY_WORK_CHECKSUM,
	MEMORY_WORK_ATTEND,
	MEMORY_WORK_MERGE,
	MEMORY_WORK_WAIT_TIME,
	MEMORY_WORK_RECORD,
	MEMORY_WORK_WAIT_EVENT,
} memory_work_kind;

typedef struct memory_work {
	memory_work_kind kind;
	/* copy */
	kvt_gpu_copy *copies;
	unsigned n;
	bool kernel;
	void *snapshot; /* of memory that is not pinned; NULL */
	/* checksum */
	kvt_cuda_page *pages;
	unsigned n_pages;
	uint64_t *sums;
	/* attend, merge */
	kvt_cuda_shape shape;
	kvt_cuda_queries queries;
	kvt_cuda_window window;
	kvt_cuda_partial into, from;
	void *scratch;
	uint64_t n_rows;
	uint32_t head_dim;
	/* wait, record */
	kvt_time duration;
	memory_event *event;
	uint64_t generation;
} memory_work;

typedef struct memory_stream {
	kvt_gpu_stream base;
	pthread_t thread;
	GQueue *queue; /* memory_work; the first one runs */
	bool stop;
	uint64_t random;
} memory_stream;

typedef enum memory_kind { MEMORY_HOST, MEMORY_PINNED, MEMORY_DEVICE } memory_kind;

/* What the bytes are; ends the test where they are partly the one and partly the other. */
memory_kind memory_gpu_kind(memory_gpu *gpu, const void *memory, uint64_t bytes);

/* Where a stream finds the bytes, which are device memory, or pinned where `pinned`; else the test
 * ends, and `what` says of what. */
void *memory_gpu_find(
	memory_gpu *gpu, const void *memory, uint64_t bytes, bool pinned, const char *what);

/* On the stream's thread: all but records and waits for events. */
void memory_gpu_do(memory_gpu *gpu, const memory_work *work);

/* 0, or -EINVAL for a shape that cuda_kernels.h does not allow. */
int memory_gpu_check_shape(const kvt_cuda_shape *shape);
uint64_t memory_gpu_scratch(kvt_real_gpu *gpu, const kvt_cuda_shape *shape, uint32_t n_queries);

#endif
