/* block_builder.c: a block trace from accesses with ids of any kind: dense ids, and sizes only when
 * they differ. */
#include <string.h>

#include "sim/base/error.h"
#include "traces/block_trace_internal.h"

enum { FIRST_ROOM = 1 << 12 };

void kvt_block_builder_init(kvt_block_builder *builder, uint64_t expected)
{
	*builder = (kvt_block_builder){ .room = expected > 0 ? expected : FIRST_ROOM };
	builder->blocks = g_new(uint32_t, builder->room);
	kvt_dense_ids_init(&builder->ids);
}

void kvt_block_builder_clear(kvt_block_builder *builder)
{
	kvt_dense_ids_clear(&builder->ids);
	g_free(builder->blocks);
	g_free(builder->bytes);
	*builder = (kvt_block_builder){ 0 };
}

/* The keys that wait are the last ones. */
static bool flush(kvt_block_builder *builder)
{
	uint32_t *to = builder->blocks + builder->n - builder->waiting;
	builder->full |= !kvt_dense_ids_number(&builder->ids, builder->keys, builder->waiting, to);
	builder->waiting = 0;
	return !builder->full;
}

static void grow(kvt_block_builder *builder)
{
	builder->room *= 2;
	builder->blocks = g_renew(uint32_t, builder->blocks, builder->room);
	if (builder->bytes != NULL)
		builder->bytes = g_renew(uint32_t, builder->bytes, builder->room);
}

bool kvt_block_builder_add(kvt_block_builder *builder, uint64_t key, uint32_t bytes)
{
	if (bytes == 0) {
		builder->n_empty++;
		return true;
	}
	if (builder->n == KVT_BLOCK_ACCESSES_MAX - 1) {
		builder->full = true;
		return false;
	}
	if (builder->n == builder->room)
		grow(builder);
	if (builder->n == 0)
		builder->first_bytes = bytes;
	if (builder->bytes == NULL && bytes != builder->first_bytes) {
		builder->bytes = g_new(uint32_t, builder->room);
		for (uint64_t i = 0; i < builder->n; i++)
			builder->bytes[i] = builder->first_bytes;
	}
	if (builder->bytes != NULL)
		builder->bytes[builder->n] = bytes;
	builder->keys[builder->waiting++] = key;
	builder->n++;
	return builder->waiting < G_N_ELEMENTS(builder->keys) || flush(builder);
}

kvt_block_trace *kvt_block_builder_finish(
	kvt_block_builder *builder, const char *path, bool sizes_known, GError **error)
{
	if (!flush(builder) || builder->n == 0) {
		kvt_error_at(error, path, 0,
			builder->n == 0 ? "has no accesses, expected one at least"
					: "too many accesses, expected fewer than 2^32 - 1");
		kvt_block_builder_clear(builder);
		return NULL;
	}
	kvt_block_trace *trace = g_new0(kvt_block_trace, 1);
	trace->memory = g_new0(struct kvt_block_trace_memory, 1);
	trace->n_accesses = builder->n;
	trace->n_blocks = builder->ids.count;
	trace->n_empty = builder->n_empty;
	trace->block_bytes = sizes_known && builder->bytes == NULL ? builder->first_bytes : 0;
	trace->blocks = trace->memory->blocks = g_steal_pointer(&builder->blocks);
	trace->bytes = trace->memory->bytes = g_steal_pointer(&builder->bytes);
	kvt_block_builder_clear(builder);
	return trace;
}
