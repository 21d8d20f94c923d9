/* cuda_bench.c: as its header says; nothing without CUDA. */
#include "tests/bench/cuda_bench.h"

#if KVT_CUDA

#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/median.h"

enum { TURNS_MAX = 64 };

void bench_must(cudaError_t error, const char *what)
{
	if (error != cudaSuccess) {
		fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
		exit(1);
	}
}

void *bench_device_memory(size_t bytes)
{
	void *memory;
	bench_must(cudaMalloc(&memory, bytes), "device memory");
	bench_must(cudaMemset(memory, 0x3c, bytes), "setting");
	return memory;
}

static double one_ms(int (*queue)(void *arg), void *arg, const char *what)
{
	cudaEvent_t from, to;
	float ms;
	bench_must(cudaEventCreate(&from), "an event");
	bench_must(cudaEventCreate(&to), "an event");
	bench_must(cudaEventRecord(from, NULL), "recording");
	const int status = queue(arg);
	if (status != 0) {
		fprintf(stderr, "%s: status %d\n", what, status);
		exit(1);
	}
	bench_must(cudaEventRecord(to, NULL), "recording");
	bench_must(cudaEventSynchronize(to), what);
	bench_must(cudaEventElapsedTime(&ms, from, to), "time");
	cudaEventDestroy(from);
	cudaEventDestroy(to);
	return (double)ms;
}

double bench_kernel_ms(int (*queue)(void *arg), void *arg, unsigned turns, const char *what)
{
	double ms[TURNS_MAX];
	if (turns > TURNS_MAX)
		turns = TURNS_MAX;
	one_ms(queue, arg, what);
	for (unsigned i = 0; i < turns; i++)
		ms[i] = one_ms(queue, arg, what);
	return bench_median(ms, turns);
}

#endif
