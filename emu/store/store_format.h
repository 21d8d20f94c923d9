/*
 * store_format.h: the bytes of a page store's files, to and from structs. Everything is little
 * endian and lies in whole 4 KiB blocks that carry a checksum seeded with the store's key, so that
 * blocks of another store, or page data that looks like a block, are not taken for one. Decoding
 * takes any bytes. It opens no files and keeps no state.
 *
 *   kvtier.store     superblock, its copy, mark of who has it open
 *   journal          pairs of equal blocks of entries (store_journal.h)
 *   NUMBER.segment   segment block, records, and once it is sealed an index and a trailer block
 *
 * On a block device these lie at places that store_device.c computes, and a table says which.
 */
#ifndef KVT_STORE_FORMAT_H
#define KVT_STORE_FORMAT_H

#include "emu/store/store.h"

/* Of all blocks; a store of another version is refused. */
#define KVT_STORE_VERSION 1u

/* --- The store's file --- */

void kvt_store_super_encode(const kvt_store_shape *shape, void *block);

/* 0; -EBADMSG: not a superblock, or damaged; -EPROTONOSUPPORT: of another version. */
int kvt_store_super_decode(const void *block, kvt_store_shape *shape);

/* Which boot of the machine has the store open for writing; "" for none. */
#define KVT_STORE_BOOT_LENGTH 64
void kvt_store_mark_encode(uint64_t key, const char *boot, void *block);
bool kvt_store_mark_decode(
	uint64_t key, const void *block, char boot[static KVT_STORE_BOOT_LENGTH]);

/* --- The table of a block device: what would be names in a directory --- */

/* Where a device holds one segment, or nothing. */
typedef struct kvt_store_place {
	uint64_t number; /* of the segment; 0: none */
	uint64_t bytes;  /* of it, as of a file */
} kvt_store_place;

typedef struct kvt_store_table {
	uint64_t sequence; /* of two tables the one with the higher one counts */
	uint32_t journal;  /* which half of the journal's room is the journal; 2: none */
	uint64_t n;        /* places, which the shape of the store gives */
	kvt_store_place *places;
} kvt_store_table;

/* Whole blocks. */
uint64_t kvt_store_table_bytes(uint64_t n);

/* kvt_store_table_bytes(n) bytes; decode has `n` and `places` set, and false leaves them as they
 * were. */
void kvt_store_table_encode(uint64_t key, const kvt_store_table *table, void *blocks);
bool kvt_store_table_decode(uint64_t key, const void *blocks, kvt_store_table *table);

/* --- Segments --- */

void kvt_store_segment_encode(uint64_t key, uint64_t number, void *block);
bool kvt_store_segment_decode(uint64_t key, const void *block, uint64_t *number);

/* A record but for its checksums, and where it lies. */
typedef struct kvt_store_header {
	kvt_store_run run;
	uint64_t generation;
	uint64_t segment;
	uint64_t offset; /* of the header in the segment */
} kvt_store_header;

/* Whole blocks. The run must be one that kvt_store_run_possible takes. */
uint64_t kvt_store_header_bytes(const kvt_store_run *run);
uint64_t kvt_store_payload_bytes(const kvt_store_run *run);

/* Whether a record can have the run: valid, not too long, its bytes countable. */
bool kvt_store_run_possible(const kvt_store_run *run);

/* kvt_store_header_bytes bytes. */
void kvt_store_header_encode(
	uint64_t key, const kvt_store_header *header, const uint64_t *checksums, void *blocks);

/* The first block alone: says how many there are. */
bool kvt_store_header_peek(uint64_t key, const void *block, kvt_store_header *header);

/* All blocks of a header that peek took; checksums has [n_pages]. */
bool kvt_store_header_decode(
	uint64_t key, const kvt_store_header *header, const void *blocks, uint64_t *checksums);

/* A record's part of a sealed segment's index. */
uint64_t kvt_store_index_bytes(uint64_t n_pages);
void *kvt_store_index_encode(
	const kvt_store_header *header, const uint64_t *checksums, void *index);

/*
 * The record at *at of an index of `size` bytes, and *at moved behind it; *checksums points into
 * the index, little endian and not aligned (kvt_store_index_checksums). False at the end, with *at
 * equal to size, or where no record is.
 */
bool kvt_store_index_next(const void *index, uint64_t size, uint64_t *at, kvt_store_header *header,
	const void **checksums);
void kvt_store_index_checksums(const void *from, uint64_t n_pages, uint64_t *checksums);

/* The last block of a sealed segment. */
typedef struct kvt_store_trailer {
	uint64_t segment, records;
	uint64_t index_offset, index_bytes; /* the index is padded to blocks */
	uint64_t index_hash;
} kvt_store_trailer;

uint64_t kvt_store_index_hash(uint64_t key, const void *index, uint64_t size);
void kvt_store_trailer_encode(uint64_t key, const kvt_store_trailer *trailer, void *block);
bool kvt_store_trailer_decode(uint64_t key, const void *block, kvt_store_trailer *trailer);

/* --- The journal --- */

typedef enum kvt_store_entry_kind {
	KVT_STORE_ENTRY_FLOOR = 1,   /* pages of the run older than `generation` are void */
	KVT_STORE_ENTRY_ADDED = 2,   /* there is a segment `number` */
	KVT_STORE_ENTRY_REMOVED = 3, /* there is not any longer */
} kvt_store_entry_kind;

typedef struct kvt_store_entry {
	kvt_store_entry_kind kind;
	kvt_store_run run; /* page_bytes is 0 */
	uint64_t generation, number;
} kvt_store_entry;

/* Entries that one block holds. */
#define KVT_STORE_JOURNAL_ENTRIES 72u

typedef struct kvt_store_journal_block {
	uint64_t sequence;                     /* 0, 1, 2... from the beginning of the file */
	uint64_t next_generation, next_number; /* of the store when it was written */
	unsigned n;
	kvt_store_entry entries[KVT_STORE_JOURNAL_ENTRIES];
} kvt_store_journal_block;

void kvt_store_journal_encode(uint64_t key, const kvt_store_journal_block *from, void *block);
bool kvt_store_journal_decode(uint64_t key, const void *block, kvt_store_journal_block *to);

#endif
