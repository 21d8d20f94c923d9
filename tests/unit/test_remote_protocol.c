/* test_remote_protocol.c: what is encoded decodes to itself, and nothing else decodes. */
#include "emu/remote/remote_protocol.h"

#include <errno.h>
#include <string.h>

#include "emu/fabric/fabric.h"
#include "sim/base/rng.h"

enum { RECORD_TYPES = 12, ROUNDS = 2000 };

static const kvt_remote_type types[RECORD_TYPES] = { KVT_REMOTE_FETCH, KVT_REMOTE_RELEASE,
	KVT_REMOTE_RESERVE, KVT_REMOTE_COMMIT, KVT_REMOTE_ABORT, KVT_REMOTE_DISCARD,
	KVT_REMOTE_LIST, KVT_REMOTE_FETCHED, KVT_REMOTE_RESERVED, KVT_REMOTE_COMMITTED,
	KVT_REMOTE_DISCARDED, KVT_REMOTE_LISTED };

/* A record of any type with all that the type has, as large as may be now and then. */
typedef struct sample {
	kvt_remote_record record;
	kvt_remote_piece pieces[KVT_REMOTE_PIECES];
	kvt_extent runs[KVT_REMOTE_RUNS];
	uint64_t numbers[KVT_REMOTE_PAGES];
} sample;

static kvt_extent any_run(kvt_rng *rng, uint64_t most)
{
	return (kvt_extent){ (uint32_t)kvt_rng_next(rng), (uint32_t)kvt_rng_next(rng),
		kvt_rng_next(rng) >> 2, 1 + kvt_rng_below(rng, most),
		1 + kvt_rng_below(rng, 1 << 22) };
}

static uint32_t any_count(kvt_rng *rng, uint32_t most)
{
	return kvt_rng_below(rng, 8) == 0 ? most : (uint32_t)kvt_rng_below(rng, most + 1);
}

/* Pieces whose pages are as many as may be or fewer. */
static uint32_t fill_pieces(sample *s, kvt_rng *rng)
{
	kvt_remote_record *r = &s->record;
	uint32_t pages = 0;
	r->n = 1 + any_count(rng, KVT_REMOTE_PIECES - 1);
	for (uint32_t i = 0; i < r->n; i++) {
		uint32_t n = 1 + (uint32_t)kvt_rng_below(rng, KVT_REMOTE_PAGES / r->n);
		s->pieces[i] = (kvt_remote_piece){ .n_pages = n };
		if (kvt_rng_below(rng, 4) > 0) {
			s->pieces[i].address = kvt_rng_next(rng) | 1;
			s->pieces[i].key = (uint32_t)kvt_rng_next(rng);
			s->pieces[i].lease = kvt_rng_next(rng);
		}
		pages += n;
	}
	r->pieces = s->pieces;
	return pages;
}

static void fill_request(sample *s, kvt_rng *rng)
{
	kvt_remote_record *r = &s->record;
	switch ((int)r->type) {
	case KVT_REMOTE_FETCH:
		r->address = kvt_rng_below(rng, 2) ? kvt_rng_next(rng) | 1 : 0;
		r->key = r->address ? (uint32_t)kvt_rng_next(rng) : 0;
		/* fall through */
	case KVT_REMOTE_RESERVE:
		r->priority = (uint8_t)kvt_rng_below(rng, KVT_PRIORITY_CLASSES);
		r->run = any_run(rng, KVT_REMOTE_PAGES);
		break;
	case KVT_REMOTE_RELEASE:
		r->n = any_count(rng, KVT_REMOTE_LEASES);
		r->leases = s->numbers;
		break;
	case KVT_REMOTE_COMMIT:
		r->n_checksums = any_count(rng, KVT_REMOTE_PAGES);
		r->checksums = s->numbers;
		/* fall through */
	case KVT_REMOTE_ABORT:
		r->ticket = kvt_rng_next(rng);
		break;
	case KVT_REMOTE_DISCARD:
		r->run = any_run(rng, 1 << 30);
		break;
	case KVT_REMOTE_LIST:
		r->cursor = kvt_rng_next(rng);
		break;
	}
}

static void fill_answer(sample *s, kvt_rng *rng)
{
	kvt_remote_record *r = &s->record;
	r->status = kvt_rng_below(rng, 4) ? 0 : -(int32_t)(1 + kvt_rng_below(rng, 4095));
	switch ((int)r->type) {
	case KVT_REMOTE_FETCHED:
		r->n_checksums = r->status == 0 ? fill_pieces(s, rng) : 0;
		r->checksums = s->numbers;
		break;
	case KVT_REMOTE_RESERVED:
		r->ticket = kvt_rng_next(rng);
		if (r->status == 0)
			fill_pieces(s, rng);
		break;
	case KVT_REMOTE_DISCARDED:
		r->pages = kvt_rng_next(rng);
		break;
	case KVT_REMOTE_LISTED:
		r->n = r->status == 0 ? any_count(rng, KVT_REMOTE_RUNS) : 0;
		for (uint32_t i = 0; i < r->n; i++)
			s->runs[i] = any_run(rng, 1 << 30);
		r->runs = s->runs;
		r->cursor = kvt_rng_next(rng);
		break;
	}
}

static void fill(sample *s, kvt_rng *rng)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(s->numbers); i++)
		s->numbers[i] = kvt_rng_next(rng);
	s->record = (kvt_remote_record){
		.type = types[kvt_rng_below(rng, RECORD_TYPES)],
		.id = kvt_rng_next(rng),
	};
	if (s->record.type < KVT_REMOTE_FETCHED)
		fill_request(s, rng);
	else
		fill_answer(s, rng);
}

static void check_same(const kvt_remote_record *a, const kvt_remote_record *b)
{
	g_assert_cmpint(a->type, ==, b->type);
	g_assert_cmpuint(a->id, ==, b->id);
	g_assert_cmpint(a->status, ==, b->status);
	g_assert_cmpuint(a->priority, ==, b->priority);
	g_assert_cmpmem(&a->run, sizeof(a->run), &b->run, sizeof(b->run));
	g_assert_cmpuint(a->address, ==, b->address);
	g_assert_cmpuint(a->key, ==, b->key);
	g_assert_cmpuint(a->ticket, ==, b->ticket);
	g_assert_cmpuint(a->cursor, ==, b->cursor);
	g_assert_cmpuint(a->pages, ==, b->pages);
	g_assert_cmpuint(a->n, ==, b->n);
	g_assert_cmpuint(a->n_checksums, ==, b->n_checksums);
	for (uint32_t i = 0; a->pieces && i < a->n; i++) {
		g_assert_cmpuint(a->pieces[i].address, ==, b->pieces[i].address);
		g_assert_cmpuint(a->pieces[i].key, ==, b->pieces[i].key);
		g_assert_cmpuint(a->pieces[i].n_pages, ==, b->pieces[i].n_pages);
		g_assert_cmpuint(a->pieces[i].lease, ==, b->pieces[i].lease);
	}
	for (uint32_t i = 0; a->leases && i < a->n; i++)
		g_assert_cmpuint(a->leases[i], ==, b->leases[i]);
	for (uint32_t i = 0; a->runs && i < a->n; i++)
		g_assert_cmpmem(&a->runs[i], sizeof(kvt_extent), &b->runs[i], sizeof(kvt_extent));
	for (uint32_t i = 0; i < a->n_checksums; i++)
		g_assert_cmpuint(a->checksums[i], ==, b->checksums[i]);
}

static void test_round_trip(void)
{
	kvt_rng rng = kvt_rng_init(5, 1);
	g_autofree sample *s = g_new0(sample, 1);
	g_autofree kvt_remote_reader *reader = g_new0(kvt_remote_reader, 1);
	uint8_t bytes[KVT_REMOTE_MESSAGE];
	size_t largest = 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		fill(s, &rng);
		size_t size = kvt_remote_size(&s->record);
		g_assert_cmpuint(size, <=, sizeof(bytes));
		g_assert_cmpuint(size % 8, ==, 0);
		g_assert_cmpuint(kvt_remote_encode(&s->record, bytes), ==, size);
		largest = MAX(largest, size);
		kvt_remote_record back;
		kvt_remote_reader_init(reader, bytes, size);
		g_assert_cmpint(kvt_remote_next(reader, &back), ==, 1);
		check_same(&s->record, &back);
		g_assert_cmpint(kvt_remote_next(reader, &back), ==, 0);
	}
	g_assert_cmpuint(largest, >, 8 << 10);
}

static void test_many_in_one(void)
{
	kvt_rng rng = kvt_rng_init(5, 2);
	uint8_t bytes[KVT_REMOTE_MESSAGE];
	size_t at = 0;
	unsigned n = 0;
	kvt_remote_record r = { .type = KVT_REMOTE_FETCH };
	while (at + kvt_remote_size(&r) <= sizeof(bytes)) {
		r.id = n++;
		r.run = any_run(&rng, KVT_REMOTE_PAGES);
		at += kvt_remote_encode(&r, bytes + at);
	}
	g_assert_cmpuint(n, >, 200);
	g_autofree kvt_remote_reader *reader = g_new0(kvt_remote_reader, 1);
	kvt_remote_reader_init(reader, bytes, at);
	for (unsigned i = 0; i < n; i++) {
		g_assert_cmpint(kvt_remote_next(reader, &r), ==, 1);
		g_assert_cmpuint(r.id, ==, i);
	}
	g_assert_cmpint(kvt_remote_next(reader, &r), ==, 0);
}

/* Cut anywhere, and with any length written in it, a record is none. */
static void test_cut(void)
{
	kvt_rng rng = kvt_rng_init(5, 3);
	g_autofree sample *s = g_new0(sample, 1);
	g_autofree kvt_remote_reader *reader = g_new0(kvt_remote_reader, 1);
	uint8_t bytes[KVT_REMOTE_MESSAGE + 64] = { 0 };
	kvt_remote_record back;
	for (unsigned i = 0; i < ROUNDS / 4; i++) {
		fill(s, &rng);
		size_t size = kvt_remote_encode(&s->record, bytes);
		for (unsigned k = 0; k < 20; k++) {
			size_t cut = k == 0 ? size - 1 : 1 + kvt_rng_below(&rng, size - 1);
			g_autofree uint8_t *copy = g_memdup2(bytes, cut);
			kvt_remote_reader_init(reader, copy, cut);
			g_assert_cmpint(kvt_remote_next(reader, &back), ==, -EPROTO);
		}
		for (int by = -16; by <= 16; by += 8) {
			uint32_t wrong = (uint32_t)((int)size + by);
			memcpy(bytes + 4, &wrong, sizeof(wrong));
			kvt_remote_reader_init(reader, bytes, size + 16);
			if (by != 0)
				g_assert_cmpint(kvt_remote_next(reader, &back), ==, -EPROTO);
		}
	}
}

typedef struct flaw {
	const char *what;
	kvt_remote_record record;
	unsigned at, value; /* a byte of it, and what it becomes */
} flaw;

static void test_refused(void)
{
	static const kvt_remote_piece piece = { 4096, 7, 2, 9 };
	static const uint64_t sums[2];
	const kvt_extent run = { 1, 2, 3, 4, 4096 };
	const flaw flaws[] = {
		{ "type 0", { .type = KVT_REMOTE_ABORT }, 0, 0 },
		{ "type 13", { .type = KVT_REMOTE_ABORT }, 0, 13 },
		{ "type 70", { .type = KVT_REMOTE_COMMITTED }, 0, 70 },
		{ "class 4", { .type = KVT_REMOTE_FETCH, .run = run }, 2, 4 },
		{ "class of an abort", { .type = KVT_REMOTE_ABORT }, 2, 1 },
		{ "padding", { .type = KVT_REMOTE_ABORT }, 3, 1 },
		{ "no pages", { .type = KVT_REMOTE_DISCARD, .run = run }, 32, 0 },
		{ "too many pages", { .type = KVT_REMOTE_FETCH, .run = run }, 33, 4 },
		{ "beyond the last page", { .type = KVT_REMOTE_DISCARD, .run = run }, 39, 255 },
		{ "key without address", { .type = KVT_REMOTE_FETCH, .run = run }, 56, 1 },
		{ "a lease too few", { .type = KVT_REMOTE_RELEASE, .n = 2, .leases = sums }, 16,
			1 },
		{ "a lease too many", { .type = KVT_REMOTE_RELEASE, .n = 2, .leases = sums }, 16,
			3 },
		{ "leases beyond count", { .type = KVT_REMOTE_RELEASE, .n = 2, .leases = sums }, 19,
			255 },
		{ "a good status", { .type = KVT_REMOTE_COMMITTED }, 16, 1 },
		{ "a failed fetch with pieces",
			{ .type = KVT_REMOTE_FETCHED,
				.status = 0,
				.n = 1,
				.pieces = &piece,
				.n_checksums = 2,
				.checksums = sums },
			16, 1 },
		{ "pieces with other pages than checksums",
			{ .type = KVT_REMOTE_FETCHED,
				.n = 1,
				.pieces = &piece,
				.n_checksums = 2,
				.checksums = sums },
			52, 3 },
		{ "a lease of nothing", { .type = KVT_REMOTE_RESERVED, .n = 1, .pieces = &piece },
			33, 0 },
	};
	g_autofree kvt_remote_reader *reader = g_new0(kvt_remote_reader, 1);
	for (unsigned i = 0; i < G_N_ELEMENTS(flaws); i++) {
		uint8_t bytes[256];
		kvt_remote_record back;
		size_t size = kvt_remote_encode(&flaws[i].record, bytes);
		bytes[flaws[i].at] = (uint8_t)flaws[i].value;
		kvt_remote_reader_init(reader, bytes, size);
		g_test_message("%s", flaws[i].what);
		g_assert_cmpint(kvt_remote_next(reader, &back), ==, -EPROTO);
	}
}

static void test_openings(void)
{
	uint8_t bytes[KVT_FABRIC_WELCOME] = { 0 };
	kvt_remote_hello hello = { KVT_REMOTE_VERSION, 77, 0x1122334455667788, "0123456789abcde" };
	kvt_remote_hello hello_back;
	size_t size = kvt_remote_hello_encode(&hello, bytes);
	g_assert_cmpuint(size, <=, KVT_FABRIC_HELLO);
	g_assert_cmpint(kvt_remote_hello_decode(bytes, size, &hello_back), ==, 0);
	g_assert_cmpuint(hello_back.tenant, ==, 77);
	g_assert_cmpuint(hello_back.model, ==, hello.model);
	g_assert_cmpmem(hello_back.key, KVT_REMOTE_KEY, hello.key, KVT_REMOTE_KEY);
	/* connection managers may add zeros behind it */
	g_assert_cmpint(kvt_remote_hello_decode(bytes, KVT_FABRIC_HELLO, &hello_back), ==, 0);
	for (size_t cut = 0; cut < size; cut++)
		g_assert_cmpint(kvt_remote_hello_decode(bytes, cut, &hello_back), ==, -EPROTO);
	hello.version = 9;
	kvt_remote_hello_encode(&hello, bytes);
	g_assert_cmpint(kvt_remote_hello_decode(bytes, 6, &hello_back), ==, 0);
	g_assert_cmpuint(hello_back.version, ==, 9);
	g_assert_cmpuint(hello_back.tenant, ==, 0);

	kvt_remote_welcome welcome = { KVT_REMOTE_VERSION, 10000, 1ull << 40, 5, 1 << 22 }, back;
	size = kvt_remote_welcome_encode(&welcome, bytes);
	g_assert_cmpuint(size, <=, KVT_FABRIC_WELCOME);
	g_assert_cmpint(kvt_remote_welcome_decode(bytes, size, &back), ==, 0);
	g_assert_cmpuint(back.lease_ms, ==, 10000);
	g_assert_cmpuint(back.capacity, ==, 1ull << 40);
	g_assert_cmpuint(back.used, ==, 5);
	g_assert_cmpuint(back.request_bytes, ==, 1 << 22);
	for (size_t cut = 0; cut < size; cut++)
		g_assert_cmpint(kvt_remote_welcome_decode(bytes, cut, &back), ==, -EPROTO);
	g_assert_cmpint(kvt_remote_hello_decode(bytes, size, &hello_back), ==, -EPROTO);
}

static void test_refusals(void)
{
	uint8_t bytes[KVT_FABRIC_WELCOME] = { 0 };
	uint16_t version;
	g_autoptr(GHashTable) texts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	for (int i = KVT_REMOTE_OTHER_VERSION; i <= KVT_REMOTE_NO_ROOM; i++) {
		size_t size = kvt_remote_refusal_encode((kvt_remote_refusal)i, bytes);
		g_assert_cmpint(kvt_remote_refusal_decode(bytes, size, &version), ==, i);
		g_assert_cmpuint(version, ==, KVT_REMOTE_VERSION);
		g_hash_table_add(texts, kvt_remote_refusal_text((kvt_remote_refusal)i, 3));
		g_assert_cmpint(kvt_remote_refusal_decode(bytes, size - 2, &version), ==, 0);
		g_assert_cmpuint(version, ==, 0);
	}
	g_assert_true(g_hash_table_contains(
		texts, "the node speaks version 3 of the protocol, this is 1"));
	bytes[6] = 200;
	g_assert_cmpint(kvt_remote_refusal_decode(bytes, 8, &version), ==, 0);
	g_assert_cmpint(kvt_remote_refusal_decode("", 0, &version), ==, 0);
	g_hash_table_add(texts, kvt_remote_refusal_text(0, 0));
	/* each says something of its own */
	g_assert_cmpuint(g_hash_table_size(texts), ==, KVT_REMOTE_NO_ROOM + 1);
}

static void test_keys(void)
{
	uint8_t key[KVT_REMOTE_KEY];
	g_assert_true(kvt_remote_key_parse("000102030405060708090a0B0c0D0e0F", key));
	for (unsigned i = 0; i < KVT_REMOTE_KEY; i++)
		g_assert_cmpuint(key[i], ==, i);
	g_assert_false(kvt_remote_key_parse("000102030405060708090a0b0c0d0e0", key));
	g_assert_false(kvt_remote_key_parse("000102030405060708090a0b0c0d0e0f0", key));
	g_assert_false(kvt_remote_key_parse("000102030405060708090a0b0c0d0e g", key));
	g_assert_false(kvt_remote_key_parse("", key));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/remote-protocol/round-trip", test_round_trip);
	g_test_add_func("/remote-protocol/many-in-one", test_many_in_one);
	g_test_add_func("/remote-protocol/cut", test_cut);
	g_test_add_func("/remote-protocol/refused", test_refused);
	g_test_add_func("/remote-protocol/openings", test_openings);
	g_test_add_func("/remote-protocol/refusals", test_refusals);
	g_test_add_func("/remote-protocol/keys", test_keys);
	return g_test_run();
}
