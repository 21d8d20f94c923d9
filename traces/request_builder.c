/*
 * request_builder.c: prefixes are numbered by a hash table of (what the block follows, what the
 * source calls it); requests are sorted once, at the end.
 */
#include "traces/request_builder.h"

#include <stdlib.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/request_internal.h"

/* Scopes are numbered from here, blocks below. */
#define FIRST_SCOPE (UINT64_C(1) << 32)

typedef struct prefix_entry {
	uint64_t prefix, block;
	uint32_t id; /* + 1; 0: the slot is free */
} prefix_entry;

struct kvt_request_builder {
	char *source;
	GPtrArray *tenants;
	GArray *requests; /* kvt_request */
	GArray *blocks;   /* uint32_t: by the numbers of the table */
	uint64_t begun;   /* blocks of requests that were added */
	uint32_t n_sessions, n_ids;
	uint64_t scopes;
	bool find_sessions, full;
	prefix_entry *table;
	uint64_t mask, used;
};

kvt_request_builder *kvt_request_builder_new(const char *source)
{
	enum { FIRST_SLOTS = 1 << 12 };
	kvt_request_builder *builder = g_new0(kvt_request_builder, 1);
	builder->source = g_strdup(source);
	builder->tenants = g_ptr_array_new_with_free_func(g_free);
	builder->requests = g_array_new(FALSE, FALSE, sizeof(kvt_request));
	builder->blocks = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	builder->table = g_new0(prefix_entry, FIRST_SLOTS);
	builder->mask = FIRST_SLOTS - 1;
	return builder;
}

void kvt_request_builder_free(kvt_request_builder *builder)
{
	if (builder == NULL)
		return;
	g_free(builder->source);
	g_ptr_array_free(builder->tenants, TRUE);
	g_array_free(builder->requests, TRUE);
	g_array_free(builder->blocks, TRUE);
	g_free(builder->table);
	g_free(builder);
}

uint32_t kvt_request_builder_tenant(kvt_request_builder *builder, const char *name)
{
	g_ptr_array_add(builder->tenants, g_utf8_make_valid(name, -1));
	return builder->tenants->len - 1;
}

uint32_t kvt_request_builder_session(kvt_request_builder *builder)
{
	return builder->n_sessions++;
}

uint64_t kvt_request_builder_scope(kvt_request_builder *builder)
{
	return FIRST_SCOPE + builder->scopes++;
}

/* Sources number blocks one by one, so both words are mixed well. */
static uint64_t hash_pair(uint64_t prefix, uint64_t block)
{
	uint64_t h = prefix * UINT64_C(0x9e3779b97f4a7c15) ^ block;
	h = (h ^ h >> 32) * UINT64_C(0xd6e8feb86659fd93);
	return (h ^ h >> 32) * UINT64_C(0xd6e8feb86659fd93) >> 16;
}

static prefix_entry *find_slot(prefix_entry *table, uint64_t mask, uint64_t prefix, uint64_t block)
{
	uint64_t at = hash_pair(prefix, block) & mask;
	while (table[at].id != 0 && (table[at].prefix != prefix || table[at].block != block))
		at = (at + 1) & mask;
	return &table[at];
}

static void grow_table(kvt_request_builder *builder)
{
	uint64_t mask = builder->mask * 2 + 1;
	prefix_entry *table = g_new0(prefix_entry, mask + 1);
	for (uint64_t i = 0; i <= builder->mask; i++) {
		const prefix_entry *old = &builder->table[i];
		if (old->id != 0)
			*find_slot(table, mask, old->prefix, old->block) = *old;
	}
	g_free(builder->table);
	builder->table = table;
	builder->mask = mask;
}

uint64_t kvt_request_builder_block(kvt_request_builder *builder, uint64_t prefix, uint64_t block)
{
	prefix_entry *slot = find_slot(builder->table, builder->mask, prefix, block);
	if (slot->id != 0)
		return slot->id - 1;
	if (builder->n_ids >= UINT32_MAX - 1) {
		builder->full = true;
		return 0;
	}
	*slot = (prefix_entry){ prefix, block, ++builder->n_ids };
	if (++builder->used * 2 > builder->mask)
		grow_table(builder);
	return builder->n_ids - 1;
}

void kvt_request_builder_append(kvt_request_builder *builder, uint64_t block)
{
	uint32_t id = (uint32_t)block;
	g_assert(block < builder->n_ids || builder->full);
	/* GArray counts in 32 bits. */
	if (builder->blocks->len >= UINT32_MAX / 8)
		builder->full = true;
	else
		g_array_append_val(builder->blocks, id);
}

uint32_t kvt_request_builder_add(kvt_request_builder *builder, const kvt_request *request)
{
	kvt_request added = *request;
	added.first_block = builder->begun;
	added.n_blocks = (uint32_t)(builder->blocks->len - builder->begun);
	builder->begun = builder->blocks->len;
	g_assert(added.tenant < builder->tenants->len);
	g_assert(added.after == KVT_REQUEST_NONE || added.after < builder->requests->len);
	builder->full = builder->full || builder->requests->len >= UINT32_MAX / 128;
	if (builder->full)
		return KVT_REQUEST_NONE;
	g_array_append_val(builder->requests, added);
	return builder->requests->len - 1;
}

kvt_request *kvt_request_builder_get(kvt_request_builder *builder, uint32_t index)
{
	g_assert(index < builder->requests->len);
	return &g_array_index(builder->requests, kvt_request, index);
}

uint32_t kvt_request_builder_count(const kvt_request_builder *builder)
{
	return builder->requests->len;
}

void kvt_request_builder_find_sessions(kvt_request_builder *builder)
{
	builder->find_sessions = true;
}

static int compare_arrivals(const void *a, const void *b, void *data)
{
	const kvt_request *requests = data;
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
	if (requests[left].arrival != requests[right].arrival)
		return requests[left].arrival < requests[right].arrival ? -1 : 1;
	return left < right ? -1 : left > right;
}

/* The requests in order of arrival, from 0, and pointing at each other there. */
static kvt_request *sort_requests(const kvt_request_builder *builder)
{
	uint32_t n = builder->requests->len;
	const kvt_request *from = (const kvt_request *)builder->requests->data;
	g_autofree uint32_t *order = g_new(uint32_t, n), *place = g_new(uint32_t, n);
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	g_qsort_with_data(order, (gint)n, sizeof(*order), compare_arrivals, (void *)from);
	for (uint32_t i = 0; i < n; i++)
		place[order[i]] = i;
	kvt_request *sorted = g_new(kvt_request, n);
	for (uint32_t i = 0; i < n; i++) {
		kvt_request *to = &sorted[i];
		*to = from[order[i]];
		to->arrival -= from[order[0]].arrival;
		if (to->after != KVT_REQUEST_NONE)
			to->after = place[to->after];
		if (to->joins != KVT_REQUEST_NONE)
			to->joins = place[to->joins];
		g_assert(to->after == KVT_REQUEST_NONE || to->after < i);
		g_assert(to->joins == KVT_REQUEST_NONE || to->joins > i);
	}
	return sorted;
}

/* Blocks in the order of the requests, numbered by their first use. Returns how many ids. */
static uint32_t renumber_blocks(
	const kvt_request_builder *builder, kvt_request *requests, uint32_t *blocks)
{
	const uint32_t *from = (const uint32_t *)builder->blocks->data;
	g_autofree uint32_t *number = g_new0(uint32_t, (gsize)builder->n_ids + 1);
	uint32_t n_ids = 0;
	uint64_t at = 0;
	for (uint32_t i = 0; i < builder->requests->len; i++) {
		const uint32_t *ids = from + requests[i].first_block;
		requests[i].first_block = at;
		for (uint32_t j = 0; j < requests[i].n_blocks; j++) {
			if (number[ids[j]] == 0)
				number[ids[j]] = ++n_ids;
			blocks[at++] = number[ids[j]] - 1;
		}
	}
	return n_ids;
}

/* Sessions by what the blocks say; see the header. */
static void find_sessions(kvt_request_trace *trace, kvt_request *requests, uint32_t block_tokens)
{
	g_autofree uint32_t *owner = g_new(uint32_t, (gsize)trace->n_ids + 1);
	g_autofree bool *gone_on = g_new0(bool, trace->n_requests);
	uint32_t seen = 0;
	for (uint32_t i = 0; i < trace->n_requests; i++) {
		kvt_request *request = &requests[i];
		const uint32_t *ids = trace->blocks + request->first_block;
		uint32_t known = 0;
		/* Ids count up with their first use, and a known one follows known ones. */
		while (known < request->n_blocks && ids[known] < seen)
			known++;
		request->session = i;
		uint32_t before = known > 0 ? owner[ids[known - 1]] : i;
		uint32_t full = requests[before].input_tokens / MAX(block_tokens, 1);
		if (before != i && full > 0 && known >= MIN(full, requests[before].n_blocks) &&
			(known == request->n_blocks || !gone_on[before])) {
			request->session = requests[before].session;
			gone_on[before] = gone_on[before] || known < request->n_blocks;
		}
		for (; known < request->n_blocks; known++) {
			owner[ids[known]] = i;
			seen = ids[known] + 1;
		}
	}
}

static uint32_t renumber_sessions(kvt_request *requests, uint64_t n, uint32_t most)
{
	g_autofree uint32_t *number = g_new0(uint32_t, (gsize)most + 1);
	uint32_t n_sessions = 0;
	for (uint64_t i = 0; i < n; i++) {
		uint32_t *session = &number[requests[i].session];
		if (*session == 0)
			*session = ++n_sessions;
		requests[i].session = *session - 1;
	}
	return n_sessions;
}

kvt_request_trace *kvt_request_builder_finish(
	kvt_request_builder *builder, uint32_t block_tokens, const char *path, GError **error)
{
	uint32_t n = builder->requests->len;
	if (n == 0 || builder->full) {
		kvt_error_at(error, path, 0,
			n == 0 ? "has no requests, expected one at least"
			       : "is too large, expected at most %u requests and %u blocks",
			UINT32_MAX / 128, UINT32_MAX / 8);
		return NULL;
	}
	struct kvt_request_memory *memory = g_new0(struct kvt_request_memory, 1);
	memory->requests = sort_requests(builder);
	memory->blocks = g_new(uint32_t, MAX(builder->begun, 1));
	memory->source = g_utf8_make_valid(builder->source, -1);
	g_ptr_array_add(builder->tenants, NULL);
	kvt_request_trace *trace = g_new0(kvt_request_trace, 1);
	*trace = (kvt_request_trace){
		.requests = memory->requests,
		.n_requests = n,
		.blocks = memory->blocks,
		.n_blocks = builder->begun,
		.n_ids = renumber_blocks(builder, memory->requests, memory->blocks),
		.block_tokens = builder->begun > 0 ? block_tokens : 0,
		.n_tenants = builder->tenants->len - 1,
		.source = memory->source,
		.memory = memory,
	};
	memory->tenant_names = (char **)g_ptr_array_free(builder->tenants, FALSE);
	builder->tenants = g_ptr_array_new_with_free_func(g_free);
	trace->tenant_names = (const char *const *)memory->tenant_names;
	if (builder->find_sessions)
		find_sessions(trace, memory->requests, block_tokens);
	trace->n_sessions = renumber_sessions(
		memory->requests, n, builder->find_sessions ? n : builder->n_sessions);
	g_array_set_size(builder->requests, 0);
	g_array_set_size(builder->blocks, 0);
	builder->begun = 0;
	if (kvt_request_trace_check(trace, path, error))
		return trace;
	kvt_request_trace_close(trace);
	return NULL;
}
