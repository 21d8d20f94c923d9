/*
 * cuda_attention.cu: kvt_cuda_attention: what is allowed, which form computes it, and what the
 * forms ask of the device.
 */
#include "kernels/cuda_internal.h"
#include "kernels/cuda_decode.cuh"
#include "kernels/cuda_prefill.h"

namespace
{

/* Tokens are counted in tiles, by 32 bits. */
const uint64_t TOKENS_MAX = UINT64_C(1) << 35;

bool allowed(const kvt_cuda_shape *s)
{
	const bool element = s->element == KVT_ELEMENT_F16 || s->element == KVT_ELEMENT_BF16 ||
			     s->element == KVT_ELEMENT_E4M3;
	const bool pages = s->page_tokens >= 16 && (s->page_tokens & (s->page_tokens - 1)) == 0;
	return element && pages && (s->head_dim == 64 || s->head_dim == 128) && s->kv_heads >= 1 &&
	       s->kv_heads <= UINT16_MAX && s->heads >= 1 && s->heads <= 16 &&
	       s->head_stride % 16 == 0 && s->value_offset % 16 == 0;
}

/* Query tokens that the decode form takes at once. */
uint32_t decode_tokens(const kvt_cuda_shape *shape)
{
	return KVT_CUDA_DECODE_ROWS / shape->heads;
}

int attribute(cudaDeviceAttr which)
{
	int device, value;
	if (cudaGetDevice(&device) != cudaSuccess ||
		cudaDeviceGetAttribute(&value, which, device) != cudaSuccess)
		return 0;
	return value;
}

/* So many parts of results have room in scratch: more than any form makes. */
uint32_t parts_max(const kvt_cuda_shape *shape)
{
	const uint32_t parts = (uint32_t)kvt_cuda_processors() * 16 / shape->kv_heads;
	return parts < 1                              ? 1
	       : parts < (uint32_t)KVT_CUDA_PARTS_MAX ? parts
						      : (uint32_t)KVT_CUDA_PARTS_MAX;
}

} // namespace

int kvt_cuda_processors(void)
{
	return attribute(cudaDevAttrMultiProcessorCount);
}

int kvt_cuda_launches_early(void)
{
	return attribute(cudaDevAttrComputeCapabilityMajor) >= 9;
}

size_t kvt_cuda_decode_scratch(const kvt_cuda_shape *shape, uint32_t n_queries)
{
	const size_t rows = (n_queries * shape->heads + 7) / 8 * 8;
	return parts_max(shape) * shape->kv_heads * rows *
	       (shape->head_dim * sizeof(float) + sizeof(float2));
}

int kvt_cuda_decode(const kvt_cuda_shape *shape, const kvt_cuda_queries *queries,
	const kvt_cuda_window *window, const kvt_cuda_partial *partial, void *scratch, void *stream)
{
	const uint32_t rows = queries->n * shape->heads, slots = (rows + 7) / 8 * 8;
	const size_t outputs = (size_t)parts_max(shape) * shape->kv_heads * slots * shape->head_dim;
	kvt_cuda::decode_call call = {};
	call.pages = reinterpret_cast<const uint8_t *const *>(window->pages);
	call.queries = queries->queries;
	call.query_stride = queries->stride;
	call.part_output = static_cast<float *>(scratch);
	call.part_stat = reinterpret_cast<float2 *>(call.part_output + outputs);
	call.first = window->skip;
	call.end = window->skip + window->n_tokens;
	call.seen =
		window->skip + (window->seen < window->n_tokens ? window->seen : window->n_tokens);
	/* what is behind the last token is nobody's */
	call.settled = window->settled == 0                 ? 0
		       : window->settled < window->n_tokens ? window->skip + window->settled
							    : call.end + kvt_cuda::TILE;
	call.head_stride = shape->head_stride;
	call.value_offset = shape->value_offset;
	call.page_shift = (uint32_t)__builtin_ctz(shape->page_tokens);
	call.heads_inverse = 65535 / shape->heads + 1;
	call.rows = rows;
	call.scale = shape->scale * shape->key_scale * 1.4426950408889634f;
	cudaStream_t on = static_cast<cudaStream_t>(stream);
	const auto launch = shape->element == KVT_ELEMENT_BF16  ? kvt_cuda::decode_bf16
			    : shape->element == KVT_ELEMENT_F16 ? kvt_cuda::decode_f16
								: kvt_cuda::decode_e4m3;
	const int status = launch(&call, shape->head_dim, shape->kv_heads, on);
	if (status)
		return status;
	const int shift = shape->element == KVT_ELEMENT_BF16 ? bf16_pairs::weight_shift
							     : f16_pairs::weight_shift;
	const kvt_cuda_parts parts = { call.part_output, call.part_stat, shape->kv_heads,
		call.parts, rows, slots, shape->head_dim,
		shape->value_scale / (float)(1 << shift) };
	return kvt_cuda_join(&parts, partial, stream);
}

extern "C" size_t kvt_cuda_attention_scratch(const kvt_cuda_shape *shape, uint32_t n_queries)
{
	if (!allowed(shape) || kvt_cuda_processors() == 0)
		return 0;
	return n_queries > decode_tokens(shape) ? kvt_cuda_prefill_scratch(shape, n_queries)
						: kvt_cuda_decode_scratch(shape, n_queries);
}

extern "C" int kvt_cuda_attention(const kvt_cuda_shape *shape, const kvt_cuda_queries *queries,
	const kvt_cuda_window *window, const kvt_cuda_partial *partial, void *scratch, void *stream)
{
	if (!allowed(shape) || queries->stride % 4 != 0 || window->skip >= shape->page_tokens ||
		window->n_tokens > TOKENS_MAX || window->seen > UINT64_MAX - queries->n)
		return -EINVAL;
	if (kvt_cuda_processors() == 0)
		return -ENODEV;
	if (queries->n == 0)
		return 0;
	const auto attend = queries->n > decode_tokens(shape) ? kvt_cuda_prefill : kvt_cuda_decode;
	return attend(shape, queries, window, partial, scratch, stream);
}
