/* turn_tokens.c: rows of new tokens in pages of their own, and where they go. */
#include "emu/device/turn_tokens.h"

static uint64_t row_of(const kvt_turn_tokens *tokens)
{
	const kvt_kv_shape *shape = &tokens->source->shape;
	return (uint64_t)shape->heads * shape->head_dim;
}

uint64_t kvt_turn_tokens_query_bytes(const kvt_turn_tokens *tokens)
{
	uint64_t n = tokens->end - tokens->first;
	return n * tokens->source->shape.kv_heads * row_of(tokens) * sizeof(float);
}

uint64_t kvt_turn_tokens_page_bytes(const kvt_turn_tokens *tokens)
{
	const kvt_kv_shape *shape = &tokens->source->shape;
	uint64_t n = tokens->first % shape->page_tokens + tokens->end - tokens->first;
	return (n / shape->page_tokens + 1) * shape->page_bytes;
}

void kvt_turn_tokens_make(
	const kvt_turn_tokens *tokens, unsigned layer, float *queries, void *pages)
{
	const kvt_kv_source *source = tokens->source;
	uint64_t first = tokens->first, n = tokens->end - first;
	kvt_kv_source_fill(source, layer, first, n, pages);
	for (unsigned head = 0; head < source->shape.kv_heads; head++)
		kvt_kv_source_queries(
			source, layer, head, first, n, queries + head * n * row_of(tokens));
}

void kvt_turn_tokens_each(const kvt_turn_tokens *tokens, uint64_t position, uint64_t n,
	kvt_turn_tokens_run run, void *arg)
{
	const kvt_kv_shape *shape = &tokens->source->shape;
	const uint64_t page_tokens = shape->page_tokens, end = position + n;
	const uint64_t row = shape->block_bytes / page_tokens;
	const uint64_t first_page = tokens->first / page_tokens;
	g_assert(position >= tokens->first && end <= tokens->end);
	for (uint64_t token = position; token < end;) {
		uint64_t page = token / page_tokens, skip = token % page_tokens;
		uint64_t from = (page - first_page) * shape->page_bytes;
		uint64_t to = page * shape->page_bytes;
		if (skip == 0 && end - token >= page_tokens) {
			uint64_t whole = (end - token) / page_tokens;
			run(arg, from, to, whole * shape->page_bytes);
			token += whole * page_tokens;
			continue;
		}
		uint64_t some = MIN(page_tokens - skip, end - token);
		for (uint64_t block = 0; block < shape->page_bytes; block += shape->block_bytes)
			run(arg, from + block + skip * row, to + block + skip * row, some * row);
		token += some;
	}
}
