/* cuda_wait.cu: a stream that does nothing for a while, by the device's own clock. It computes
 * nothing, and takes one thread of one processor. */
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda_kernels.h"

static __device__ unsigned long long now_ns(void)
{
	unsigned long long ns;
	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
	return ns;
}

static __global__ void wait_until_later(unsigned long long ns)
{
	const unsigned long long began = now_ns();
	for (;;) {
		const unsigned long long gone = now_ns() - began;
		if (gone >= ns)
			return;
		/* a sleep may take twice as long as it was asked for */
		if (ns - gone > 4000)
			__nanosleep(1000);
	}
}

int kvt_cuda_wait(uint64_t nanoseconds, void *stream)
{
	wait_until_later<<<1, 1, 0, (cudaStream_t)stream>>>(nanoseconds);
	return cudaGetLastError() == cudaSuccess ? 0 : -EIO;
}
