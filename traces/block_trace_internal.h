/* block_trace_internal.h: how readers make a block trace, for the files of traces/ alone. */
#ifndef KVT_BLOCK_TRACE_INTERNAL_H
#define KVT_BLOCK_TRACE_INTERNAL_H

#include "traces/block_trace.h"
#include "traces/dense_ids.h"
#include "traces/request_trace.h"

struct kvt_block_trace_memory {
	uint32_t *blocks, *bytes;
	kvt_request_trace *requests; /* whose blocks these are; or NULL */
};

/* Takes accesses one by one. Begin with { 0 }. */
typedef struct kvt_block_builder {
	kvt_dense_ids ids;
	uint32_t *blocks, *bytes; /* room for `room` of them; bytes NULL while all are the same */
	uint64_t n, room, n_empty;
	uint32_t first_bytes;
	unsigned waiting; /* keys that have no id yet */
	bool full;        /* there were too many */
	uint64_t keys[64];
} kvt_block_builder;

/* `expected` accesses, or 0 when that is not known. */
void kvt_block_builder_init(kvt_block_builder *builder, uint64_t expected);

/* Adds an access; of no bytes it is left out. False when there are too many. */
bool kvt_block_builder_add(kvt_block_builder *builder, uint64_t key, uint32_t bytes);

/* The trace, and frees the rest; NULL with an error when there are no accesses, or too many. */
kvt_block_trace *kvt_block_builder_finish(
	kvt_block_builder *builder, const char *path, bool sizes_known, GError **error);
void kvt_block_builder_clear(kvt_block_builder *builder);

kvt_block_trace *kvt_block_trace_read_text(
	const char *text, size_t length, const char *path, GError **error);

#endif
