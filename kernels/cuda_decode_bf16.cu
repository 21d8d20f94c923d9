/* cuda_decode_bf16.cu: the forms of decode attention over BF16. */
#include "kernels/cuda_decode_staged.cuh"

int kvt_cuda::decode_bf16(
	decode_call *call, uint32_t head_dim, uint32_t kv_heads, cudaStream_t stream)
{
	/* groups, tiles, warps, blocks, waves, in registers, interleaved */
	using one_64 = decode_form<wide_layout<bf16_pairs, 64>, 1, 2, 12, 1, 1, 2, false>;
	using two_64 = decode_form<wide_layout<bf16_pairs, 64>, 2, 1, 8, 1, 1, 0, false>;
	/* warps, stages */
	using one_128 = staged_form<bf16_pairs, 8, 2>;
	using two_128 = decode_form<wide_layout<bf16_pairs, 128>, 2, 1, 8, 1, 1, 0, false>;
	if (head_dim == 64)
		return call->rows <= 8 ? form_launch<one_64>(call, kv_heads, stream)
				       : form_launch<two_64>(call, kv_heads, stream);
	return call->rows <= 8 ? form_launch<one_128>(call, kv_heads, stream)
			       : form_launch<two_128>(call, kv_heads, stream);
}
