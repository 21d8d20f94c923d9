/*
 * remote_protocol.c: records as bytes and back. Every record is a multiple of 8 bytes long and has
 * one way to be written, so that what decodes encodes to the same bytes. It sends nothing.
 *
 *   every record  u16 type, u8 priority, u8 0, u32 length (with this), u64 id
 *   FETCH         run, u64 address, u32 key, u32 0
 *   RELEASE       u32 n, u32 0, u64 leases[n]
 *   RESERVE       run
 *   COMMIT        u64 ticket, u32 n, u32 0, u64 checksums[n]
 *   ABORT         u64 ticket
 *   DISCARD       run
 *   LIST          u64 cursor
 *   FETCHED       i32 status, u32 n, u32 m, u32 0, pieces[n], u64 checksums[m]
 *   RESERVED      i32 status, u32 n, u64 ticket, pieces[n]
 *   COMMITTED     i32 status, u32 0
 *   DISCARDED     i32 status, u32 0, u64 pages
 *   LISTED        i32 status, u32 n, u64 cursor, runs[n]
 *   a run         u32 context, u32 layer, u64 first_page, u64 n_pages, u64 page_bytes
 *   a piece       u64 address, u64 lease, u32 key, u32 n_pages
 */
#include "emu/remote/remote_protocol.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "emu/fabric/fabric.h"

enum {
	HEADER_BYTES = 16,
	RUN_BYTES = 32,
	PIECE_BYTES = 24,
	HELLO_BYTES = 36,
	WELCOME_BYTES = 36,
	REFUSAL_BYTES = 8,
	STATUS_LEAST = -4095, /* errnos end there */
};

/* "kvtr", of a client; "kvtw" and "kvtn" of a node that lets it in or does not. */
static const uint32_t HELLO_MARK = 0x7274766b, WELCOME_MARK = 0x7774766b, REFUSAL_MARK = 0x6e74766b;

G_STATIC_ASSERT((int)HELLO_BYTES <= (int)KVT_FABRIC_HELLO);
G_STATIC_ASSERT((int)WELCOME_BYTES <= (int)KVT_FABRIC_WELCOME);
/* any record fits in a message */
G_STATIC_ASSERT(HEADER_BYTES + 16 + (int)KVT_REMOTE_PIECES * PIECE_BYTES + 8 * KVT_REMOTE_PAGES <=
		(int)KVT_REMOTE_MESSAGE);
G_STATIC_ASSERT(HEADER_BYTES + 16 + RUN_BYTES * KVT_REMOTE_RUNS <= (int)KVT_REMOTE_MESSAGE);
G_STATIC_ASSERT(HEADER_BYTES + 8 + 8 * KVT_REMOTE_LEASES <= (int)KVT_REMOTE_MESSAGE);

/* --- Numbers --- */

typedef struct writer {
	uint8_t *at;
} writer;

static void put(writer *w, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*w->at++ = (uint8_t)(value >> (8 * i));
}

static void put16(writer *w, uint16_t value)
{
	put(w, value, 2);
}

static void put32(writer *w, uint32_t value)
{
	put(w, value, 4);
}

static void put64(writer *w, uint64_t value)
{
	put(w, value, 8);
}

static void put_numbers(writer *w, const uint64_t *numbers, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		put64(w, numbers[i]);
}

/* Reads within its bytes; `bad` once it was asked for more, or for something that may not be. */
typedef struct parser {
	const uint8_t *at, *end;
	bool bad;
} parser;

static uint64_t get(parser *p, unsigned bytes)
{
	uint64_t value = 0;
	if ((size_t)(p->end - p->at) < bytes) {
		p->bad = true;
		p->at = p->end;
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)*p->at++ << (8 * i);
	return value;
}

static uint16_t get16(parser *p)
{
	return (uint16_t)get(p, 2);
}

static uint32_t get32(parser *p)
{
	return (uint32_t)get(p, 4);
}

static uint64_t get64(parser *p)
{
	return get(p, 8);
}

static void expect(parser *p, bool holds)
{
	p->bad |= !holds;
}

static void get_zero(parser *p, unsigned bytes)
{
	expect(p, get(p, bytes) == 0);
}

/* How many there are of something: no more than may be, and than the record has bytes for. */
static uint32_t get_count(parser *p, uint32_t most)
{
	uint32_t n = get32(p);
	expect(p, n <= most);
	return p->bad ? 0 : n;
}

static void get_numbers(parser *p, uint64_t *numbers, uint32_t n)
{
	for (uint32_t i = 0; i < n && !p->bad; i++)
		numbers[i] = get64(p);
}

/* --- Openings --- */

size_t kvt_remote_hello_encode(const kvt_remote_hello *hello, void *bytes)
{
	writer w = { bytes };
	put32(&w, HELLO_MARK);
	put16(&w, hello->version);
	put16(&w, 0);
	put32(&w, hello->tenant);
	put64(&w, hello->model);
	memcpy(w.at, hello->key, KVT_REMOTE_KEY);
	return HELLO_BYTES;
}

/* The mark and the version, which no version moves. */
static uint16_t get_version(parser *p, uint32_t mark)
{
	expect(p, get32(p) == mark);
	uint16_t version = get16(p);
	expect(p, version > 0);
	return version;
}

int kvt_remote_hello_decode(const void *bytes, size_t length, kvt_remote_hello *hello)
{
	parser p = { bytes, (const uint8_t *)bytes + length, false };
	*hello = (kvt_remote_hello){ .version = get_version(&p, HELLO_MARK) };
	if (p.bad)
		return -EPROTO;
	if (hello->version != KVT_REMOTE_VERSION)
		return 0;
	get_zero(&p, 2);
	hello->tenant = get32(&p);
	hello->model = get64(&p);
	expect(&p, p.end - p.at >= KVT_REMOTE_KEY);
	if (p.bad)
		return -EPROTO;
	memcpy(hello->key, p.at, KVT_REMOTE_KEY);
	return 0;
}

size_t kvt_remote_welcome_encode(const kvt_remote_welcome *welcome, void *bytes)
{
	writer w = { bytes };
	put32(&w, WELCOME_MARK);
	put16(&w, welcome->version);
	put16(&w, 0);
	put32(&w, welcome->lease_ms);
	put64(&w, welcome->capacity);
	put64(&w, welcome->used);
	put64(&w, welcome->request_bytes);
	return WELCOME_BYTES;
}

int kvt_remote_welcome_decode(const void *bytes, size_t length, kvt_remote_welcome *welcome)
{
	parser p = { bytes, (const uint8_t *)bytes + length, false };
	*welcome = (kvt_remote_welcome){ .version = get_version(&p, WELCOME_MARK) };
	expect(&p, welcome->version == KVT_REMOTE_VERSION);
	get_zero(&p, 2);
	welcome->lease_ms = get32(&p);
	welcome->capacity = get64(&p);
	welcome->used = get64(&p);
	welcome->request_bytes = get64(&p);
	return p.bad ? -EPROTO : 0;
}

size_t kvt_remote_refusal_encode(kvt_remote_refusal refusal, void *bytes)
{
	writer w = { bytes };
	put32(&w, REFUSAL_MARK);
	put16(&w, KVT_REMOTE_VERSION);
	put16(&w, (uint16_t)refusal);
	return REFUSAL_BYTES;
}

kvt_remote_refusal kvt_remote_refusal_decode(const void *bytes, size_t length, uint16_t *version)
{
	parser p = { bytes, (const uint8_t *)bytes + length, false };
	*version = get_version(&p, REFUSAL_MARK);
	uint16_t refusal = get16(&p);
	expect(&p, refusal >= KVT_REMOTE_OTHER_VERSION && refusal <= KVT_REMOTE_NO_ROOM);
	if (p.bad)
		*version = 0;
	return p.bad ? 0 : (kvt_remote_refusal)refusal;
}

char *kvt_remote_refusal_text(kvt_remote_refusal refusal, uint16_t version)
{
	switch (refusal) {
	case KVT_REMOTE_OTHER_VERSION:
		return g_strdup_printf("the node speaks version %u of the protocol, this is %d",
			version, KVT_REMOTE_VERSION);
	case KVT_REMOTE_UNKNOWN_TENANT:
		return g_strdup("the node has no such tenant");
	case KVT_REMOTE_WRONG_KEY:
		return g_strdup("the tenant's key is not the node's");
	case KVT_REMOTE_TOO_MANY:
		return g_strdup("the tenant has as many connections as it may");
	case KVT_REMOTE_DRAINING:
		return g_strdup("the node is going down");
	case KVT_REMOTE_NO_ROOM:
		return g_strdup("the node has no memory for another connection");
	}
	return g_strdup("the node refuses and says nothing that is known");
}

bool kvt_remote_key_parse(const char *text, uint8_t key[KVT_REMOTE_KEY])
{
	if (strlen(text) != 2 * KVT_REMOTE_KEY)
		return false;
	for (unsigned i = 0; i < KVT_REMOTE_KEY; i++) {
		int high = g_ascii_xdigit_value(text[2 * i]);
		int low = g_ascii_xdigit_value(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		key[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* --- Records --- */

static void put_run(writer *w, const kvt_extent *run)
{
	put32(w, run->context);
	put32(w, run->layer);
	put64(w, run->first_page);
	put64(w, run->n_pages);
	put64(w, run->page_bytes);
}

/* most: pages */
static kvt_extent get_run(parser *p, uint64_t most)
{
	kvt_extent run = { .context = get32(p) };
	run.layer = get32(p);
	run.first_page = get64(p);
	run.n_pages = get64(p);
	run.page_bytes = get64(p);
	expect(p, kvt_extent_valid(&run) && run.n_pages <= most);
	return run;
}

static void put_pieces(writer *w, const kvt_remote_piece *pieces, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		put64(w, pieces[i].address);
		put64(w, pieces[i].lease);
		put32(w, pieces[i].key);
		put32(w, pieces[i].n_pages);
	}
}

/* Returns their pages. */
static uint64_t get_pieces(parser *p, kvt_remote_piece *pieces, uint32_t n)
{
	uint64_t pages = 0;
	for (uint32_t i = 0; i < n && !p->bad; i++) {
		kvt_remote_piece *piece = &pieces[i];
		piece->address = get64(p);
		piece->lease = get64(p);
		piece->key = get32(p);
		piece->n_pages = get32(p);
		pages += piece->n_pages;
		expect(p, piece->n_pages > 0);
		expect(p, piece->address != 0 || (piece->key == 0 && piece->lease == 0));
	}
	expect(p, pages <= KVT_REMOTE_PAGES);
	return pages;
}

size_t kvt_remote_size(const kvt_remote_record *r)
{
	switch (r->type) {
	case KVT_REMOTE_FETCH:
		return HEADER_BYTES + RUN_BYTES + 16;
	case KVT_REMOTE_RELEASE:
		return HEADER_BYTES + 8 + 8 * (size_t)r->n;
	case KVT_REMOTE_RESERVE:
	case KVT_REMOTE_DISCARD:
		return HEADER_BYTES + RUN_BYTES;
	case KVT_REMOTE_COMMIT:
		return HEADER_BYTES + 16 + 8 * (size_t)r->n_checksums;
	case KVT_REMOTE_ABORT:
	case KVT_REMOTE_LIST:
	case KVT_REMOTE_COMMITTED:
		return HEADER_BYTES + 8;
	case KVT_REMOTE_FETCHED:
		return HEADER_BYTES + 16 + PIECE_BYTES * (size_t)r->n + 8 * (size_t)r->n_checksums;
	case KVT_REMOTE_RESERVED:
		return HEADER_BYTES + 16 + PIECE_BYTES * (size_t)r->n;
	case KVT_REMOTE_DISCARDED:
		return HEADER_BYTES + 16;
	case KVT_REMOTE_LISTED:
		return HEADER_BYTES + 16 + RUN_BYTES * (size_t)r->n;
	}
	g_assert_not_reached();
}

static void put_request(writer *w, const kvt_remote_record *r)
{
	switch ((int)r->type) {
	case KVT_REMOTE_FETCH:
		put_run(w, &r->run);
		put64(w, r->address);
		put32(w, r->key);
		put32(w, 0);
		break;
	case KVT_REMOTE_RELEASE:
		g_assert(r->n <= KVT_REMOTE_LEASES);
		put32(w, r->n);
		put32(w, 0);
		put_numbers(w, r->leases, r->n);
		break;
	case KVT_REMOTE_RESERVE:
	case KVT_REMOTE_DISCARD:
		put_run(w, &r->run);
		break;
	case KVT_REMOTE_COMMIT:
		g_assert(r->n_checksums <= KVT_REMOTE_PAGES);
		put64(w, r->ticket);
		put32(w, r->n_checksums);
		put32(w, 0);
		put_numbers(w, r->checksums, r->n_checksums);
		break;
	case KVT_REMOTE_ABORT:
		put64(w, r->ticket);
		break;
	case KVT_REMOTE_LIST:
		put64(w, r->cursor);
		break;
	}
}

static void put_answer(writer *w, const kvt_remote_record *r)
{
	put32(w, (uint32_t)r->status);
	switch ((int)r->type) {
	case KVT_REMOTE_FETCHED:
		g_assert(r->n <= KVT_REMOTE_PIECES && r->n_checksums <= KVT_REMOTE_PAGES);
		put32(w, r->n);
		put32(w, r->n_checksums);
		put32(w, 0);
		put_pieces(w, r->pieces, r->n);
		put_numbers(w, r->checksums, r->n_checksums);
		break;
	case KVT_REMOTE_RESERVED:
		g_assert(r->n <= KVT_REMOTE_PIECES);
		put32(w, r->n);
		put64(w, r->ticket);
		put_pieces(w, r->pieces, r->n);
		break;
	case KVT_REMOTE_COMMITTED:
		put32(w, 0);
		break;
	case KVT_REMOTE_DISCARDED:
		put32(w, 0);
		put64(w, r->pages);
		break;
	case KVT_REMOTE_LISTED:
		g_assert(r->n <= KVT_REMOTE_RUNS);
		put32(w, r->n);
		put64(w, r->cursor);
		for (uint32_t i = 0; i < r->n; i++)
			put_run(w, &r->runs[i]);
		break;
	}
}

size_t kvt_remote_encode(const kvt_remote_record *r, void *bytes)
{
	writer w = { bytes };
	size_t size = kvt_remote_size(r);
	put16(&w, (uint16_t)r->type);
	put(&w, r->priority, 1);
	put(&w, 0, 1);
	put32(&w, (uint32_t)size);
	put64(&w, r->id);
	if (r->type < KVT_REMOTE_FETCHED)
		put_request(&w, r);
	else
		put_answer(&w, r);
	g_assert(w.at == (uint8_t *)bytes + size);
	return size;
}

static void get_request(parser *p, kvt_remote_reader *reader, kvt_remote_record *r)
{
	switch ((int)r->type) {
	case KVT_REMOTE_FETCH:
		r->run = get_run(p, KVT_REMOTE_PAGES);
		r->address = get64(p);
		r->key = get32(p);
		get_zero(p, 4);
		expect(p, r->address != 0 || r->key == 0);
		break;
	case KVT_REMOTE_RELEASE:
		r->n = get_count(p, KVT_REMOTE_LEASES);
		get_zero(p, 4);
		get_numbers(p, reader->numbers, r->n);
		r->leases = reader->numbers;
		break;
	case KVT_REMOTE_RESERVE:
		r->run = get_run(p, KVT_REMOTE_PAGES);
		break;
	case KVT_REMOTE_COMMIT:
		r->ticket = get64(p);
		r->n_checksums = get_count(p, KVT_REMOTE_PAGES);
		get_zero(p, 4);
		get_numbers(p, reader->numbers, r->n_checksums);
		r->checksums = reader->numbers;
		break;
	case KVT_REMOTE_ABORT:
		r->ticket = get64(p);
		break;
	case KVT_REMOTE_DISCARD:
		r->run = get_run(p, UINT64_MAX);
		break;
	case KVT_REMOTE_LIST:
		r->cursor = get64(p);
		break;
	default:
		p->bad = true;
	}
}

static void get_answer(parser *p, kvt_remote_reader *reader, kvt_remote_record *r)
{
	int64_t status = (int32_t)get32(p);
	expect(p, status <= 0 && status >= STATUS_LEAST);
	r->status = (int32_t)status;
	switch ((int)r->type) {
	case KVT_REMOTE_FETCHED:
		r->n = get_count(p, KVT_REMOTE_PIECES);
		r->n_checksums = get_count(p, KVT_REMOTE_PAGES);
		get_zero(p, 4);
		expect(p, get_pieces(p, reader->pieces, r->n) == r->n_checksums);
		get_numbers(p, reader->numbers, r->n_checksums);
		r->pieces = reader->pieces;
		r->checksums = reader->numbers;
		break;
	case KVT_REMOTE_RESERVED:
		r->n = get_count(p, KVT_REMOTE_PIECES);
		r->ticket = get64(p);
		get_pieces(p, reader->pieces, r->n);
		r->pieces = reader->pieces;
		break;
	case KVT_REMOTE_COMMITTED:
		get_zero(p, 4);
		break;
	case KVT_REMOTE_DISCARDED:
		get_zero(p, 4);
		r->pages = get64(p);
		break;
	case KVT_REMOTE_LISTED:
		r->n = get_count(p, KVT_REMOTE_RUNS);
		r->cursor = get64(p);
		for (uint32_t i = 0; i < r->n && !p->bad; i++)
			reader->runs[i] = get_run(p, UINT64_MAX);
		r->runs = reader->runs;
		break;
	default:
		p->bad = true;
	}
	/* what failed has nothing to show; what did not has something for every page */
	bool whole = r->type == KVT_REMOTE_FETCHED || r->type == KVT_REMOTE_RESERVED;
	expect(p, r->status == 0 ? !whole || r->n > 0 : r->n == 0);
}

void kvt_remote_reader_init(kvt_remote_reader *reader, const void *bytes, size_t length)
{
	reader->bytes = bytes;
	reader->length = length;
	reader->at = 0;
}

int kvt_remote_next(kvt_remote_reader *reader, kvt_remote_record *r)
{
	const uint8_t *from = reader->bytes + reader->at;
	size_t left = reader->length - reader->at;
	if (left == 0)
		return 0;
	parser p = { from, from + left, false };
	*r = (kvt_remote_record){ .type = get16(&p) };
	r->priority = (uint8_t)get(&p, 1);
	get_zero(&p, 1);
	uint32_t length = get32(&p);
	r->id = get64(&p);
	expect(&p, length >= HEADER_BYTES && length <= left);
	expect(&p, r->priority < KVT_PRIORITY_CLASSES);
	expect(&p,
		r->priority == 0 || r->type == KVT_REMOTE_FETCH || r->type == KVT_REMOTE_RESERVE);
	if (p.bad)
		return -EPROTO;
	p.end = from + length;
	if (r->type < KVT_REMOTE_FETCHED)
		get_request(&p, reader, r);
	else
		get_answer(&p, reader, r);
	if (p.bad || p.at != p.end)
		return -EPROTO;
	reader->at += length;
	return 1;
}
