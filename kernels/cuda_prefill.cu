/*
 * cuda_prefill.cu: attention of many rows: how blocks share rows and tokens, the launch, and the
 * merge of parts. It is limited by the tensor cores, not by memory. Blocks take whole tiles of rows
 * as long as they fill the device; those that are left are cut along their tokens.
 */
#include <cuda_runtime.h>
#include <errno.h>
#include <math.h>

#include "kernels/cuda_prefill.h"
#include "kernels/cuda_prefill_rows.cuh"

namespace
{

enum {
	MERGE_THREADS = 256,
	LEAST_SHARE = 4, // 64 tokens each: shorter shares are not worth a merge
	MOST_ROUNDS = 4, // of blocks that share tokens
};
constexpr uint64_t MOST_TOKENS = UINT64_C(1) << 36; // so that 32 bits count tiles

// Joins the parts of a row, by one group of threads that have 4 dimensions each, or by all groups
// of a block.
template <int HEAD_DIM>
__global__ __launch_bounds__(MERGE_THREADS) void merge_splits(const prefill_call call, int together)
{
	constexpr int QUADS = HEAD_DIM / 4, GROUPS = MERGE_THREADS / QUADS;
	__shared__ float4 outputs[GROUPS][QUADS];
	__shared__ float maxima[GROUPS], weights[GROUPS];
	const int group = (int)threadIdx.x / QUADS, quad = (int)threadIdx.x % QUADS;
	const uint64_t row = (uint64_t)blockIdx.x * (GROUPS / together) + group / together;
	const uint64_t n_rows = (uint64_t)call.rest * ROWS;
	float4 output = make_float4(0, 0, 0, 0);
	float max = -1e30f, weight = 0;
	for (uint32_t i = group % together; row < n_rows && i < call.splits; i += together) {
		const uint64_t part = (uint64_t)i * n_rows + row;
		const float2 stat = call.part_stat[part];
		const float4 x = *reinterpret_cast<const float4 *>(
			call.part_output + part * HEAD_DIM + quad * 4);
		const float top = fmaxf(max, stat.x);
		const float keep = exp2f(max - top), f = exp2f(stat.x - top);
		output.x = output.x * keep + x.x * f, output.y = output.y * keep + x.y * f;
		output.z = output.z * keep + x.z * f, output.w = output.w * keep + x.w * f;
		weight = weight * keep + stat.y * f;
		max = top;
	}
	outputs[group][quad] = output;
	if (quad == 0)
		maxima[group] = max, weights[group] = weight;
	__syncthreads();
	const uint32_t index = call.whole + (uint32_t)(row / ROWS);
	const uint32_t of_head =
		(call.row_tiles - 1 - index % call.row_tiles) * ROWS + (uint32_t)(row % ROWS);
	if (row >= n_rows || group % together != 0 || of_head >= call.n_rows)
		return;
	for (int i = 1; i < together; i++) {
		const float4 x = outputs[group + i][quad];
		const float top = fmaxf(max, maxima[group + i]);
		const float keep = exp2f(max - top), f = exp2f(maxima[group + i] - top);
		output.x = output.x * keep + x.x * f, output.y = output.y * keep + x.y * f;
		output.z = output.z * keep + x.z * f, output.w = output.w * keep + x.w * f;
		weight = weight * keep + weights[group + i] * f;
		max = top;
	}
	const float f = weight == 0 ? 0 : call.value_scale / weight;
	const size_t to = (size_t)(index / call.row_tiles) * call.n_rows + of_head;
	*reinterpret_cast<float4 *>(call.output + to * HEAD_DIM + quad * 4) =
		make_float4(output.x * f, output.y * f, output.z * f, output.w * f);
	if (quad == 0)
		call.lse[to] =
			weight == 0 ? -INFINITY : (max + log2f(weight)) * 0.69314718055994531f;
}

int status_of(cudaError_t error)
{
	if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorNoDevice)
		return -ENODEV;
	return error == cudaSuccess ? 0 : -EIO;
}

// A kernel, its shared memory, and how many of its blocks the device runs at once.
struct variant {
	void (*kernel)(const prefill_call call);
	int shared;
	uint32_t slots;
};

template <class L, bool HALVES> int find(variant *v)
{
	v->kernel = prefill_rows<L, HALVES>;
	v->shared = (HALVES ? 2 : 1) * ROWS * L::head_dim * 2 + 2 * TOKENS * L::row_bytes;
	int device, processors, blocks;
	cudaError_t error = cudaGetDevice(&device);
	if (error == cudaSuccess)
		error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
	if (error == cudaSuccess)
		error = cudaFuncSetAttribute(
			v->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, v->shared);
	if (error == cudaSuccess)
		error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
			&blocks, v->kernel, THREADS, (size_t)v->shared);
	if (error != cudaSuccess)
		return status_of(error);
	v->slots = (uint32_t)(processors * blocks);
	return blocks > 0 ? 0 : -ENODEV;
}

template <int HEAD_DIM, bool HALVES> int find_element(kvt_element element, variant *v)
{
	switch (element) {
	case KVT_ELEMENT_BF16:
		return find<wide_tiles<bf16_pairs, HEAD_DIM>, HALVES>(v);
	case KVT_ELEMENT_F16:
		return find<wide_tiles<f16_pairs, HEAD_DIM>, HALVES>(v);
	default:
		return find<byte_tiles<HEAD_DIM>, HALVES>(v);
	}
}

int variant_of(const kvt_cuda_shape *shape, variant *v)
{
	const bool halves = shape->precision == KVT_CUDA_TWO_HALVES;
	if (shape->head_dim == 64)
		return halves ? find_element<64, true>(shape->element, v)
			      : find_element<64, false>(shape->element, v);
	return halves ? find_element<128, true>(shape->element, v)
		      : find_element<128, false>(shape->element, v);
}

// Into how many a tile's tokens are cut, so that `rest` tiles keep the device busy for the shortest
// time: the fewest that are within 3% of the best. `most`: what its tokens allow.
uint32_t splits_of(uint64_t rest, uint32_t slots, uint64_t most)
{
	const uint64_t limit = (uint64_t)MOST_ROUNDS * slots / rest;
	most = most < limit ? most : limit;
	double best = 1, cost[2];
	uint32_t splits = 1;
	for (uint32_t i = 2; i <= most; i++) {
		cost[0] = (double)((rest * i + slots - 1) / slots) / i;
		best = cost[0] < best ? cost[0] : best;
	}
	for (cost[1] = 1; splits < most && cost[1] > best * 1.03;) {
		splits++;
		cost[1] = (double)((rest * splits + slots - 1) / slots) / splits;
	}
	return splits;
}

// Fills how the blocks share rows and tokens; n_tiles: tiles of tokens that the last rows see.
void divide(const kvt_cuda_shape *shape, uint32_t slots, uint64_t n_tiles, prefill_call *call)
{
	const uint64_t tiles = (uint64_t)call->row_tiles * shape->kv_heads;
	call->rest = (uint32_t)(tiles % slots);
	call->splits = 1;
	if (call->rest > 0)
		call->splits = splits_of(call->rest, slots, n_tiles / LEAST_SHARE);
	if (call->splits == 1)
		call->rest = 0;
	call->whole = (uint32_t)(tiles - call->rest);
}

bool count_rows(const kvt_cuda_shape *shape, uint32_t n_queries, prefill_call *call)
{
	const uint64_t n_rows = (uint64_t)n_queries * shape->heads;
	const uint64_t tiles = (n_rows + ROWS - 1) / ROWS * shape->kv_heads;
	if (tiles * (MOST_ROUNDS + 1) > INT32_MAX)
		return false;
	call->n_rows = (uint32_t)n_rows;
	call->row_tiles = (uint32_t)((n_rows + ROWS - 1) / ROWS);
	return true;
}

int launch_merge(const kvt_cuda_shape *shape, const prefill_call &call, cudaStream_t stream)
{
	const int groups = MERGE_THREADS / ((int)shape->head_dim / 4);
	int together = call.splits > 16 ? groups : 1;
	const uint32_t rows_each = (uint32_t)(groups / together);
	const uint32_t blocks = (call.rest * ROWS + rows_each - 1) / rows_each;
	prefill_call argument = call;
	void *arguments[] = { &argument, &together };
	const void *kernel = shape->head_dim == 64 ? (const void *)merge_splits<64>
						   : (const void *)merge_splits<128>;
	return status_of(
		cudaLaunchKernel(kernel, dim3(blocks), dim3(MERGE_THREADS), arguments, 0, stream));
}

} // namespace

extern "C" size_t kvt_cuda_prefill_scratch(const kvt_cuda_shape *shape, uint32_t n_queries)
{
	variant v;
	prefill_call call = {};
	if (!count_rows(shape, n_queries, &call) || variant_of(shape, &v) != 0)
		return 0;
	// more tokens are cut into more parts
	divide(shape, v.slots, UINT64_MAX, &call);
	const size_t rows = (size_t)call.rest * call.splits * ROWS;
	return 16 + rows * (shape->head_dim * sizeof(float) + sizeof(float2));
}

extern "C" int kvt_cuda_prefill(const kvt_cuda_shape *shape, const kvt_cuda_queries *queries,
	const kvt_cuda_window *window, const kvt_cuda_partial *partial, void *scratch, void *stream)
{
	variant v;
	prefill_call call = {};
	if (!count_rows(shape, queries->n, &call) || window->n_tokens > MOST_TOKENS)
		return -EINVAL;
	if (call.n_rows == 0)
		return 0;
	int status = variant_of(shape, &v);
	if (status != 0)
		return status;
	call.pages = reinterpret_cast<const uint8_t *const *>(window->pages);
	call.queries = queries->queries;
	call.stride = queries->stride;
	call.output = partial->output;
	call.lse = partial->lse;
	call.first = window->skip;
	call.n_tokens = window->n_tokens;
	call.seen = window->seen < window->n_tokens ? window->seen : window->n_tokens;
	call.head_stride = shape->head_stride;
	call.value_offset = shape->value_offset;
	call.page_shift = (uint32_t)__builtin_ctz(shape->page_tokens);
	call.heads = shape->heads;
	const float scale = shape->scale * shape->key_scale * 1.4426950408889634f;
	call.sign = scale < 0 ? -1.0f : 1.0f;
	// a scale of 0 must not meet the minus infinity of tokens that are not seen
	call.scale = fmaxf(fabsf(scale), 1e-30f);
	call.value_scale = shape->value_scale;
	const uint64_t last = call.seen + queries->n - 1;
	const uint64_t sees = last < call.n_tokens ? last : call.n_tokens;
	divide(shape, v.slots, (call.first + sees + TOKENS - 1) / TOKENS - call.first / TOKENS,
		&call);
	call.part_output = static_cast<float *>(scratch);
	call.part_stat = reinterpret_cast<float2 *>(
		call.part_output + (size_t)call.rest * call.splits * ROWS * shape->head_dim);
	cudaStream_t on = static_cast<cudaStream_t>(stream);
	void *arguments[] = { &call };
	status = status_of(
		cudaLaunchKernel((const void *)v.kernel, dim3(call.whole + call.rest * call.splits),
			dim3(THREADS), arguments, (size_t)v.shared, on));
	return status != 0 || call.rest == 0 ? status : launch_merge(shape, call, on);
}
