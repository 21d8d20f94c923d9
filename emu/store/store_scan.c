/*
 * store_scan.c: a segment's records: from the index of a sealed one, and by reading one whole that
 * was not sealed or whose index is damaged. Neither trusts a byte that it has not checked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "emu/store/store_internal.h"

enum { WINDOW_BYTES = 1 << 20 };

/* Whether the record's place is one within the segment's first `end` bytes. */
static bool placed(const kvt_store_file *file, const kvt_store_header *header, uint64_t end)
{
	uint64_t bytes =
		kvt_store_header_bytes(&header->run) + kvt_store_payload_bytes(&header->run);
	return header->segment == file->number && header->offset % KVT_STORE_BLOCK == 0 &&
	       header->offset >= KVT_STORE_BLOCK && header->offset <= end &&
	       bytes <= end - header->offset;
}

static bool index_good(
	const kvt_store_file *file, const kvt_store_trailer *trailer, const uint8_t *index)
{
	uint64_t at = 0, records = 0;
	kvt_store_header header;
	const void *checksums;
	while (kvt_store_index_next(index, trailer->index_bytes, &at, &header, &checksums)) {
		if (!placed(file, &header, trailer->index_offset))
			return false;
		records++;
	}
	return at == trailer->index_bytes && records == trailer->records;
}

static void take_index(kvt_store *store, kvt_store_file *file, const kvt_store_trailer *trailer,
	const uint8_t *index)
{
	uint64_t at = 0;
	kvt_store_header header;
	const void *checksums;
	while (kvt_store_index_next(index, trailer->index_bytes, &at, &header, &checksums)) {
		kvt_store_record *record = kvt_store_record_new(
			store, file, &header.run, header.offset, header.generation);
		kvt_store_index_checksums(checksums, record->n_pages, record->checksums);
	}
	file->used = trailer->index_offset;
}

/* Reads whole blocks; what lies behind the end of the file is an error. */
static int read_blocks(kvt_store *store, int fd, void *data, uint64_t size, uint64_t offset)
{
	store->count.scanned_bytes += size;
	return kvt_store_read_all(store->io, fd, data, size, offset);
}

bool kvt_store_read_index(kvt_store *store, kvt_store_file *file, uint64_t size)
{
	kvt_store_trailer trailer;
	if (size < 2 * KVT_STORE_BLOCK || size % KVT_STORE_BLOCK != 0)
		return false;
	uint64_t last = size - KVT_STORE_BLOCK;
	uint8_t *block = kvt_store_buffer_new(KVT_STORE_BLOCK);
	bool good = read_blocks(store, file->fd, block, KVT_STORE_BLOCK, last) == 0 &&
		    kvt_store_trailer_decode(store->shape.key, block, &trailer) &&
		    trailer.segment == file->number &&
		    trailer.index_offset % KVT_STORE_BLOCK == 0 &&
		    trailer.index_offset >= KVT_STORE_BLOCK && trailer.index_offset <= last &&
		    trailer.index_bytes <= last - trailer.index_offset;
	free(block);
	if (!good)
		return false;
	uint64_t bytes = last - trailer.index_offset;
	uint8_t *index = kvt_store_buffer_new(MAX(bytes, KVT_STORE_BLOCK));
	good = read_blocks(store, file->fd, index, bytes, trailer.index_offset) == 0 &&
	       kvt_store_index_hash(store->shape.key, index, trailer.index_bytes) ==
		       trailer.index_hash &&
	       index_good(file, &trailer, index);
	if (good)
		take_index(store, file, &trailer, index);
	free(index);
	return good;
}

int kvt_store_hash_pages(kvt_store *store, int fd, uint64_t offset, uint64_t page_bytes,
	uint64_t n_pages, uint64_t *hashes)
{
	uint64_t most = n_pages * page_bytes + 2 * KVT_STORE_BLOCK;
	uint8_t *window = kvt_store_buffer_new(MIN(most, WINDOW_BYTES));
	XXH3_state_t *state = XXH3_createState();
	uint64_t end = offset + n_pages * page_bytes, left = page_bytes, page = 0;
	int status = 0;
	XXH3_64bits_reset(state);
	for (uint64_t at = offset; at < end && status == 0;) {
		uint64_t base = at / KVT_STORE_BLOCK * KVT_STORE_BLOCK;
		uint64_t stop = MIN(end, base + WINDOW_BYTES);
		uint64_t blocks = (stop - base + KVT_STORE_BLOCK - 1) / KVT_STORE_BLOCK;
		status = read_blocks(store, fd, window, blocks * KVT_STORE_BLOCK, base);
		while (at < stop && status == 0) {
			uint64_t piece = MIN(left, stop - at);
			XXH3_64bits_update(state, window + (at - base), piece);
			at += piece;
			left -= piece;
			if (left == 0) {
				hashes[page++] = XXH3_64bits_digest(state);
				XXH3_64bits_reset(state);
				left = page_bytes;
			}
		}
	}
	XXH3_freeState(state);
	free(window);
	return status;
}

/* A segment that is being read from its beginning to its end. */
typedef struct scan {
	kvt_store *store;
	kvt_store_file *file;
	uint64_t size; /* whole blocks */
	uint8_t *window;
	uint64_t base, filled; /* what of the file the window holds */
	uint64_t wanted;       /* bytes to read next: more and more where no record is found */
} scan;

/* The block at `offset`; NULL: it cannot be read. */
static const uint8_t *block_at(scan *s, uint64_t offset)
{
	if (offset < s->base || offset >= s->base + s->filled) {
		s->base = offset;
		s->filled = MIN(s->wanted, s->size - offset);
		int status = read_blocks(s->store, s->file->fd, s->window, s->filled, offset);
		if (status < 0) {
			/* a bad place takes no more with it than must be */
			s->filled = KVT_STORE_BLOCK;
			status = read_blocks(
				s->store, s->file->fd, s->window, KVT_STORE_BLOCK, offset);
		}
		if (status < 0) {
			s->filled = 0;
			s->file->damaged = true;
			return NULL;
		}
	}
	return s->window + (offset - s->base);
}

static bool read_header(scan *s, const kvt_store_header *header, uint64_t *checksums)
{
	uint64_t bytes = kvt_store_header_bytes(&header->run);
	uint8_t *blocks = kvt_store_buffer_new(bytes);
	bool good = read_blocks(s->store, s->file->fd, blocks, bytes, header->offset) == 0 &&
		    kvt_store_header_decode(s->store->shape.key, header, blocks, checksums);
	free(blocks);
	return good;
}

/* Takes the record if all of it is there as it was written. */
static bool take_record(scan *s, const kvt_store_header *header)
{
	const kvt_extent *pages = &header->run.pages;
	g_autofree uint64_t *checksums = g_new(uint64_t, pages->n_pages);
	g_autofree uint64_t *hashes = g_new(uint64_t, pages->n_pages);
	if (!read_header(s, header, checksums))
		return false;
	uint64_t payload = header->offset + kvt_store_header_bytes(&header->run);
	if (kvt_store_hash_pages(s->store, s->file->fd, payload, pages->page_bytes, pages->n_pages,
		    hashes) < 0 ||
		memcmp(hashes, checksums, pages->n_pages * sizeof(*hashes)) != 0)
		return false;
	kvt_store_record *record = kvt_store_record_new(
		s->store, s->file, &header->run, header->offset, header->generation);
	memcpy(record->checksums, checksums, pages->n_pages * sizeof(*checksums));
	return true;
}

/* Where the next block that was ever written may be: most of a segment may be room that was never
 * used, of which file systems know without reading. */
static uint64_t next_data(const scan *s, uint64_t at)
{
	if (at >= s->base && at < s->base + s->filled)
		return at;
	off_t data = lseek(s->file->fd, (off_t)at, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? s->size : at;
	return MAX(at, (uint64_t)data / KVT_STORE_BLOCK * KVT_STORE_BLOCK);
}

void kvt_store_scan(kvt_store *store, kvt_store_file *file, uint64_t size)
{
	scan s = { .store = store,
		.file = file,
		.size = size / KVT_STORE_BLOCK * KVT_STORE_BLOCK,
		.wanted = KVT_STORE_BLOCK,
		.window = kvt_store_buffer_new(WINDOW_BYTES) };
	file->used = KVT_STORE_BLOCK;
	for (uint64_t at = KVT_STORE_BLOCK; (at = next_data(&s, at)) < s.size;) {
		kvt_store_header header;
		const uint8_t *block = block_at(&s, at);
		if (!block || !kvt_store_header_peek(store->shape.key, block, &header) ||
			header.offset != at || header.segment != file->number) {
			at += KVT_STORE_BLOCK; /* its header was not written, or is damaged */
			if (at >= s.base + s.filled)
				s.wanted = MIN(2 * s.wanted, WINDOW_BYTES);
			continue;
		}
		uint64_t bytes =
			kvt_store_header_bytes(&header.run) + kvt_store_payload_bytes(&header.run);
		store->generation = MAX(store->generation, header.generation + 1);
		if (placed(file, &header, s.size) && take_record(&s, &header))
			file->used = at + bytes;
		else
			store->count.rejected_records++;
		/* the room was the record's, whatever has become of it */
		s.wanted = KVT_STORE_BLOCK;
		at += MIN(bytes, s.size - at);
	}
	free(s.window);
}
