/*
 * cuda_merge.cu: results over different tokens become one on a GPU: parts of one call, and those of
 * two calls.
 */
#include <float.h>

#include "kernels/cuda_internal.h"

namespace
{

enum { JOIN_THREADS = KVT_CUDA_PARTS_MAX, MERGE_WARPS = 8 };

/* Over all threads of a block of JOIN_THREADS. */
template <class F> __device__ float block_reduce(float x, F join)
{
	__shared__ float lanes[JOIN_THREADS / 32];
	for (int d = 16; d; d /= 2)
		x = join(x, __shfl_xor_sync(~0u, x, d));
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		lanes[threadIdx.x / 32] = x;
	__syncthreads();
	x = lanes[0];
	for (int i = 1; i < JOIN_THREADS / 32; i++)
		x = join(x, lanes[i]);
	return x;
}

/* One block a row: a thread a part for the weights, then groups of threads that each take some
 * parts' outputs. */
template <int HEAD_DIM>
__global__ __launch_bounds__(JOIN_THREADS) void join_parts(
	const kvt_cuda_parts parts, float *outputs, float *lse)
{
	constexpr int QUADS = HEAD_DIM / 4, GROUPS = JOIN_THREADS / QUADS;
	__shared__ float weights[JOIN_THREADS];
	__shared__ float4 sums[GROUPS][QUADS];
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;");
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
	const unsigned row = blockIdx.x, kv_head = blockIdx.y;
	const size_t first = (size_t)kv_head * parts.n_parts * parts.n_slots + row;
	float2 stat = make_float2(-FLT_MAX, 0);
	if (threadIdx.x < parts.n_parts)
		stat = parts.stat[first + (size_t)threadIdx.x * parts.n_slots];
	const float max = block_reduce(stat.x, [](float a, float b) { return fmaxf(a, b); });
	const float weight = exp2f(stat.x - max);
	weights[threadIdx.x] = weight;
	const float sum = block_reduce(weight * stat.y, [](float a, float b) { return a + b; });
	const unsigned group = threadIdx.x / QUADS, quad = threadIdx.x % QUADS;
	float4 output = make_float4(0, 0, 0, 0);
#pragma unroll 4
	for (unsigned i = group; i < parts.n_parts; i += GROUPS) {
		const float4 x = *reinterpret_cast<const float4 *>(
			parts.output + (first + (size_t)i * parts.n_slots) * HEAD_DIM + quad * 4);
		const float w = weights[i];
		output.x += w * x.x, output.y += w * x.y, output.z += w * x.z, output.w += w * x.w;
	}
	sums[group][quad] = output;
	__syncthreads();
	if (group != 0)
		return;
	for (int i = 1; i < GROUPS; i++) {
		const float4 x = sums[i][quad];
		output.x += x.x, output.y += x.y, output.z += x.z, output.w += x.w;
	}
	/* a sum that is NaN makes all NaN */
	const float f = sum == 0 ? 0 : parts.value_scale / sum;
	const size_t at = (size_t)kv_head * parts.n_rows + row;
	output.x *= f, output.y *= f, output.z *= f, output.w *= f;
	*reinterpret_cast<float4 *>(outputs + at * HEAD_DIM + quad * 4) = output;
	if (quad == 0)
		lse[at] = sum == 0 ? -INFINITY : (max + log2f(sum)) * 0.69314718055994531f;
}

/* One warp a row. */
__global__ __launch_bounds__(MERGE_WARPS * 32) void merge_rows(
	const kvt_cuda_partial into, const kvt_cuda_partial from, size_t n_rows, uint32_t head_dim)
{
	const size_t row = (size_t)blockIdx.x * MERGE_WARPS + threadIdx.x / 32;
	if (row >= n_rows)
		return;
	const float a = into.lse[row], b = from.lse[row];
	if (b == -INFINITY)
		return;
	const float max = fmaxf(a, b);
	const float weight_a = a == -INFINITY ? 0 : expf(a - max), weight_b = expf(b - max);
	const float sum = weight_a + weight_b;
	for (uint32_t i = threadIdx.x % 32; i < head_dim; i += 32) {
		const size_t at = row * head_dim + i;
		/* of an empty part, whatever its output holds */
		const float own = a == -INFINITY ? 0 : weight_a * into.output[at];
		into.output[at] = (own + weight_b * from.output[at]) / sum;
	}
	/* all lanes have read it */
	__syncwarp();
	if (threadIdx.x % 32 == 0)
		into.lse[row] = max + logf(sum);
}

template <int HEAD_DIM>
int launch_join(const kvt_cuda_parts *parts, const kvt_cuda_partial *partial, cudaStream_t stream)
{
	cudaLaunchAttribute early = {};
	early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
	early.val.programmaticStreamSerializationAllowed = 1;
	cudaLaunchConfig_t config = {};
	config.gridDim = dim3(parts->n_rows, parts->kv_heads);
	config.blockDim = dim3(JOIN_THREADS);
	config.stream = stream;
	config.attrs = &early;
	config.numAttrs = kvt_cuda_launches_early() ? 1 : 0;
	return kvt_cuda_status(cudaLaunchKernelEx(
		&config, join_parts<HEAD_DIM>, *parts, partial->output, partial->lse));
}

} // namespace

int kvt_cuda_join(const kvt_cuda_parts *parts, const kvt_cuda_partial *partial, void *stream)
{
	cudaStream_t on = static_cast<cudaStream_t>(stream);
	return parts->head_dim == 64 ? launch_join<64>(parts, partial, on)
				     : launch_join<128>(parts, partial, on);
}

extern "C" int kvt_cuda_merge(const kvt_cuda_partial *into, const kvt_cuda_partial *from,
	size_t n_rows, uint32_t head_dim, void *stream)
{
	const size_t blocks = (n_rows + MERGE_WARPS - 1) / MERGE_WARPS;
	if (blocks > INT32_MAX)
		return -EINVAL;
	if (blocks == 0)
		return 0;
	merge_rows<<<(unsigned)blocks, MERGE_WARPS * 32, 0, static_cast<cudaStream_t>(stream)>>>(
		*into, *from, n_rows, head_dim);
	return kvt_cuda_status(cudaGetLastError());
}
