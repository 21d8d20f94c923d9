/* cuda_fixture.c: by CUDA's runtime, where kvtier is built with it. */
#include "tests/unit/cuda_fixture.h"

#include <glib.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

/* splitmix64 (Steele, Lea, Flood 2014) as a function of a counter. */
static double uniform(uint64_t counter)
{
	uint64_t x = (counter + 1) * UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return (double)((x ^ x >> 31) >> 11) * 0x1p-53;
}

float cuda_fixture_normal(uint64_t counter)
{
	double radius = sqrt(-2 * log(uniform(2 * counter) + 0x1p-60));
	return (float)(radius * cos(2 * G_PI * uniform(2 * counter + 1)));
}

void cuda_fixture_init(int *argc, char ***argv)
{
	g_test_init(argc, argv, NULL);
	g_test_set_nonfatal_assertions();
}

void cuda_fixture_failed(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	g_autofree char *what = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	g_test_message("FAILED %s", what);
	g_test_fail();
}

#if KVT_CUDA
#include <cuda_runtime_api.h>

static void must(cudaError_t error, const char *what)
{
	if (error != cudaSuccess)
		g_error("%s: %s", what, cudaGetErrorString(error));
}

bool cuda_fixture_ready(void)
{
	int n = 0;
	cudaError_t error = cudaGetDeviceCount(&n);
	if (error == cudaSuccess && n > 0)
		return true;
	g_autofree char *why = g_strdup_printf("no CUDA device: %s", cudaGetErrorString(error));
	g_test_skip(why);
	return false;
}

void *cuda_fixture_put(const void *host, size_t bytes)
{
	void *device;
	must(cudaMalloc(&device, bytes > 0 ? bytes : 1), "device memory");
	if (host)
		must(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), "a copy");
	else
		must(cudaMemset(device, 0xff, bytes), "filling");
	return device;
}

void *cuda_fixture_pinned(size_t bytes)
{
	void *pinned;
	must(cudaHostAlloc(&pinned, bytes, cudaHostAllocPortable), "pinned memory");
	return pinned;
}

bool cuda_fixture_get(void *host, const void *device, size_t bytes, const char *what)
{
	cudaError_t error = cudaDeviceSynchronize();
	if (error == cudaSuccess)
		error = cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost);
	if (error == cudaSuccess)
		return true;
	cuda_fixture_failed("%s: %s", what, cudaGetErrorString(error));
	return false;
}

void cuda_fixture_free(void *device)
{
	cudaFree(device);
}

void cuda_fixture_unpin(void *pinned)
{
	cudaFreeHost(pinned);
}
#else
bool cuda_fixture_ready(void)
{
	g_test_skip("built without CUDA");
	return false;
}

/* Nobody comes here. */
void *cuda_fixture_put(const void *host, size_t bytes)
{
	g_assert_not_reached();
}

void *cuda_fixture_pinned(size_t bytes)
{
	g_assert_not_reached();
}

bool cuda_fixture_get(void *host, const void *device, size_t bytes, const char *what)
{
	g_assert_not_reached();
}

void cuda_fixture_free(void *device)
{
}

void cuda_fixture_unpin(void *pinned)
{
}
#endif
