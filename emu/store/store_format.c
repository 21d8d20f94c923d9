/*
 * store_format.c: the bytes of a page store's files. Every block begins with a magic, the version
 * and the hash of the block (with 0 in the hash's place) seeded with the store's key.
 */
#include "emu/store/store_format.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC_SUPER 0x7370757374766b01u
#define MAGIC_MARK 0x6b72616d74766b01u
#define MAGIC_TABLE 0x656c626174766b01u
#define MAGIC_SEGMENT 0x6d67657374766b01u
#define MAGIC_RECORD 0x6472636574766b01u
#define MAGIC_TRAILER 0x6c69617274766b01u
#define MAGIC_JOURNAL 0x6c6e726a74766b01u

/* The superblock is what the key is read from: its own hash has this one. */
#define SUPER_KEY 0x6b76746965720001u

enum {
	HASH_AT = 16,
	BODY_AT = 24, /* magic 8, version 4, reserved 4, hash 8 */
	RECORD_PAYLOAD_HASH =
		24,         /* of the blocks after the first, as the first field of its body */
	RECORD_FIXED = 128, /* bytes of a record header before its checksums */
	INDEX_FIXED = 72,
	TABLE_FIXED = 64, /* bytes of a table before its places */
	PLACE_BYTES = 16,
	ENTRY_BYTES = 56,
};

G_STATIC_ASSERT(BODY_AT + 32 + KVT_STORE_JOURNAL_ENTRIES * ENTRY_BYTES <= KVT_STORE_BLOCK);

/* Bytes that are written or read one field after another. */
typedef struct cursor {
	uint8_t *at;
} cursor;

static void put32(cursor *c, uint32_t value)
{
	value = GUINT32_TO_LE(value);
	memcpy(c->at, &value, sizeof(value));
	c->at += sizeof(value);
}

static void put64(cursor *c, uint64_t value)
{
	value = GUINT64_TO_LE(value);
	memcpy(c->at, &value, sizeof(value));
	c->at += sizeof(value);
}

static uint32_t get32(cursor *c)
{
	uint32_t value;
	memcpy(&value, c->at, sizeof(value));
	c->at += sizeof(value);
	return GUINT32_FROM_LE(value);
}

static uint64_t get64(cursor *c)
{
	uint64_t value;
	memcpy(&value, c->at, sizeof(value));
	c->at += sizeof(value);
	return GUINT64_FROM_LE(value);
}

static uint64_t block_hash(uint64_t key, const uint8_t *block)
{
	uint8_t copy[KVT_STORE_BLOCK];
	memcpy(copy, block, sizeof(copy));
	memset(copy + HASH_AT, 0, sizeof(uint64_t));
	return XXH3_64bits_withSeed(copy, sizeof(copy), key);
}

/* Begins a block; returns where its body goes. */
static cursor block_begin(void *block, uint64_t magic)
{
	memset(block, 0, KVT_STORE_BLOCK);
	cursor c = { block };
	put64(&c, magic);
	put32(&c, KVT_STORE_VERSION);
	c.at = (uint8_t *)block + BODY_AT;
	return c;
}

static void block_end(void *block, uint64_t key)
{
	cursor c = { (uint8_t *)block + HASH_AT };
	put64(&c, block_hash(key, block));
}

/* Whether it is a sound block of that kind and our version. */
static bool block_good(const void *block, uint64_t magic, uint64_t key, cursor *body)
{
	cursor c = { (uint8_t *)block };
	if (get64(&c) != magic || get32(&c) != KVT_STORE_VERSION)
		return false;
	c.at = (uint8_t *)block + HASH_AT;
	if (get64(&c) != block_hash(key, block))
		return false;
	body->at = (uint8_t *)block + BODY_AT;
	return true;
}

void kvt_store_super_encode(const kvt_store_shape *shape, void *block)
{
	cursor c = block_begin(block, MAGIC_SUPER);
	put64(&c, shape->key);
	put64(&c, shape->capacity);
	put64(&c, shape->segment_bytes);
	put32(&c, shape->sync);
	block_end(block, SUPER_KEY);
}

int kvt_store_super_decode(const void *block, kvt_store_shape *shape)
{
	cursor c = { (uint8_t *)block };
	if (get64(&c) != MAGIC_SUPER)
		return -EBADMSG;
	uint32_t version = get32(&c);
	c.at = (uint8_t *)block + HASH_AT;
	if (get64(&c) != block_hash(SUPER_KEY, block))
		return -EBADMSG;
	if (version != KVT_STORE_VERSION)
		return -EPROTONOSUPPORT;
	shape->key = get64(&c);
	shape->capacity = get64(&c);
	shape->segment_bytes = get64(&c);
	uint32_t sync = get32(&c);
	shape->sync = (kvt_store_sync)sync;
	return sync > KVT_STORE_SYNC_DATA ? -EBADMSG : 0;
}

void kvt_store_mark_encode(uint64_t key, const char *boot, void *block)
{
	cursor c = block_begin(block, MAGIC_MARK);
	g_strlcpy((char *)c.at, boot, KVT_STORE_BOOT_LENGTH);
	block_end(block, key);
}

bool kvt_store_mark_decode(uint64_t key, const void *block, char boot[static KVT_STORE_BOOT_LENGTH])
{
	cursor c;
	if (!block_good(block, MAGIC_MARK, key, &c))
		return false;
	memcpy(boot, c.at, KVT_STORE_BOOT_LENGTH);
	boot[KVT_STORE_BOOT_LENGTH - 1] = '\0';
	return true;
}

uint64_t kvt_store_table_bytes(uint64_t n)
{
	return (TABLE_FIXED + n * PLACE_BYTES + KVT_STORE_BLOCK - 1) / KVT_STORE_BLOCK *
	       KVT_STORE_BLOCK;
}

static uint64_t places_hash(uint64_t key, const void *blocks, uint64_t n)
{
	return XXH3_64bits_withSeed((const uint8_t *)blocks + TABLE_FIXED, n * PLACE_BYTES, key);
}

void kvt_store_table_encode(uint64_t key, const kvt_store_table *table, void *blocks)
{
	memset(blocks, 0, kvt_store_table_bytes(table->n));
	cursor places = { (uint8_t *)blocks + TABLE_FIXED };
	for (uint64_t i = 0; i < table->n; i++) {
		put64(&places, table->places[i].number);
		put64(&places, table->places[i].bytes);
	}
	/* the places that are in the first block are under its own hash, too: it is made last */
	uint64_t hash = places_hash(key, blocks, table->n);
	cursor c = { blocks };
	put64(&c, MAGIC_TABLE);
	put32(&c, KVT_STORE_VERSION);
	c.at = (uint8_t *)blocks + BODY_AT;
	put64(&c, table->sequence);
	put64(&c, table->n);
	put64(&c, hash);
	put32(&c, table->journal);
	block_end(blocks, key);
}

bool kvt_store_table_decode(uint64_t key, const void *blocks, kvt_store_table *table)
{
	cursor c;
	if (!block_good(blocks, MAGIC_TABLE, key, &c))
		return false;
	uint64_t sequence = get64(&c), n = get64(&c), hash = get64(&c);
	uint32_t journal = get32(&c);
	if (n != table->n || journal > 2 || hash != places_hash(key, blocks, n))
		return false;
	table->sequence = sequence;
	table->journal = journal;
	c.at = (uint8_t *)blocks + TABLE_FIXED;
	for (uint64_t i = 0; i < n; i++) {
		table->places[i].number = get64(&c);
		table->places[i].bytes = get64(&c);
	}
	return true;
}

void kvt_store_segment_encode(uint64_t key, uint64_t number, void *block)
{
	cursor c = block_begin(block, MAGIC_SEGMENT);
	put64(&c, number);
	block_end(block, key);
}

bool kvt_store_segment_decode(uint64_t key, const void *block, uint64_t *number)
{
	cursor c;
	if (!block_good(block, MAGIC_SEGMENT, key, &c))
		return false;
	*number = get64(&c);
	return true;
}

static uint64_t blocks_of(uint64_t bytes)
{
	return (bytes + KVT_STORE_BLOCK - 1) / KVT_STORE_BLOCK * KVT_STORE_BLOCK;
}

bool kvt_store_run_possible(const kvt_store_run *run)
{
	return kvt_extent_valid(&run->pages) && run->pages.n_pages <= KVT_STORE_RUN_PAGES &&
	       run->pages.page_bytes <= (UINT64_C(1) << 40) / run->pages.n_pages;
}

uint64_t kvt_store_header_bytes(const kvt_store_run *run)
{
	return blocks_of(RECORD_FIXED + run->pages.n_pages * sizeof(uint64_t));
}

uint64_t kvt_store_payload_bytes(const kvt_store_run *run)
{
	return blocks_of(kvt_extent_bytes(&run->pages));
}

static void put_run(cursor *c, const kvt_store_run *run)
{
	put64(c, run->model);
	put32(c, run->tenant);
	put32(c, run->pages.context);
	put32(c, run->pages.layer);
	put64(c, run->pages.first_page);
	put64(c, run->pages.n_pages);
}

static void get_run(cursor *c, kvt_store_run *run)
{
	run->model = get64(c);
	run->tenant = get32(c);
	run->pages.context = get32(c);
	run->pages.layer = get32(c);
	run->pages.first_page = get64(c);
	run->pages.n_pages = get64(c);
}

/* What a record's header and its part of an index have in common: 68 bytes. */
static void put_record(cursor *c, const kvt_store_header *header)
{
	put_run(c, &header->run);
	put64(c, header->run.pages.page_bytes);
	put64(c, header->generation);
	put64(c, header->segment);
	put64(c, header->offset);
}

static bool get_record(cursor *c, kvt_store_header *header)
{
	get_run(c, &header->run);
	header->run.pages.page_bytes = get64(c);
	header->generation = get64(c);
	header->segment = get64(c);
	header->offset = get64(c);
	return kvt_store_run_possible(&header->run) && header->generation > 0 &&
	       header->generation < UINT64_MAX / 2;
}

void kvt_store_header_encode(
	uint64_t key, const kvt_store_header *header, const uint64_t *checksums, void *blocks)
{
	uint64_t size = kvt_store_header_bytes(&header->run);
	cursor c = block_begin(blocks, MAGIC_RECORD);
	memset((uint8_t *)blocks + KVT_STORE_BLOCK, 0, size - KVT_STORE_BLOCK);
	c.at = (uint8_t *)blocks + RECORD_PAYLOAD_HASH + sizeof(uint64_t);
	put_record(&c, header);
	c.at = (uint8_t *)blocks + RECORD_FIXED;
	for (uint64_t i = 0; i < header->run.pages.n_pages; i++)
		put64(&c, checksums[i]);
	c.at = (uint8_t *)blocks + RECORD_PAYLOAD_HASH;
	put64(&c, XXH3_64bits_withSeed(
			  (uint8_t *)blocks + KVT_STORE_BLOCK, size - KVT_STORE_BLOCK, key));
	block_end(blocks, key);
}

bool kvt_store_header_peek(uint64_t key, const void *block, kvt_store_header *header)
{
	cursor c;
	if (!block_good(block, MAGIC_RECORD, key, &c))
		return false;
	c.at += sizeof(uint64_t);
	return get_record(&c, header);
}

bool kvt_store_header_decode(
	uint64_t key, const kvt_store_header *header, const void *blocks, uint64_t *checksums)
{
	uint64_t size = kvt_store_header_bytes(&header->run);
	cursor c = { (uint8_t *)blocks + RECORD_PAYLOAD_HASH };
	if (get64(&c) != XXH3_64bits_withSeed((const uint8_t *)blocks + KVT_STORE_BLOCK,
				 size - KVT_STORE_BLOCK, key))
		return false;
	kvt_store_index_checksums(
		(const uint8_t *)blocks + RECORD_FIXED, header->run.pages.n_pages, checksums);
	return true;
}

uint64_t kvt_store_index_bytes(uint64_t n_pages)
{
	return INDEX_FIXED + n_pages * sizeof(uint64_t);
}

void *kvt_store_index_encode(const kvt_store_header *header, const uint64_t *checksums, void *index)
{
	cursor c = { index };
	put_record(&c, header);
	put32(&c, 0);
	for (uint64_t i = 0; i < header->run.pages.n_pages; i++)
		put64(&c, checksums[i]);
	return c.at;
}

bool kvt_store_index_next(const void *index, uint64_t size, uint64_t *at, kvt_store_header *header,
	const void **checksums)
{
	if (size - *at < INDEX_FIXED)
		return false;
	cursor c = { (uint8_t *)index + *at };
	if (!get_record(&c, header) ||
		size - *at < kvt_store_index_bytes(header->run.pages.n_pages))
		return false;
	*checksums = (const uint8_t *)index + *at + INDEX_FIXED;
	*at += kvt_store_index_bytes(header->run.pages.n_pages);
	return true;
}

void kvt_store_index_checksums(const void *from, uint64_t n_pages, uint64_t *checksums)
{
	cursor c = { (uint8_t *)from };
	for (uint64_t i = 0; i < n_pages; i++)
		checksums[i] = get64(&c);
}

uint64_t kvt_store_index_hash(uint64_t key, const void *index, uint64_t size)
{
	return XXH3_64bits_withSeed(index, size, key);
}

void kvt_store_trailer_encode(uint64_t key, const kvt_store_trailer *trailer, void *block)
{
	cursor c = block_begin(block, MAGIC_TRAILER);
	put64(&c, trailer->segment);
	put64(&c, trailer->records);
	put64(&c, trailer->index_offset);
	put64(&c, trailer->index_bytes);
	put64(&c, trailer->index_hash);
	block_end(block, key);
}

bool kvt_store_trailer_decode(uint64_t key, const void *block, kvt_store_trailer *trailer)
{
	cursor c;
	if (!block_good(block, MAGIC_TRAILER, key, &c))
		return false;
	trailer->segment = get64(&c);
	trailer->records = get64(&c);
	trailer->index_offset = get64(&c);
	trailer->index_bytes = get64(&c);
	trailer->index_hash = get64(&c);
	return true;
}

void kvt_store_journal_encode(uint64_t key, const kvt_store_journal_block *from, void *block)
{
	g_assert(from->n <= KVT_STORE_JOURNAL_ENTRIES);
	cursor c = block_begin(block, MAGIC_JOURNAL);
	put64(&c, from->sequence);
	put64(&c, from->next_generation);
	put64(&c, from->next_number);
	put64(&c, from->n);
	for (unsigned i = 0; i < from->n; i++) {
		const kvt_store_entry *entry = &from->entries[i];
		put32(&c, entry->kind);
		put_run(&c, &entry->run);
		put64(&c, entry->generation);
		put64(&c, entry->number);
	}
	block_end(block, key);
}

bool kvt_store_journal_decode(uint64_t key, const void *block, kvt_store_journal_block *to)
{
	cursor c;
	if (!block_good(block, MAGIC_JOURNAL, key, &c))
		return false;
	to->sequence = get64(&c);
	to->next_generation = get64(&c);
	to->next_number = get64(&c);
	uint64_t n = get64(&c);
	if (n > KVT_STORE_JOURNAL_ENTRIES || to->next_generation >= UINT64_MAX / 2 ||
		to->next_number >= UINT64_MAX / 2)
		return false;
	to->n = (unsigned)n;
	for (unsigned i = 0; i < to->n; i++) {
		kvt_store_entry *entry = &to->entries[i];
		uint32_t kind = get32(&c);
		get_run(&c, &entry->run);
		entry->run.pages.page_bytes = 0;
		entry->generation = get64(&c);
		entry->number = get64(&c);
		if (kind < KVT_STORE_ENTRY_FLOOR || kind > KVT_STORE_ENTRY_REMOVED)
			return false;
		entry->kind = (kvt_store_entry_kind)kind;
		const kvt_extent *pages = &entry->run.pages;
		if (kind == KVT_STORE_ENTRY_FLOOR &&
			(pages->n_pages == 0 || pages->first_page > UINT64_MAX - pages->n_pages ||
				entry->generation >= UINT64_MAX / 2))
			return false;
	}
	return true;
}
