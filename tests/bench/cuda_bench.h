/* cuda_bench.h: what benchmarks of kernels on a GPU share: calls that must succeed, memory, and the
 * median time of a kernel by the device's clock. */
#ifndef KVT_CUDA_BENCH_H
#define KVT_CUDA_BENCH_H

#if KVT_CUDA

#include <cuda_runtime_api.h>
#include <stddef.h>

/* Ends the program with one line when the call failed. */
void bench_must(cudaError_t error, const char *what);

/* Device memory of which every byte is 0x3c: numbers of about 0.01 as BF16. Never freed. */
void *bench_device_memory(size_t bytes);

/* Milliseconds from when the default stream begins the work that `queue` gives it to its end: the
 * median of so many turns after one that is not counted. Ends the program when `queue` does not
 * return 0. */
double bench_kernel_ms(int (*queue)(void *arg), void *arg, unsigned turns, const char *what);

#endif
#endif
