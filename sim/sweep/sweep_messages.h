/*
 * sweep_messages.h: what ranks of a sweep say to each other. A message is a head and a body; bodies
 * begin 8-byte aligned.
 */
#ifndef KVT_SWEEP_MESSAGES_H
#define KVT_SWEEP_MESSAGES_H

#include <stdint.h>

#include "sim/sweep/sweep_ranks.h"

typedef enum kvt_sweep_message_kind {
	/* to rank 0 */
	KVT_SWEEP_HELLO = 1, /* body: the identity of the sweep */
	KVT_SWEEP_RESULTS,   /* body: frames; may be empty */
	KVT_SWEEP_ENDED,     /* nothing more will come */
	KVT_SWEEP_REFUSED,   /* the same, and why */
	/* from rank 0 */
	KVT_SWEEP_RANGES, /* body: kvt_sweep_range; none: there are no more */
	KVT_SWEEP_STOP,   /* what has not begun is not wanted any more */
} kvt_sweep_message_kind;

typedef struct kvt_sweep_message_head {
	uint32_t kind;
	uint32_t wanted; /* HELLO, RESULTS: points that the rank asks for */
	uint64_t unused;
} kvt_sweep_message_head;

/* A message without a body yet. */
static inline GByteArray *kvt_sweep_message_new(kvt_sweep_message_kind kind, uint32_t wanted)
{
	const kvt_sweep_message_head head = { kind, wanted, 0 };
	GByteArray *message = g_byte_array_new();
	return g_byte_array_append(message, (const guint8 *)&head, sizeof head);
}

static inline const kvt_sweep_message_head *kvt_sweep_message_read(
	const GByteArray *message, const void **body, size_t *size)
{
	g_assert(message->len >= sizeof(kvt_sweep_message_head));
	*body = message->data + sizeof(kvt_sweep_message_head);
	*size = message->len - sizeof(kvt_sweep_message_head);
	return (const kvt_sweep_message_head *)message->data;
}

#endif
