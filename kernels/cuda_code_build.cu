/*
 * cuda_code_build.cu: page codes and prepared queries, made on the device. Sums are taken in the
 * order of page_code.c, and no product is fused with one, so results are the same to the bit.
 */
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>

#include "kernels/cuda_code.cuh"

namespace
{

enum { THREADS = 128, DIM_MAX = KVT_CODE_HEAD_DIM_MAX };

struct build_call {
	uint8_t *means, *details;
	const uint8_t *const *pages;
	size_t head_offset; // of the KV head in a page
	const float *centre;
	uint32_t *odd;
	kvt_element element;
	uint32_t head_dim, page_shift, first;
	float norm; // of the rotation
};

struct query_call {
	const float *queries;
	int8_t *q;
	int32_t *sum;
	float *factor, *noise;
	uint32_t head_dim, n_heads;
	float scale, octave, norm;
};

// +1 or -1, by the channel: the top bit of a multiplicative hash.
__device__ __forceinline__ float channel_sign(uint32_t channel)
{
	uint64_t hash = (channel + 1) * UINT64_C(0x9e3779b97f4a7c15);
	hash = (hash ^ hash >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
	return hash >> 63 ? -1.0f : 1.0f;
}

// All threads of the block: one step of a Hadamard transform of n numbers in shared memory.
__device__ __forceinline__ void butterflies(float *x, uint32_t n, uint32_t half)
{
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < n / 2; i += THREADS) {
		const uint32_t at = i / half * 2 * half + i % half;
		const float a = x[at], b = x[at + half];
		x[at] = __fadd_rn(a, b);
		x[at + half] = __fadd_rn(a, -b);
	}
}

// Rotates rows of head_dim numbers that have their signs already, and waits.
__device__ __forceinline__ void rotate(float *x, uint32_t n, uint32_t head_dim, float norm)
{
	const uint32_t block = head_dim & (0 - head_dim);
	for (uint32_t half = 1; half < block; half *= 2)
		butterflies(x, n, half);
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < n; i += THREADS)
		x[i] = __fmul_rn(x[i], norm);
	__syncthreads();
}

__device__ __forceinline__ float number(kvt_element element, const uint8_t *row, uint32_t i)
{
	if (element == KVT_ELEMENT_E4M3) {
		const uint32_t magnitude = row[i] & 0x7f;
		const float x =
			magnitude == 0x7f ? NAN : __uint_as_float(magnitude << 20) * 0x1p120f;
		return row[i] & 0x80 ? -x : x;
	}
	const uint16_t bits = reinterpret_cast<const uint16_t *>(row)[i];
	if (element == KVT_ELEMENT_BF16)
		return __uint_as_float((uint32_t)bits << 16);
	return __half2float(__ushort_as_half(bits));
}

// The page's keys less the centre, by their places before the transform over tokens, with signs.
__device__ __forceinline__ void read_keys(const build_call &call, uint32_t page, float *rows)
{
	const uint32_t dim = call.head_dim;
	const uint64_t token = (uint64_t)page * CODE_TOKENS;
	const size_t bytes = dim * (call.element == KVT_ELEMENT_E4M3 ? 1 : 2);
	const uint8_t *keys = call.pages[token >> call.page_shift] + call.head_offset +
			      (token & ((1u << call.page_shift) - 1)) * bytes;
	uint32_t odd = 0;
	for (uint32_t i = threadIdx.x; i < CODE_TOKENS * dim; i += THREADS) {
		const uint32_t row = i / dim, channel = i % dim;
		const uint32_t of = __brev(row) >> 28; // the number's bits in reverse
		float x = number(call.element, keys + of * bytes, channel);
		const bool bad = !(fabsf(x) <= 0x1p40f);
		if (call.centre)
			x = __fadd_rn(x, -call.centre[channel]);
		rows[i] = __fmul_rn(bad ? 0.0f : x, channel_sign(channel));
		odd += bad;
	}
	if (call.odd && odd > 0)
		atomicAdd(call.odd, odd);
}

__device__ __forceinline__ uint32_t class_first(uint32_t c)
{
	return c < 2 ? c : 1u << (c - 1);
}

// The nearest step, in the logarithm.
__device__ __forceinline__ uint32_t encode_step(float step)
{
	const float middles[8] = { 0x1.0b5586p+0f, 0x1.2387a6p+0f, 0x1.3dea64p+0f, 0x1.5ab07ep+0f,
		0x1.7a1148p+0f, 0x1.9c4918p+0f, 0x1.c199bep+0f, 0x1.ea4afap+0f };
	if (!(step > 0))
		return 0;
	int exponent;
	const float mantissa = 2 * frexpf(step, &exponent);
	int e = 8 * (exponent - 1) + 128;
#pragma unroll
	for (int i = 0; i < 8; i++)
		e += mantissa >= middles[i];
	return (uint32_t)(e < 1 ? 1 : e > 255 ? 255 : e);
}

__device__ __forceinline__ uint32_t quantise(float x, float inverse, uint32_t levels)
{
	const float level = __fadd_rn(__fmul_rn(x, inverse), (float)(levels / 2));
	if (!(level > 0))
		return 0;
	return level < (float)levels ? (uint32_t)level : levels - 1;
}

// A page a block.
__global__ __launch_bounds__(THREADS) void build_pages(const build_call call)
{
	extern __shared__ float rows[]; // [16][head_dim]
	__shared__ double powers[CODE_CLASSES];
	__shared__ float inverses[CODE_CLASSES];
	const uint32_t page = call.first + blockIdx.x, dim = call.head_dim, n = CODE_TOKENS * dim;
	read_keys(call, page, rows);
	rotate(rows, n, dim, call.norm);
	for (uint32_t half = 1; half < CODE_TOKENS; half *= 2)
		butterflies(rows, n, half * dim);
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < n; i += THREADS)
		rows[i] = __fmul_rn(rows[i], 0.25f);
	__syncthreads();
	// in double and in order, a thread of its own for the longer ones
	for (uint32_t c = 0; c < CODE_CLASSES; c++) {
		if (threadIdx.x != (c < 2 ? 0 : (c - 1) * 32))
			continue;
		const uint32_t end = class_first(c + 1) * dim;
		double sum = 0;
		for (uint32_t i = class_first(c) * dim; i < end; i++)
			sum = __dadd_rn(sum, __dmul_rn((double)rows[i], (double)rows[i]));
		powers[c] = sum;
	}
	__syncthreads();
	uint8_t *block = call.means + (size_t)(page / CODE_BLOCK) * code_block_bytes(dim);
	const uint32_t place = page % CODE_BLOCK;
	if (threadIdx.x < CODE_CLASSES) {
		const uint32_t c = threadIdx.x, count = class_first(c + 1) - class_first(c);
		const double rms = __dsqrt_rn(__ddiv_rn(powers[c], (double)(dim * count)));
		const uint32_t e = encode_step(__fmul_rn((float)rms, c < 2 ? 0.3352f : 0.9957f));
		inverses[c] = e ? __fdiv_rn(1.0f, code_step(e)) : 0.0f;
		block[8 * dim + CODE_BLOCK * c + place] = (uint8_t)e;
	}
	if (threadIdx.x == 32) {
		double spread = 0;
		for (uint32_t c = 1; c < CODE_CLASSES; c++)
			spread = __dadd_rn(spread, powers[c]);
		uint32_t bits =
			__float_as_uint((float)__ddiv_rn(spread, (double)(CODE_TOKENS * dim)));
		bits += 0x7fff + (bits >> 16 & 1);
		uint8_t *to = block + 8 * dim + CODE_BLOCK * CODE_CLASSES + place * 2;
		to[0] = (uint8_t)(bits >> 16), to[1] = (uint8_t)(bits >> 24);
	}
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < dim / 2; i += THREADS)
		block[i / 4 * 64 + place * 4 + i % 4] =
			(uint8_t)(quantise(rows[i], inverses[0], 16) |
				  quantise(rows[dim / 2 + i], inverses[0], 16) << 4);
	// a word of details: 16 channels of a row
	uint32_t *detail = reinterpret_cast<uint32_t *>(call.details + (size_t)page * dim * 4);
	for (uint32_t i = threadIdx.x; i < dim; i += THREADS) {
		const uint32_t row = i % 16 > 0 ? i % 16 : 1, c = code_class(row);
		uint32_t word = 0;
		for (uint32_t k = 0; k < 16; k++) {
			const float x = rows[row * dim + i / 16 * 16 + k];
			const uint32_t code = quantise(x, inverses[c], row < 2 ? 16 : 4);
			word |= (i % 16 == 0 ? code >> 2 : code & 3) << (k % 4 * 8 + k / 4 * 2);
		}
		detail[i] = word;
	}
}

// Rounds x[n] x inverse so that the sum is even; page_code.c says why. Returns the sum.
__device__ int32_t round_even(const float *x, uint32_t n, float inverse, int8_t *q)
{
	int32_t sum = 0;
	uint32_t worst = 0;
	float worst_error = -1;
	for (uint32_t i = 0; i < n; i++) {
		const float exact = __fmul_rn(x[i], inverse), rounded = rintf(exact);
		q[i] = (int8_t)rounded;
		sum += q[i];
		const float error = fabsf(__fadd_rn(exact, -rounded));
		if (error > worst_error)
			worst_error = error, worst = i;
	}
	if (sum % 2) {
		const bool up = __fmul_rn(x[worst], inverse) > (float)q[worst];
		const int by = q[worst] == 127 || (q[worst] != -127 && !up) ? -1 : 1;
		q[worst] = (int8_t)(q[worst] + by);
		sum += by;
	}
	return sum;
}

// A query head a block; those that fill up a group of 4 are zeros.
__global__ __launch_bounds__(THREADS) void set_queries(const query_call call)
{
	__shared__ float x[DIM_MAX];
	__shared__ int8_t q[DIM_MAX];
	const uint32_t head = blockIdx.x, dim = call.head_dim;
	for (uint32_t i = threadIdx.x; i < dim; i += THREADS) {
		const float query =
			head < call.n_heads ? call.queries[(size_t)head * dim + i] : 0.0f;
		x[i] = __fmul_rn(query, channel_sign(i));
		q[i] = 0;
	}
	rotate(x, dim, dim, call.norm);
	if (threadIdx.x == 0) {
		float largest = 0, square = 0, factor = 0, noise = 0;
		int32_t sum = 0;
		for (uint32_t i = 0; i < dim; i++) {
			largest = fmaxf(largest, fabsf(x[i]));
			square = __fadd_rn(square, __fmul_rn(x[i], x[i]));
		}
		// numbers so large or small that products leave the range of a float, and NaN
		if (square < 0x1p60f && largest > 0x1p-60f && fabsf(call.scale) < 0x1p20f) {
			sum = round_even(x, dim, __fdiv_rn(127.0f, largest), q);
			factor = __fmul_rn(
				__fmul_rn(__fdiv_rn(largest, 127.0f), call.octave), 0.25f);
			noise = __fmul_rn(
				__fmul_rn(__fmul_rn(square, call.scale), call.octave), 0.5f);
		}
		call.sum[head] = sum;
		call.factor[head] = factor;
		call.noise[head] = noise;
	}
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < dim; i += THREADS)
		call.q[(size_t)head * dim + i] = q[i];
}

float norm_of(uint32_t head_dim)
{
	return 1.0f / sqrtf((float)(head_dim & (0 - head_dim)));
}

} // namespace

extern "C" int kvt_cuda_code_build(const kvt_codes *codes, const kvt_cuda_shape *shape,
	uint32_t kv_head, const void *const *pages, uint32_t first, uint32_t n, const float *centre,
	uint32_t *odd, void *stream)
{
	const uint32_t tokens = shape->page_tokens;
	if (!code_allowed(codes->head_dim) || codes->head_dim != shape->head_dim ||
		shape->element == KVT_ELEMENT_F32 || tokens < 16 || (tokens & (tokens - 1)) != 0)
		return -EINVAL;
	if (n == 0)
		return 0;
	build_call call = {};
	call.means = codes->means;
	call.details = codes->details;
	call.pages = reinterpret_cast<const uint8_t *const *>(pages);
	call.head_offset = kv_head * shape->head_stride;
	call.centre = centre;
	call.odd = odd;
	call.element = shape->element;
	call.head_dim = codes->head_dim;
	call.page_shift = (uint32_t)__builtin_ctz(tokens);
	call.first = first;
	call.norm = norm_of(codes->head_dim);
	void *arguments[] = { &call };
	return kvt_cuda_status(cudaLaunchKernel((const void *)build_pages, dim3(n), dim3(THREADS),
		arguments, CODE_TOKENS * codes->head_dim * sizeof(float),
		static_cast<cudaStream_t>(stream)));
}

extern "C" int kvt_cuda_code_query(kvt_code_query *query, uint32_t head_dim, uint32_t n_heads,
	const float *queries, float scale, void *memory, void *stream)
{
	if (!code_allowed(head_dim) || n_heads == 0 || n_heads > KVT_CODE_HEADS_MAX)
		return -EINVAL;
	const uint32_t padded = (n_heads + 3) / 4 * 4;
	query->head_dim = head_dim;
	query->n_heads = n_heads;
	query->q = static_cast<int8_t *>(memory);
	query->sum = reinterpret_cast<int32_t *>(query->q + (size_t)padded * head_dim);
	query->factor = reinterpret_cast<float *>(query->sum + padded);
	query->noise = query->factor + padded;
	query_call call = { queries, query->q, query->sum, query->factor, query->noise, head_dim,
		n_heads, scale, scale * 0x1.715476p+0f * 0x1p23f, norm_of(head_dim) };
	void *arguments[] = { &call };
	return kvt_cuda_status(cudaLaunchKernel((const void *)set_queries, dim3(padded),
		dim3(THREADS), arguments, 0, static_cast<cudaStream_t>(stream)));
}
