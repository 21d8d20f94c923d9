/*
 * cuda_merge.cu: results over different tokens become one on a GPU: parts of one call, and those of
 * two calls.
 */
#include <float.h>

#include "kernels/cuda_internal.h"

namespace
{

enum { JOIN_THREADS = KVT_CUDA_PARTS_MAX, MERGE_WARPS = 8 };

/* Sums of weights relative to 2^max. */
__device__ __forceinline__ float2 join_stats(float2 a, float2 b)
{
	const float max = fmaxf(a.x, b.x);
	return make_float2(max, exp2f(a.x - max) * a.y + exp2f(b.x - max) * b.y);
}

/* Of all threads of a block of JOIN_THREADS. */
__device__ __forceinline__ float2 join_block(float2 stat)
{
	__shared__ float2 warps[JOIN_THREADS / 32];
	for (int d = 16; d; d /= 2)
		stat = join_stats(stat, make_float2(__shfl_xor_sync(~0u, stat.x, d),
						__shfl_xor_sync(~0u, stat.y, d)));
	if (threadIdx.x % 32 == 0)
		warps[threadIdx.x / 32] = stat;
	__syncthreads();
	stat = warps[threadIdx.x % 32 % (JOIN_THREADS / 32)];
	for (int d = JOIN_THREADS / 64; d; d /= 2)
		stat = join_stats(stat, make_float2(__shfl_xor_sync(~0u, stat.x, d),
						__shfl_xor_sync(~0u, stat.y, d)));
	return stat;
}

__device__ __forceinline__ void add_times(float4 &sum, float weight, const float4 &x)
{
	sum.x += weight * x.x, sum.y += weight * x.y;
	sum.z += weight * x.z, sum.w += weight * x.w;
}

/* One block a row. A thread reads a part's maximum and sum, and of the outputs, 4 dimensions of the
 * parts that are its group's: the first few at once. */
template <int HEAD_DIM>
__global__ __launch_bounds__(JOIN_THREADS) void join_parts(
	const kvt_cuda_parts parts, float *outputs, float *lse)
{
	constexpr int QUADS = HEAD_DIM / 4, GROUPS = JOIN_THREADS / QUADS, FIRST = 4;
	__shared__ float maxima[JOIN_THREADS];
	__shared__ float4 sums[GROUPS][QUADS];
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;");
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
	const unsigned row = blockIdx.x, kv_head = blockIdx.y;
	const unsigned group = threadIdx.x / QUADS, quad = threadIdx.x % QUADS;
	const size_t first = (size_t)kv_head * parts.n_parts * parts.n_slots + row;
	float2 stat = make_float2(-FLT_MAX, 0);
	if (threadIdx.x < parts.n_parts)
		stat = parts.stat[first + (size_t)threadIdx.x * parts.n_slots];
	const float *from = parts.output + first * HEAD_DIM + quad * 4;
	const size_t stride = (size_t)parts.n_slots * HEAD_DIM;
	float4 x[FIRST];
#pragma unroll
	for (unsigned i = 0; i < FIRST; i++) {
		x[i] = make_float4(0, 0, 0, 0);
		if (group + i * GROUPS < parts.n_parts)
			x[i] = *reinterpret_cast<const float4 *>(
				from + (group + i * GROUPS) * stride);
	}
	maxima[threadIdx.x] = stat.x;
	stat = join_block(stat);
	float4 output = make_float4(0, 0, 0, 0);
#pragma unroll
	for (unsigned i = 0; i < FIRST; i++)
		add_times(output, exp2f(maxima[group + i * GROUPS] - stat.x), x[i]);
#pragma unroll 4
	for (unsigned i = group + FIRST * GROUPS; i < parts.n_parts; i += GROUPS)
		add_times(output, exp2f(maxima[i] - stat.x),
			*reinterpret_cast<const float4 *>(from + i * stride));
	sums[group][quad] = output;
	__syncthreads();
	if (group != 0)
		return;
#pragma unroll
	for (int i = 1; i < GROUPS; i++)
		add_times(output, 1, sums[i][quad]);
	/* a sum that is NaN makes all NaN */
	const float f = stat.y == 0 ? 0 : parts.value_scale / stat.y;
	const size_t at = (size_t)kv_head * parts.n_rows + row;
	output.x *= f, output.y *= f, output.z *= f, output.w *= f;
	*reinterpret_cast<float4 *>(outputs + at * HEAD_DIM + quad * 4) = output;
	if (quad == 0)
		lse[at] = stat.y == 0 ? -INFINITY : (stat.x + log2f(stat.y)) * 0.69314718055994531f;
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
