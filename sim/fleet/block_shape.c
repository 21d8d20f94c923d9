/* block_shape.c: bytes of blocks by kind of layer, and what a window still needs. */
#include "sim/fleet/block_shape.h"

#include "models/llm_cost.h"
#include "sim/base/error.h"

gboolean kvt_block_shape_init(kvt_block_shape *shape, const kvt_llm *llm, unsigned ranks,
	uint32_t block_tokens, uint32_t page_tokens, GError **error)
{
	g_assert(block_tokens > 0);
	if (page_tokens == 0)
		page_tokens = block_tokens;
	if (block_tokens % page_tokens != 0)
		return kvt_error_usage(error,
			"pages of %u tokens, expected a number that divides blocks of %u",
			page_tokens, block_tokens);
	*shape = (kvt_block_shape){ .block_tokens = block_tokens, .page_tokens = page_tokens };
	static const kvt_attention_kind order[] = { KVT_ATTENTION_GLOBAL, KVT_ATTENTION_CHUNKED,
		KVT_ATTENTION_SLIDING };
	for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
		uint32_t layers = kvt_llm_count_attention(llm, order[i]);
		if (layers == 0)
			continue;
		kvt_block_kind *kind = &shape->kinds[shape->n_kinds++];
		*kind = (kvt_block_kind){
			.attention = order[i],
			.layers = layers,
			.window = order[i] == KVT_ATTENTION_GLOBAL ? 0 : (uint64_t)llm->window,
			.token_bytes = layers * ranks * kvt_llm_kv_token_bytes(llm, ranks),
			.saved_bytes = layers * kvt_llm_kv_token_bytes(llm, 1),
		};
		if (kind->token_bytes >= (UINT64_C(1) << 32) / block_tokens)
			return kvt_error_usage(error,
				"blocks of %u tokens have %" G_GUINT64_FORMAT
				" bytes a token, expected less than 4 GiB a block",
				block_tokens, kind->token_bytes);
	}
	g_assert(shape->n_kinds > 0);
	return TRUE;
}

uint64_t kvt_block_shape_first_token(const kvt_block_shape *shape, unsigned kind, uint64_t tokens)
{
	uint64_t window = shape->kinds[kind].window;
	switch (shape->kinds[kind].attention) {
	case KVT_ATTENTION_CHUNKED:
		return tokens / window * window;
	case KVT_ATTENTION_SLIDING:
		return tokens + 1 > window ? tokens + 1 - window : 0;
	default:
		return 0;
	}
}
