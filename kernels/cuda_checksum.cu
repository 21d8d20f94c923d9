/*
 * cuda_checksum.cu: checksums of pages in device memory: XXH3 of 64 bits as libxxhash's
 * XXH3_64bits has it, so that pages which were summed by a host are verified where they arrived. A
 * block of threads a page. What 1 KiB of the page adds to the 8 sums depends on nothing before it:
 * eight warps compute that, 32 KiB a step, and one warp mixes what they left of the step before
 * into the sums, one KiB after the other: a page comes no faster than that goes, about 30 cycles a
 * KiB or 55 GB/s, and pages beside each other as fast as memory is.
 */
#include <cuda_runtime.h>
#include <errno.h>
#include <stdint.h>

#include "kernels/cuda_internal.h"

namespace
{

enum {
	ADDERS = 8, // warps
	EACH = 4,   // KiB of a step that one of them adds up
	STEP = ADDERS * EACH,
	THREADS = (ADDERS + 1) * 32,
	SECRET = 192,
	STRIPE = 64,
	BLOCK = 1024,
	SUMS = 8,
};

// XXH3's own secret, little-endian, and constants: xxHash 0.8 by Yann Collet, BSD 2-Clause; the
// algorithm is described at github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
__constant__ uint64_t secret[SECRET / 8] = { 0xbe4ba423396cfeb8, 0x1cad21f72c81017c,
	0xdb979083e96dd4de, 0x1f67b3b7a4a44072, 0x78e5c0cc4ee679cb, 0x2172ffcc7dd05a82,
	0x8e2443f7744608b8, 0x4c263a81e69035e0, 0xcb00c391bb52283c, 0xa32e531b8b65d088,
	0x4ef90da297486471, 0xd8acdea946ef1938, 0x3f349ce33f76faa8, 0x1d4f0bc7c7bbdcf9,
	0x3159b4cd4be0518a, 0x647378d9c97e9fc8, 0xc3ebd33483acc5ea, 0xeb6313faffa081c5,
	0x49daf0b751dd0d17, 0x9e68d429265516d3, 0xfca1477d58be162b, 0xce31d07ad1b8f88f,
	0x280416958f3acb45, 0x7e404bbbcafbd7af };
constexpr uint64_t PRIME32_1 = 0x9E3779B1, PRIME32_2 = 0x85EBCA77, PRIME32_3 = 0xC2B2AE3D;
constexpr uint64_t PRIME64_1 = 0x9E3779B185EBCA87, PRIME64_2 = 0xC2B2AE3D27D4EB4F,
		   PRIME64_3 = 0x165667B19E3779F9, PRIME64_4 = 0x85EBCA77C2B2AE63,
		   PRIME64_5 = 0x27D4EB2F165667C5, MIX = 0x165667919E3779F9;

// 8 bytes of the secret, at any place.
__device__ __forceinline__ uint64_t secret_at(int byte)
{
	const int shift = byte % 8 * 8;
	const uint64_t low = secret[byte / 8] >> shift;
	return shift ? low | secret[byte / 8 + 1] << (64 - shift) : low;
}

// What 16 bytes of a stripe add to the two sums that they belong to.
__device__ __forceinline__ void add(
	const ulonglong2 &data, uint64_t key_0, uint64_t key_1, uint64_t &a, uint64_t &b)
{
	const uint64_t x = data.x ^ key_0, y = data.y ^ key_1;
	a += data.y + (x & 0xffffffff) * (x >> 32);
	b += data.x + (y & 0xffffffff) * (y >> 32);
}

// Over the 8 threads that have the same two sums.
__device__ __forceinline__ void add_threads(uint64_t &a, uint64_t &b)
{
#pragma unroll
	for (int d = 4; d < 32; d *= 2) {
		a += __shfl_xor_sync(~0u, a, d);
		b += __shfl_xor_sync(~0u, b, d);
	}
}

// Of 16 bytes at the thread's place in each 8 stripes of a block: the keys of both halves. A warp's
// thread has the sums 2 p and 2 p + 1, p its number's lowest 2 bits, and every 8th stripe.
struct keys {
	uint64_t of[4];

	__device__ explicit keys(int lane)
	{
#pragma unroll
		for (int i = 0; i < 4; i++)
			of[i] = secret[lane / 4 + i / 2 * 8 + 2 * (lane % 4) + i % 2];
	}
};

// What each block of a step adds to the sums, to parts[the block's place in the step]. `from` is
// the thread's place in the page's first block.
__device__ __forceinline__ void add_step(const uint8_t *from, uint64_t first, uint64_t n_blocks,
	const keys &key, uint64_t (*parts)[SUMS])
{
	const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
	ulonglong2 data[EACH][2];
#pragma unroll
	for (int i = 0; i < EACH; i++) {
		const uint64_t block = first + (uint64_t)(i * ADDERS + warp);
		if (block >= n_blocks)
			continue;
		const ulonglong2 *at = reinterpret_cast<const ulonglong2 *>(from + block * BLOCK);
		data[i][0] = at[0];
		data[i][1] = at[BLOCK / 2 / 16];
	}
#pragma unroll
	for (int i = 0; i < EACH; i++) {
		if (first + (uint64_t)(i * ADDERS + warp) >= n_blocks)
			continue;
		uint64_t x = 0, y = 0;
		add(data[i][0], key.of[0], key.of[1], x, y);
		add(data[i][1], key.of[2], key.of[3], x, y);
		add_threads(x, y);
		if (lane < 4) {
			parts[i * ADDERS + warp][2 * lane] = x;
			parts[i * ADDERS + warp][2 * lane + 1] = y;
		}
	}
}

// Mixes a step's blocks into the sum that the thread has.
__device__ __forceinline__ uint64_t mix_step(
	uint64_t sum, uint64_t blocks, uint64_t key, int own, const uint64_t (*parts)[SUMS])
{
	if (blocks >= STEP) {
#pragma unroll
		for (int i = 0; i < STEP; i++) {
			sum += parts[i][own];
			sum = (sum ^ sum >> 47 ^ key) * PRIME32_1;
		}
		return sum;
	}
	for (int i = 0; i < (int)blocks; i++) {
		sum += parts[i][own];
		sum = (sum ^ sum >> 47 ^ key) * PRIME32_1;
	}
	return sum;
}

// Whole stripes behind the last block that is mixed, but for the page's last 64 bytes, which are
// taken otherwise; to the sum that the thread has.
__device__ __forceinline__ uint64_t add_rest(
	const uint8_t *from, uint64_t n_blocks, uint64_t bytes, const keys &key)
{
	const int lane = (int)threadIdx.x % 32, p = lane % 4, stripe = lane / 4;
	const int left = (int)((bytes - 1 - n_blocks * BLOCK) / STRIPE);
	const ulonglong2 *data = reinterpret_cast<const ulonglong2 *>(from + n_blocks * BLOCK);
	uint64_t x = 0, y = 0;
	if (stripe < left)
		add(data[0], key.of[0], key.of[1], x, y);
	if (stripe + 8 < left)
		add(data[BLOCK / 2 / 16], key.of[2], key.of[3], x, y);
	if (stripe == 0) {
		const int at = SECRET - STRIPE - 7 + 16 * p;
		data = reinterpret_cast<const ulonglong2 *>(from + bytes - STRIPE);
		add(data[0], secret_at(at), secret_at(at + 8), x, y);
	}
	add_threads(x, y);
	const uint64_t even = __shfl_sync(~0u, x, lane % SUMS / 2);
	const uint64_t odd = __shfl_sync(~0u, y, lane % SUMS / 2);
	return lane % 2 ? odd : even;
}

// Products of 128 bits of two sums each, folded; all threads have the result.
__device__ __forceinline__ uint64_t join(uint64_t sum, int own, uint64_t bytes)
{
	const uint64_t u = sum ^ secret_at(11 + 8 * own), v = __shfl_xor_sync(~0u, u, 1);
	uint64_t result = u * v ^ __umul64hi(u, v);
	result += __shfl_xor_sync(~0u, result, 2);
	result += __shfl_xor_sync(~0u, result, 4);
	result += bytes * PRIME64_1;
	result = (result ^ result >> 37) * MIX;
	return result ^ result >> 32;
}

__global__ __launch_bounds__(THREADS) void sum_pages(const kvt_cuda_page *pages, uint64_t *sums)
{
	__shared__ uint64_t parts[2][STEP][SUMS];
	const int lane = (int)threadIdx.x % 32, own = lane % SUMS;
	const bool mixes = threadIdx.x / 32 == ADDERS;
	const kvt_cuda_page page = pages[blockIdx.x];
	const uint8_t *from = static_cast<const uint8_t *>(page.page) + lane * 16;
	const uint64_t n_blocks = (page.bytes - 1) / BLOCK;
	const uint64_t n_steps = (n_blocks + STEP - 1) / STEP;
	const keys key(lane);
	const uint64_t mix_key = secret_at(SECRET - STRIPE + 8 * own);
	uint64_t sum = own == 0   ? PRIME32_3
		       : own == 1 ? PRIME64_1
		       : own == 2 ? PRIME64_2
		       : own == 3 ? PRIME64_3
		       : own == 4 ? PRIME64_4
		       : own == 5 ? PRIME32_2
		       : own == 6 ? PRIME64_5
				  : PRIME32_1;
	// read before the rest waits for others
	const uint64_t rest = mixes ? add_rest(from, n_blocks, page.bytes, key) : 0;
	// the step's parts are written while those of the one before are read
	for (uint64_t i = 0; i <= n_steps; i++) {
		if (mixes && i > 0)
			sum = mix_step(
				sum, n_blocks - (i - 1) * STEP, mix_key, own, parts[(i - 1) % 2]);
		else if (!mixes && i < n_steps)
			add_step(from, i * STEP, n_blocks, key, parts[i % 2]);
		__syncthreads();
	}
	if (!mixes)
		return;
	sum = join(sum + rest, own, page.bytes);
	if (lane == 0)
		sums[blockIdx.x] = sum;
}

} // namespace

extern "C" int kvt_cuda_page_checksums(
	const kvt_cuda_page *pages, uint32_t n, uint64_t *sums, void *stream)
{
	if (n == 0)
		return 0;
	if (n > INT32_MAX)
		return -EINVAL;
	void *arguments[] = { &pages, &sums };
	return kvt_cuda_status(cudaLaunchKernel((const void *)sum_pages, dim3(n), dim3(THREADS),
		arguments, 0, static_cast<cudaStream_t>(stream)));
}
