/*
 * request_agentic.h: who waited for whom in an agentic trace, from when each request began and
 * ended. The reader fills conversations; it knows no JSON.
 */
#ifndef KVT_REQUEST_AGENTIC_H
#define KVT_REQUEST_AGENTIC_H

#include "traces/request_builder.h"

typedef struct kvt_agentic_conversation kvt_agentic_conversation;

/* One request of a conversation, or a sub-agent that it started; times in ps of the trace. */
typedef struct kvt_agentic_item {
	int64_t start;
	int64_t latency, think; /* of a request, as recorded; -1: not recorded */
	int64_t end;            /* of a sub-agent: when its answer came */
	uint32_t request;       /* the builder's index */
	uint32_t output_tokens;
	kvt_agentic_conversation *conversation; /* of a sub-agent; NULL for a request */
	uint32_t place;                         /* in the file; set when it is linked */
} kvt_agentic_item;

struct kvt_agentic_conversation {
	int64_t base;     /* ps of the trace at which its own times begin */
	GArray *items;    /* kvt_agentic_item, in the order of the file */
	uint32_t session; /* of its requests */
	unsigned depth;   /* 0: not a sub-agent */
};

kvt_agentic_conversation *kvt_agentic_conversation_new(
	int64_t base, uint32_t session, unsigned depth);
void kvt_agentic_conversation_free(kvt_agentic_conversation *conversation);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_agentic_conversation, kvt_agentic_conversation_free)

/*
 * Sets after, joins and think of every request of a conversation that is nobody's sub-agent, and of
 * those within it. What begins waits for all that had ended then and that nothing else had waited
 * for; where all that is open still ran, it forks from what had ended last. So sub-agents begin
 * after the request that asked for them, and their parent goes on after the last of them.
 *
 * Times of a file are whole seconds, so something has ended when it did within a second of the
 * beginning. Where a request's latency was not recorded it is taken as its tokens at the mean speed
 * of the conversation's others, at most until the next begins, for think alone.
 */
void kvt_agentic_conversation_link(
	kvt_agentic_conversation *conversation, kvt_request_builder *builder);

#endif
