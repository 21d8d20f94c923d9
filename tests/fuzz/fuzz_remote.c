/*
 * fuzz_remote.c: any bytes as a message of the remote protocol, and as the openings of a
 * connection. What is read keeps to the protocol's limits and is written as the same bytes; what is
 * refused ends the message.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "emu/fabric/fabric.h"
#include "emu/remote/remote_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_limits(const kvt_remote_record *r)
{
	g_assert(r->status <= 0 && r->priority < KVT_PRIORITY_CLASSES);
	g_assert(r->n_checksums <= KVT_REMOTE_PAGES);
	uint64_t pages = 0;
	for (uint32_t i = 0; r->pieces && i < r->n; i++) {
		g_assert(i < KVT_REMOTE_PIECES && r->pieces[i].n_pages > 0);
		pages += r->pieces[i].n_pages;
	}
	g_assert(pages <= KVT_REMOTE_PAGES);
	for (uint32_t i = 0; r->runs && i < r->n; i++)
		g_assert(i < KVT_REMOTE_RUNS && kvt_extent_valid(&r->runs[i]));
	if (r->type == KVT_REMOTE_FETCHED)
		g_assert(pages == r->n_checksums);
	if (r->type == KVT_REMOTE_FETCH || r->type == KVT_REMOTE_RESERVE)
		g_assert(r->run.n_pages <= KVT_REMOTE_PAGES);
}

static void check_message(const uint8_t *data, size_t size)
{
	g_autofree kvt_remote_reader *reader = g_new0(kvt_remote_reader, 1);
	g_autofree uint8_t *again = g_malloc(size + 1);
	kvt_remote_record record;
	kvt_remote_reader_init(reader, data, size);
	for (;;) {
		size_t from = reader->at;
		int status = kvt_remote_next(reader, &record);
		if (status != 1) {
			g_assert(status == -EPROTO || (status == 0 && from == size));
			g_assert(reader->at == from);
			return;
		}
		check_limits(&record);
		size_t length = kvt_remote_size(&record);
		g_assert(length <= KVT_REMOTE_MESSAGE && reader->at == from + length);
		kvt_remote_encode(&record, again);
		g_assert(memcmp(again, data + from, length) == 0);
	}
}

static void check_openings(const uint8_t *data, size_t size)
{
	uint8_t again[KVT_FABRIC_WELCOME];
	kvt_remote_hello hello;
	kvt_remote_welcome welcome;
	uint16_t version;
	if (kvt_remote_hello_decode(data, size, &hello) == 0 &&
		hello.version == KVT_REMOTE_VERSION) {
		size_t length = kvt_remote_hello_encode(&hello, again);
		g_assert(length <= size && memcmp(again, data, length) == 0);
	}
	if (kvt_remote_welcome_decode(data, size, &welcome) == 0) {
		size_t length = kvt_remote_welcome_encode(&welcome, again);
		g_assert(length <= size && memcmp(again, data, length) == 0);
	}
	kvt_remote_refusal refusal = kvt_remote_refusal_decode(data, size, &version);
	g_assert((refusal == 0) == (version == 0));
	g_autofree char *text = kvt_remote_refusal_text(refusal, version);
	g_assert(*text != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_message(data, size);
	check_openings(data, size);
	return 0;
}
