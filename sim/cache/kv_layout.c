/* kv_layout.c: tokens to pages and bytes, by layer kind. */
#include "sim/cache/kv_layout.h"

#include "models/llm_cost.h"

void kvt_kv_layout_init(kvt_kv_layout *layout, const kvt_llm *llm, unsigned ranks, uint32_t context,
	uint64_t page_tokens)
{
	*layout = (kvt_kv_layout){
		.llm = llm,
		.ranks = ranks,
		.held_ranks = ranks,
		.context = context,
		.page_tokens = page_tokens,
		/* a rank's share times the ranks: KV that is replicated is moved to each */
		.token_bytes = kvt_llm_kv_token_bytes(llm, ranks) * ranks,
		.global_layers = kvt_llm_count_attention(llm, KVT_ATTENTION_GLOBAL),
	};
	layout->local_layers = llm->n_layers - layout->global_layers;
}

void kvt_kv_layout_hold_one(kvt_kv_layout *layout)
{
	layout->token_bytes /= layout->held_ranks;
	layout->held_ranks = 1;
}

bool kvt_kv_layer_is_global(const kvt_kv_layout *layout, unsigned layer)
{
	return layout->llm->layers[layer].attention == KVT_ATTENTION_GLOBAL;
}

uint64_t kvt_kv_held_tokens(const kvt_kv_layout *layout, unsigned layer, uint64_t tokens)
{
	return kvt_llm_held_tokens(layout->llm, layer, tokens);
}

kvt_extent kvt_kv_extent(
	const kvt_kv_layout *layout, unsigned layer, uint64_t first, uint64_t count)
{
	uint64_t first_page = first / layout->page_tokens;
	uint64_t end_page = (first + count + layout->page_tokens - 1) / layout->page_tokens;
	return (kvt_extent){
		.context = layout->context,
		.layer = layer,
		.first_page = first_page,
		.n_pages = count > 0 ? end_page - first_page : 0,
		.page_bytes = layout->token_bytes * layout->page_tokens,
	};
}

uint64_t kvt_kv_pages(const kvt_kv_layout *layout, uint64_t tokens)
{
	uint64_t pages = 0;
	for (unsigned layer = 0; layer < layout->llm->n_layers; layer++) {
		uint64_t held = kvt_kv_held_tokens(layout, layer, tokens);
		pages += kvt_kv_extent(layout, layer, tokens - held, held).n_pages;
	}
	return pages;
}

uint64_t kvt_kv_page_bytes_total(const kvt_kv_layout *layout, uint64_t tokens)
{
	return kvt_kv_pages(layout, tokens) * layout->page_tokens * layout->token_bytes;
}
