/*
 * memory_gpu.h: a GPU of gpu.h in this machine's memory, for tests: threads are its streams, and
 * kernels.h's attention its kernels. It is no model of a GPU's time. It is strict: device memory is
 * at addresses that the host cannot touch, holds NaN where nothing was written, and a call that
 * breaks the contract ends the test, saying how. Its streams may run late, so that who does not
 * wait for them finds out, and the thread sanitizer sees accesses that nothing puts in order.
 */
#ifndef MEMORY_GPU_H
#define MEMORY_GPU_H

#include "emu/gpu/gpu.h"

typedef struct memory_gpu_settings {
	uint64_t cap;        /* bytes of device memory; 0: 1 GiB */
	unsigned refuse;     /* the n-th alloc from now on, and all after it, fail; 0: none */
	uint64_t fail_after; /* works of streams after which the GPU fails; 0: never */
	bool late;           /* streams dawdle before each work */
	bool no_checksums;   /* it does not sum pages */
} memory_gpu_settings;

/* What streams have done so far. */
typedef struct memory_gpu_counts {
	uint64_t works, copies, runs, kernel_runs, attends, merges, waits;
	uint64_t bytes; /* copied */
	uint64_t pages; /* summed */
	uint64_t allocs, pinned;
} memory_gpu_counts;

/* `settings` may be NULL. */
kvt_real_gpu *memory_gpu_new(const memory_gpu_settings *settings);

/* All work from now on fails, as after a fault of the card. */
void memory_gpu_fail(kvt_real_gpu *gpu);

void memory_gpu_count(kvt_real_gpu *gpu, memory_gpu_counts *counts);

/* Whether all of the bytes are device memory. */
bool memory_gpu_owns(kvt_real_gpu *gpu, const void *memory, uint64_t bytes);

/* Copies from and to device memory behind the streams' back; they have to be through with it. */
void memory_gpu_peek(kvt_real_gpu *gpu, const void *memory, uint64_t bytes, void *out);
void memory_gpu_poke(kvt_real_gpu *gpu, void *memory, uint64_t bytes, const void *from);

#endif
