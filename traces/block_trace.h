/*
 * block_trace.h: which blocks were asked for, one after another, by dense ids: what caches alone
 * are compared on. It knows neither requests' lengths nor their times; request_trace.h does.
 */
#ifndef KVT_BLOCK_TRACE_H
#define KVT_BLOCK_TRACE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* A trace has fewer accesses than this. */
#define KVT_BLOCK_ACCESSES_MAX UINT32_MAX

/* All of it is constant. Ids are numbered in the order in which blocks are first asked for. */
typedef struct kvt_block_trace {
	const uint32_t *blocks; /* n_accesses ids below n_blocks */
	const uint32_t *bytes;  /* n_accesses, of the block then; NULL: always block_bytes */
	uint64_t n_accesses;    /* 1 at least */
	uint32_t n_blocks;
	uint32_t block_bytes; /* 0: not known, or not always the same */
	uint64_t n_empty;     /* accesses to no bytes, which are left out */
	struct kvt_block_trace_memory *memory;
} kvt_block_trace;

typedef enum kvt_block_source {
	KVT_BLOCK_SOURCE_AUTO, /* by its content */
	KVT_BLOCK_SOURCE_ORACLE,
	KVT_BLOCK_SOURCE_TEXT,
	KVT_BLOCK_SOURCE_REQUESTS,
} kvt_block_source;

/* "auto", "oracle", "text", "requests", NULL: a word's index is its kvt_block_source. */
extern const char *const kvt_block_source_names[];

/*
 * Opens a trace of one of these forms:
 *   oracle    libCacheSim's oracleGeneral: 24 bytes an access, little endian, packed: u32 time, u64
 *             id, u32 bytes, i64 next access. Times and next accesses are not used.
 *   text      an id a line, or an id and bytes, or columns that a first line names (id, obj_id,
 *             object_id, block, block_id or key; bytes, size, obj_size or object_size); cut by
 *             commas, tabs, or spaces; lines that begin with # are left out. An id is a number
 *             below 2^64, or else any word, of which its XXH3 of 64 bits stands for it.
 *   requests  request_trace.h: each block of each prompt, in order.
 * NULL with an error of one line otherwise.
 */
kvt_block_trace *kvt_block_trace_open(const char *path, kvt_block_source source, GError **error);

void kvt_block_trace_close(kvt_block_trace *trace);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_block_trace, kvt_block_trace_close)

/* Writes a trace in the form of oracleGeneral, with an access a millisecond and ids from 1; blocks
 * of unknown size have 1 byte. */
bool kvt_block_trace_write(const kvt_block_trace *trace, const char *path, GError **error);

/* next[i], for n_accesses: the next access to the same block as i's, UINT32_MAX: none. */
void kvt_block_trace_next_uses(const kvt_block_trace *trace, uint32_t *next);

#endif
