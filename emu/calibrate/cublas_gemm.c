/* cublas_gemm.c: products as a linear layer has them: weights [n][k] that come from memory, tokens
 * [m][k], BF16 out. */
#include "emu/calibrate/cublas_gemm.h"

#include <errno.h>

#ifdef __has_include
#if KVT_CUDA && __has_include(<cublasLt.h>)
#define HAVE_CUBLAS 1
#endif
#endif

#ifdef HAVE_CUBLAS

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

/* Weights and their neighbours, so that none is in a cache, and room for the library. */
static const size_t WEIGHTS = (size_t)2 << 30, TOKENS = 256 << 20, RESULT = (size_t)1792 << 20,
		    ROOM = 64 << 20;
/* Numbers that are made; memory is filled with copies of them. */
enum { MADE = 16 << 20, CALLS = 32, ALIGNED = 256, HOLD_US = 20000 };
/* How long a series should last, s. */
static const double SERIES = 2e-3;

/* What is called of the library. */
typedef struct library {
	void *handle;
	__typeof__(cublasLtCreate) *create;
	__typeof__(cublasLtDestroy) *destroy;
	__typeof__(cublasLtMatmul) *matmul;
	__typeof__(cublasLtMatmulAlgoGetHeuristic) *choose;
	__typeof__(cublasLtMatmulDescCreate) *product_new;
	__typeof__(cublasLtMatmulDescDestroy) *product_free;
	__typeof__(cublasLtMatmulDescSetAttribute) *product_set;
	__typeof__(cublasLtMatrixLayoutCreate) *layout_new;
	__typeof__(cublasLtMatrixLayoutDestroy) *layout_free;
	__typeof__(cublasLtMatmulPreferenceCreate) *preference_new;
	__typeof__(cublasLtMatmulPreferenceDestroy) *preference_free;
	__typeof__(cublasLtMatmulPreferenceSetAttribute) *preference_set;
} library;

struct kvt_cublas {
	library lib;
	cublasLtHandle_t handle;
	cublasLtMatmulPreference_t preference;
	cudaStream_t stream;
	cudaEvent_t first, last;
	uint8_t *memory; /* weights, tokens, result, room: one behind the other */
	kvt_gpu_products products;
};

static bool find(library *lib, const char *name, void *where)
{
	void *found = dlsym(lib->handle, name);
	*(void **)where = found;
	return found != NULL;
}

static bool open_library(library *lib)
{
	static const char *const names[] = { "libcublasLt.so." G_STRINGIFY(CUBLAS_VER_MAJOR),
		"libcublasLt.so", "/usr/local/cuda/lib64/libcublasLt.so" };
	for (unsigned i = 0; i < G_N_ELEMENTS(names) && !lib->handle; i++)
		lib->handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	return lib->handle && find(lib, "cublasLtCreate", &lib->create) &&
	       find(lib, "cublasLtDestroy", &lib->destroy) &&
	       find(lib, "cublasLtMatmul", &lib->matmul) &&
	       find(lib, "cublasLtMatmulAlgoGetHeuristic", &lib->choose) &&
	       find(lib, "cublasLtMatmulDescCreate", &lib->product_new) &&
	       find(lib, "cublasLtMatmulDescDestroy", &lib->product_free) &&
	       find(lib, "cublasLtMatmulDescSetAttribute", &lib->product_set) &&
	       find(lib, "cublasLtMatrixLayoutCreate", &lib->layout_new) &&
	       find(lib, "cublasLtMatrixLayoutDestroy", &lib->layout_free) &&
	       find(lib, "cublasLtMatmulPreferenceCreate", &lib->preference_new) &&
	       find(lib, "cublasLtMatmulPreferenceDestroy", &lib->preference_free) &&
	       find(lib, "cublasLtMatmulPreferenceSetAttribute", &lib->preference_set);
}

/* Bytes that are numbers near 1 in either format: zeros would be computed at less power. */
static bool fill_memory(kvt_cublas *c)
{
	g_autofree uint8_t *made = g_malloc(MADE);
	uint32_t x = 1;
	for (size_t i = 0; i < MADE; i++) {
		x = x * 1664525 + 1013904223;
		made[i] = (uint8_t)(0x30 | x >> 28 | (x >> 20 & 0x80));
	}
	for (size_t at = 0; at < WEIGHTS + TOKENS; at += MADE)
		if (cudaMemcpy(c->memory + at, made, MADE, cudaMemcpyHostToDevice) != cudaSuccess)
			return false;
	return true;
}

/* Holds the stream until all calls of a series are submitted; not for ever, as the library may wait
 * for the card itself. */
static void CUDART_CB hold(void *arg)
{
	gint64 begun = g_get_monotonic_time();
	while (!__atomic_load_n((int *)arg, __ATOMIC_ACQUIRE) &&
		g_get_monotonic_time() - begun < HOLD_US)
		;
}

/* A product ready to be called; its weights lie one behind the other, many times over. */
typedef struct product {
	cublasLtMatmulDesc_t product;
	cublasLtMatrixLayout_t weights, tokens, result;
	cublasLtMatmulAlgo_t way;
	size_t weight_bytes, copies;
} product;

static bool call(kvt_cublas *c, const product *p, unsigned i)
{
	const float one = 1, zero = 0;
	uint8_t *tokens = c->memory + WEIGHTS, *result = tokens + TOKENS, *room = result + RESULT;
	return c->lib.matmul(c->handle, p->product, &one,
		       c->memory + i % p->copies * p->weight_bytes, p->weights, tokens, p->tokens,
		       &zero, result, p->result, result, p->result, &p->way, room, ROOM,
		       c->stream) == CUBLAS_STATUS_SUCCESS;
}

static int series(kvt_cublas *c, const product *p, unsigned n, double *seconds)
{
	int all = 0;
	float ms = 0;
	bool good = (n == 1 || cudaLaunchHostFunc(c->stream, hold, &all) == cudaSuccess) &&
		    cudaEventRecord(c->first, c->stream) == cudaSuccess;
	bool taken = true;
	for (unsigned i = 0; i < n && good && taken; i++)
		taken = call(c, p, i);
	good = cudaEventRecord(c->last, c->stream) == cudaSuccess && good;
	__atomic_store_n(&all, 1, __ATOMIC_RELEASE);
	good = cudaStreamSynchronize(c->stream) == cudaSuccess && good;
	if (!good || cudaEventElapsedTime(&ms, c->first, c->last) != cudaSuccess)
		return -EIO;
	*seconds = MAX((double)ms * 1e-3 / n, 1e-9);
	return taken ? 0 : -ENOTSUP;
}

/* Column by column, as the library has matrices: result (n x m) = weights^T (k x n) tokens (k x m).
 */
static int open_product(kvt_cublas *c, product *p, bool fp8, uint64_t m, uint64_t n, uint64_t k)
{
	const library *lib = &c->lib;
	const cudaDataType_t in = fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
	const cublasOperation_t transposed = CUBLAS_OP_T;
	cublasLtMatmulHeuristicResult_t found;
	int n_found = 0;
	p->weight_bytes = (n * k * (fp8 ? 1 : 2) + ALIGNED - 1) / ALIGNED * ALIGNED;
	if (p->weight_bytes > WEIGHTS || m * k * 2 > TOKENS || m * n * 2 > RESULT)
		return -ENOTSUP;
	p->copies = WEIGHTS / p->weight_bytes;
	bool good =
		lib->product_new(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
			CUBLAS_STATUS_SUCCESS &&
		lib->product_set(p->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
			sizeof(transposed)) == CUBLAS_STATUS_SUCCESS &&
		lib->layout_new(&p->weights, in, k, n, (int64_t)k) == CUBLAS_STATUS_SUCCESS &&
		lib->layout_new(&p->tokens, in, k, m, (int64_t)k) == CUBLAS_STATUS_SUCCESS &&
		lib->layout_new(&p->result, CUDA_R_16BF, n, m, (int64_t)n) == CUBLAS_STATUS_SUCCESS;
	if (!good)
		return -EIO;
	if (lib->choose(c->handle, p->product, p->weights, p->tokens, p->result, p->result,
		    c->preference, 1, &found, &n_found) != CUBLAS_STATUS_SUCCESS ||
		n_found == 0)
		return -ENOTSUP;
	p->way = found.algo;
	return 0;
}

static void close_product(kvt_cublas *c, const product *p)
{
	if (p->result)
		c->lib.layout_free(p->result);
	if (p->tokens)
		c->lib.layout_free(p->tokens);
	if (p->weights)
		c->lib.layout_free(p->weights);
	if (p->product)
		c->lib.product_free(p->product);
}

static int time_product(void *arg, bool fp8, int64_t m, int64_t n, int64_t k, double *seconds)
{
	kvt_cublas *c = arg;
	product p = { 0 };
	int status = open_product(c, &p, fp8, (uint64_t)m, (uint64_t)n, (uint64_t)k);
	/* the first call has a kernel to load */
	if (status == 0)
		status = series(c, &p, 1, seconds);
	if (status == 0)
		status = series(c, &p, 1, seconds);
	if (status == 0 && *seconds < SERIES)
		status = series(c, &p, (unsigned)MIN(SERIES / *seconds + 1, CALLS), seconds);
	close_product(c, &p);
	return status;
}

static bool open_all(kvt_cublas *c)
{
	const library *lib = &c->lib;
	return cudaMalloc((void **)&c->memory, WEIGHTS + TOKENS + RESULT + ROOM) == cudaSuccess &&
	       cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking) == cudaSuccess &&
	       cudaEventCreate(&c->first) == cudaSuccess &&
	       cudaEventCreate(&c->last) == cudaSuccess &&
	       lib->create(&c->handle) == CUBLAS_STATUS_SUCCESS &&
	       lib->preference_new(&c->preference) == CUBLAS_STATUS_SUCCESS &&
	       lib->preference_set(c->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &ROOM,
		       sizeof(ROOM)) == CUBLAS_STATUS_SUCCESS &&
	       fill_memory(c);
}

kvt_cublas *kvt_cublas_new(char **why)
{
	kvt_cublas *c = g_new0(kvt_cublas, 1);
	if (!open_library(&c->lib)) {
		const char *reason = dlerror();
		*why = g_strdup(reason ? reason : "libcublasLt.so lacks what is called of it");
		kvt_cublas_free(c);
		return NULL;
	}
	if (!open_all(c)) {
		*why = g_strdup("cuBLAS does not start: no memory of the GPU is left, or its "
				"driver is older than the library");
		kvt_cublas_free(c);
		return NULL;
	}
	c->products = (kvt_gpu_products){ .time = time_product, .arg = c };
	return c;
}

void kvt_cublas_free(kvt_cublas *c)
{
	if (!c)
		return;
	if (c->preference)
		c->lib.preference_free(c->preference);
	if (c->handle)
		c->lib.destroy(c->handle);
	if (c->first)
		cudaEventDestroy(c->first);
	if (c->last)
		cudaEventDestroy(c->last);
	if (c->stream)
		cudaStreamDestroy(c->stream);
	if (c->memory)
		cudaFree(c->memory);
	/* the library stays open: it has threads and contexts of its own */
	g_free(c);
}

const kvt_gpu_products *kvt_cublas_products(const kvt_cublas *c)
{
	return &c->products;
}

#else

kvt_cublas *kvt_cublas_new(char **why)
{
	*why = g_strdup("kvtier was built without cuBLAS's headers");
	return NULL;
}

void kvt_cublas_free(kvt_cublas *c)
{
	(void)c;
}

const kvt_gpu_products *kvt_cublas_products(const kvt_cublas *c)
{
	(void)c;
	return NULL;
}

#endif
