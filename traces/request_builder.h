/*
 * request_builder.h: puts a request trace together from requests in any order: numbers prefixes
 * densely, sorts by arrival and points what waits at what it waits for. Readers, generators and
 * transforms make their traces with it.
 */
#ifndef KVT_REQUEST_BUILDER_H
#define KVT_REQUEST_BUILDER_H

#include "traces/request_trace.h"

typedef struct kvt_request_builder kvt_request_builder;

/* `source` says in words what the trace is of; copied. */
kvt_request_builder *kvt_request_builder_new(const char *source);
void kvt_request_builder_free(kvt_request_builder *builder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_request_builder, kvt_request_builder_free)

/* A new tenant, session; returns its number. */
uint32_t kvt_request_builder_tenant(kvt_request_builder *builder, const char *name);
uint32_t kvt_request_builder_session(kvt_request_builder *builder);

/* Where prompts begin that share nothing with those of other scopes: a trace whose ids are its own,
 * say. Returns the `prefix` that its first blocks follow. */
uint64_t kvt_request_builder_scope(kvt_request_builder *builder);

/*
 * The block that the source calls `block` when it follows `prefix`, a scope or another block:
 * the same number for the same pair, another one for any other.
 */
uint64_t kvt_request_builder_block(kvt_request_builder *builder, uint64_t prefix, uint64_t block);

/* Appends a block to the prompt of the request that is added next. */
void kvt_request_builder_append(kvt_request_builder *builder, uint64_t block);

/*
 * Adds a request with the blocks appended since the one before; returns its index for `after` and
 * `joins` of others, or KVT_REQUEST_NONE when there is too much: finishing says so then.
 * first_block and n_blocks are not looked at. `after` must have been added before and not arrive
 * later; what `joins` names must have an `after`, be added later and not arrive earlier, so it is
 * set with kvt_request_builder_get.
 */
uint32_t kvt_request_builder_add(kvt_request_builder *builder, const kvt_request *request);

/* A request added before, whose arrival, joins and so on may still be set. Until the next call. */
kvt_request *kvt_request_builder_get(kvt_request_builder *builder, uint32_t index);

/* Requests so far. */
uint32_t kvt_request_builder_count(const kvt_request_builder *builder);

/* Sets sessions from the blocks when it finishes: a request goes on the session of the one whose
 * last full block is the deepest of its own that was seen before, once for each. */
void kvt_request_builder_find_sessions(kvt_request_builder *builder);

/*
 * The trace: sorted by arrival (in the order added where equal), the first at 0, ids in the order
 * in which they are asked for, sessions without gaps. The builder is empty afterwards. NULL with an
 * error that begins with `path` when there are no requests or too many.
 */
kvt_request_trace *kvt_request_builder_finish(
	kvt_request_builder *builder, uint32_t block_tokens, const char *path, GError **error);

#endif
