/*
 * request_trace.h: what users asked of a service and when: request by request, the blocks of each
 * prompt, its lengths, and what it waited for. One form for every source; the compact file holds
 * the same records and is mapped, not read. It is not an attention trace (attention_trace.h) and
 * knows nothing of who serves the requests.
 */
#ifndef KVT_REQUEST_TRACE_H
#define KVT_REQUEST_TRACE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* No request: of kvt_request.after and .joins. */
#define KVT_REQUEST_NONE UINT32_MAX

/* Prompts and answers are shorter than this, in tokens. */
#define KVT_REQUEST_TOKENS_MAX (UINT32_C(1) << 30)

/* Times are at most this, 100 days in picoseconds; a kvt_time holds 106. */
#define KVT_REQUEST_TIME_MAX (INT64_C(100) * 86400 * 1000000000000)

enum {                                 /* kvt_request.flags */
	KVT_REQUEST_SUBAGENT = 1 << 0, /* asked by a program that another session started */
	KVT_REQUEST_FLAGS = 1,         /* all of them */
};

/*
 * One request; 64 bytes, also in the compact file, where numbers are little endian.
 *
 * Open loop: it arrives at `arrival`, whatever became of those before it.
 * Closed loop: it arrives `think` after the last of these has ended: its `after`, and every request
 * whose `joins` names it. One that waits for none arrives at `arrival`. A parent that starts three
 * sub-agents and goes on when all have answered is their first requests' `after`; the last request
 * of each `joins` the parent's next one.
 *
 * Blocks are of the prompt, in order. An id names a whole prefix: two requests have the same id at
 * the same place exactly when all of their tokens up to the end of that block are the same. A
 * source that names the partial block at the end, too, has n_blocks x block_tokens of up to a block
 * more than input_tokens; one that names full blocks alone leaves the last tokens without an id:
 * what has no id is shared with nothing. Where the source says nothing of blocks n_blocks is 0.
 */
typedef struct kvt_request {
	int64_t arrival;      /* ps since the trace began; never decreases */
	int64_t think;        /* ps from the end of what it waits for; 0 when it waits for none */
	int64_t latency;      /* ps it took where it was recorded; 0: not known */
	uint64_t first_block; /* into the trace's blocks; n_blocks of them */
	uint32_t n_blocks;
	uint32_t session;      /* conversation: its requests grow one another's prompt */
	uint32_t tenant;       /* whose it is */
	uint32_t after;        /* an earlier request, or KVT_REQUEST_NONE */
	uint32_t joins;        /* a later request, with an `after`, that waits for this one, too, or
				  KVT_REQUEST_NONE */
	uint32_t input_tokens; /* of the whole prompt, what is shared included */
	uint32_t output_tokens; /* to be generated; 0: the source recorded no answer */
	uint32_t flags;         /* KVT_REQUEST_SUBAGENT */
} kvt_request;

/*
 * A trace. All of it is constant, so threads may share it. Ids are dense, 0..n_ids-1, numbered in
 * the order in which they are first asked for. Memory that the compact file does not map is held
 * whole: 64 bytes a request and 4 a block.
 */
typedef struct kvt_request_trace {
	const kvt_request *requests; /* n_requests, in order of arrival; fewer than 2^32 - 1 */
	uint64_t n_requests;
	const uint32_t *blocks; /* n_blocks ids, all requests' together */
	uint64_t n_blocks;
	uint32_t n_ids;
	uint32_t block_tokens; /* 0 when there are no blocks */
	uint32_t n_sessions, n_tenants;
	const char *const *tenant_names; /* n_tenants */
	const char *source;              /* what it was read or made from, in words */
	struct kvt_request_memory *memory;
} kvt_request_trace;

/*
 * Opens a trace: the compact file, or any source that a reader knows, recognised by its content
 * (request_sources.h). The whole of it is checked: what is returned keeps every promise above.
 * NULL with an error of one line otherwise.
 */
kvt_request_trace *kvt_request_trace_open(const char *path, GError **error);

void kvt_request_trace_close(kvt_request_trace *trace);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_request_trace, kvt_request_trace_close)

/*
 * The compact file, little endian:
 *
 *      0  8 bytes    "kvtreq\r\n"
 *      8  u32        version, 1
 *     12  u32        bytes of this header, 128
 *     16  u64        bytes of the file
 *     24  u64        n_requests
 *     32  u64        n_blocks
 *     40  u32 x 4    n_ids, block_tokens, n_sessions, n_tenants
 *     56  u64        bytes of names
 *     64  u64        XXH3 (64 bits, seed 0) of what follows the header
 *     72  48 bytes   0
 *    120  u64        XXH3 of the 120 bytes before
 *    128  64 bytes x n_requests   kvt_request as above
 *      .  u32 x n_blocks          block ids, then 0 to a multiple of 8 bytes
 *      .  names                   source, then tenants' names, each ended by a 0; UTF-8
 */
bool kvt_request_trace_write(const kvt_request_trace *trace, const char *path, GError **error);

/* Whether every promise of this header holds; false with an error that begins with `path`. */
bool kvt_request_trace_check(const kvt_request_trace *trace, const char *path, GError **error);

#endif
