/*
 * test_node.c: the storage node over a fabric within the process: pages come back as they went,
 * from the pool and from the store; leases hold; clients that die, send nonsense or find no room
 * leave nothing behind; draining and a store that fails.
 */
#include "emu/node.h"

#include <errno.h>
#include <string.h>

#include "sim/base/rng.h"
#include "tests/unit/node_fixture.h"

static node_host *host_default(void)
{
	node_setup setup = node_setup_default();
	return node_host_new(&setup);
}

/* Of a pool of so many slabs. */
static node_host *host_small(unsigned slabs, bool store)
{
	node_setup setup = node_setup_default();
	setup.settings.pool_bytes = slabs * NODE_SLAB;
	setup.store = store;
	return node_host_new(&setup);
}

static uint64_t used(node_host *host)
{
	return node_host_tenant(host, 1).used;
}

static void test_pages(gconstpointer with_store)
{
	node_host *host = host_small(16, GPOINTER_TO_INT(with_store));
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	g_assert_true(client->up);
	g_assert_cmpuint(client->welcome.capacity, ==, 4 << 20);
	g_assert_cmpuint(client->welcome.request_bytes, ==, NODE_SLAB);
	g_assert_cmpint(node_client_get(client, node_pages(0, 1), 1, false), ==, -ENOENT);
	g_assert_cmpint(node_client_put(client, node_pages(0, 10), 1), ==, 0);
	g_assert_cmpint(node_client_put(client, node_pages(10, 10), 1), ==, 0);
	g_assert_cmpuint(used(host), ==, 20 * NODE_PAGE);
	g_assert_cmpint(node_client_get(client, node_pages(0, 16), 1, false), ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(4, 12), 1, true), ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(15, 6), 1, true), ==, -ENOENT);
	/* written again: the new ones, and no more room than for once */
	g_assert_cmpint(node_client_put(client, node_pages(5, 3), 2), ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(5, 3), 2, false), ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(0, 5), 1, false), ==, 0);
	g_assert_cmpuint(used(host), ==, 20 * NODE_PAGE);
	/* another page size of the layer's, other limits */
	kvt_extent odd = { 5, 6, 40, 1, 8192 };
	g_assert_cmpint(node_client_put(client, odd, 1), ==, -EINVAL);
	g_assert_cmpint(node_client_get(client, odd, 1, true), ==, -ENOENT);
	odd = (kvt_extent){ 8, 6, 40, 1, 511 };
	g_assert_cmpint(node_client_put(client, odd, 1), ==, -EINVAL);
	g_assert_cmpint(node_client_put(client, node_pages(0, 17), 1), ==, -E2BIG);
	g_assert_cmpint(node_client_get(client, node_pages(0, 17), 1, true), ==, -E2BIG);
	g_autofree node_answer *answer = node_client_ask(client,
		(kvt_remote_record){ .type = KVT_REMOTE_DISCARD, .run = node_pages(3, 100) });
	g_assert_cmpint(answer->record.status, ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(3, 1), 1, true), ==, -ENOENT);
	g_assert_cmpint(node_client_get(client, node_pages(0, 3), 1, true), ==, 0);
	g_assert_cmpuint(used(host), ==, 3 * NODE_PAGE);
	node_client_free(client);
	kvt_node_tenant_state state = node_host_tenant(host, 1);
	g_assert_cmpuint(state.requests + state.leases + state.tickets + state.connections, ==, 0);
	g_assert_cmpuint(state.held_bytes + state.reserved, ==, 0);
	node_host_free(host);
}

/* More pages than the pool has room for: they come from the store, straight to the client or under
 * a lease, and then from the pool. */
static void test_store_reads(void)
{
	node_host *host = host_small(3, true);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	for (unsigned i = 0; i < 10; i++)
		g_assert_cmpint(node_client_put(client, node_pages(16 * i, 16), 1), ==, 0);
	for (unsigned i = 0; i < 10; i++)
		g_assert_cmpint(node_client_get(client, node_pages(16 * i, 16), 1, i % 2), ==, 0);
	kvt_node_tenant_state state = node_host_tenant(host, 1);
	g_assert_cmpuint(state.counts.store_bytes, >=, 8 * NODE_SLAB);
	g_assert_cmpuint(state.counts.written_bytes, >=, 3 * NODE_SLAB);
	uint64_t before = state.counts.store_bytes;
	g_assert_cmpint(node_client_get(client, node_pages(9 * 16, 16), 1, true), ==, 0);
	state = node_host_tenant(host, 1);
	g_assert_cmpuint(state.counts.store_bytes, ==, before);
	/* pages of which some are in the pool and others are not, or in several pieces */
	g_assert_cmpint(node_client_get(client, node_pages(8 * 16 + 8, 16), 1, true), ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(3 * 16 - 3, 6), 1, false), ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(3 * 16 - 8, 16), 1, true), ==, 0);
	node_client_free(client);
	node_host_free(host);
}

/* --- Leases --- */

static node_answer *lease(node_client *client, kvt_extent pages)
{
	node_answer *answer = node_client_ask(
		client, (kvt_remote_record){ .type = KVT_REMOTE_FETCH, .run = pages });
	g_assert_cmpint(answer->record.status, ==, 0);
	g_assert_cmpuint(answer->record.n, ==, 1);
	return answer;
}

/* A pool of one slab, which is leased: nothing takes it, overwritten and discarded pages stay where
 * the lease says; who needs a slab waits for the release. */
static void test_held(void)
{
	node_setup setup = node_setup_default();
	setup.settings.pool_bytes = NODE_SLAB;
	setup.settings.patience = 50 * KVT_MILLISECOND;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	node_client *other = node_client_new(host, 2, NODE_MODEL);
	kvt_extent pages = node_pages(0, 16);
	g_assert_cmpint(node_client_put(client, pages, 1), ==, 0);
	g_autofree node_answer *held = lease(client, pages);
	const kvt_remote_piece piece = held->pieces[0];
	g_assert_cmpint(node_client_put(other, pages, 2), ==, -EAGAIN);
	g_assert_cmpint(node_client_put(client, node_pages(16, 1), 2), ==, -EAGAIN);
	g_assert_cmpuint(node_host_errors(host, 2, "pool"), ==, 1);
	g_assert_cmpint(node_client_status(client,
				(kvt_remote_record){ .type = KVT_REMOTE_DISCARD, .run = pages }),
		==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(0, 1), 1, true), ==, -ENOENT);
	for (unsigned i = 0; i < 2; i++) {
		memset(client->memory, 0, NODE_SLAB);
		g_assert_cmpint(
			node_client_read(client, 0, piece.address, piece.key, NODE_SLAB), ==, 0);
		g_assert_true(node_pages_are(client->memory, pages, 1));
	}
	/* a release lets the one who waits go on */
	uint64_t id = node_client_send(
		other, (kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = pages });
	node_host_run(host, KVT_MILLISECOND);
	g_assert_true(g_queue_is_empty(&other->answers));
	node_client_send(client,
		(kvt_remote_record){ .type = KVT_REMOTE_RELEASE, .n = 1, .leases = &piece.lease });
	g_autofree node_answer *answer = node_client_wait(other);
	g_assert_cmpuint(answer->record.id, ==, id);
	g_assert_cmpint(answer->record.status, ==, 0);
	/* and its memory opens to the first no more */
	g_assert_cmpint(
		node_client_read(client, 0, piece.address, piece.key, NODE_PAGE), ==, -EACCES);
	node_client_free(client);
	node_client_free(other);
	node_host_free(host);
}

/* A lease that has run out: once the slab is used again, by the same tenant or another, its key
 * opens nothing, and never the new pages. */
static void test_stale(gconstpointer next_tenant)
{
	node_setup setup = node_setup_default();
	setup.settings.pool_bytes = NODE_SLAB;
	setup.settings.lease = 5 * KVT_MILLISECOND;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	node_client *next = node_client_new(host, GPOINTER_TO_UINT(next_tenant), NODE_MODEL);
	g_assert_cmpuint(client->welcome.lease_ms, ==, 5);
	kvt_extent pages = node_pages(0, 16);
	g_assert_cmpint(node_client_put(client, pages, 1), ==, 0);
	g_autofree node_answer *held = lease(client, pages);
	/* waits until it has run out */
	g_assert_cmpint(node_client_put(next, node_pages(100, 16), 2), ==, 0);
	g_assert_cmpuint(node_host_tenant(host, 1).counts.expired_leases, ==, 1);
	g_assert_cmpuint(node_host_tenant(host, 1).leases, ==, 0);
	int status = node_client_read(
		client, 0, held->pieces[0].address, held->pieces[0].key, NODE_PAGE);
	g_assert_cmpint(status, ==, -EACCES);
	g_assert_false(node_pages_are(client->memory, node_pages(100, 1), 2));
	node_client_free(client);
	node_client_free(next);
	node_host_free(host);
}

/* What RESERVE gave is closed when the slab takes no more and all that was begun has ended. */
static void test_write_keys(void)
{
	node_host *host = host_default();
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	g_autofree node_answer *room = node_client_ask(client,
		(kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = node_pages(0, 12) });
	const kvt_remote_piece piece = room->pieces[0];
	g_assert_cmpint(node_client_write(client, 0, piece.address, piece.key, NODE_PAGE), ==, 0);
	/* its key reads nothing, and that of a lease writes nothing */
	node_client *reader = node_client_new(host, 1, NODE_MODEL);
	g_assert_cmpint(
		node_client_read(reader, 0, piece.address, piece.key, NODE_PAGE), ==, -EACCES);
	node_client_free(reader);
	g_assert_cmpint(node_client_put(client, node_pages(20, 16), 1), ==, 0); /* two slabs */
	g_assert_cmpint(node_client_write(client, 0, piece.address, piece.key, NODE_PAGE), ==, 0);
	node_client_send(client,
		(kvt_remote_record){ .type = KVT_REMOTE_ABORT, .ticket = room->record.ticket });
	node_client_status(client, (kvt_remote_record){ .type = KVT_REMOTE_LIST });
	reader = node_client_new(host, 1, NODE_MODEL);
	g_autofree node_answer *held = lease(reader, node_pages(24, 8));
	g_assert_cmpint(node_client_write(
				reader, 0, held->pieces[0].address, held->pieces[0].key, NODE_PAGE),
		==, -EACCES);
	g_assert_cmpint(
		node_client_write(client, 0, piece.address, piece.key, NODE_PAGE), ==, -EACCES);
	node_client_free(reader);
	node_client_free(client);
	node_host_free(host);
}

/* --- Writes --- */

static int commit_sums(node_client *client, const node_answer *room, uint64_t n, uint64_t spoil)
{
	uint64_t checksums[KVT_REMOTE_PAGES] = { 0 };
	kvt_store_checksums(client->memory, NODE_PAGE, MIN(n, 16), checksums);
	checksums[0] ^= spoil;
	return node_client_status(client, (kvt_remote_record){ .type = KVT_REMOTE_COMMIT,
						  .ticket = room->record.ticket,
						  .n_checksums = (uint32_t)n,
						  .checksums = checksums });
}

static void test_commit(void)
{
	node_host *host = host_default();
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	kvt_extent pages = node_pages(0, 4);
	const kvt_remote_record reserve = { .type = KVT_REMOTE_RESERVE, .run = pages };
	g_autofree node_answer *first = node_client_ask(client, reserve);
	/* not there until it was committed */
	g_assert_cmpint(node_client_get(client, pages, 1, true), ==, -ENOENT);
	g_assert_cmpuint(node_host_tenant(host, 1).reserved, ==, 4 * NODE_PAGE);
	/* bytes that were not written are not what the checksums say */
	node_pages_make(client->memory, pages, 1);
	g_assert_cmpint(commit_sums(client, first, 4, 0), ==, -EBADMSG);
	g_assert_cmpint(commit_sums(client, first, 4, 0), ==, -ESTALE);
	g_assert_cmpint(node_client_get(client, pages, 1, true), ==, -ENOENT);
	/* of several at once each has its room; one that was aborted is none */
	g_autofree node_answer *second = node_client_ask(client, reserve);
	g_autofree node_answer *third = node_client_ask(client, reserve);
	node_client_send(client,
		(kvt_remote_record){ .type = KVT_REMOTE_ABORT, .ticket = second->record.ticket });
	g_assert_cmpint(commit_sums(client, second, 4, 0), ==, -ESTALE);
	g_assert_cmpint(commit_sums(client, third, 5, 0), ==, -EINVAL);
	node_pages_make(client->memory, pages, 1);
	g_assert_cmpint(node_client_write(client, 0, third->pieces[0].address, third->pieces[0].key,
				4 * NODE_PAGE),
		==, 0);
	g_assert_cmpint(commit_sums(client, third, 4, 0), ==, 0);
	g_assert_cmpint(node_client_get(client, pages, 1, false), ==, 0);
	node_client_free(client);
	kvt_node_tenant_state state = node_host_tenant(host, 1);
	g_assert_cmpuint(state.reserved + state.tickets + state.requests, ==, 0);
	g_assert_cmpuint(state.counts.tickets, ==, 3);
	node_host_free(host);
}

/* Bits that turn over on the wire are found on arrival: nothing wrong is ever acknowledged. */
static void test_wire(void)
{
	node_host *host = host_default();
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	for (unsigned i = 0; i < 30; i++) {
		bool bad = i % 3 == 0;
		kvt_extent pages = node_pages(16 * i, 4);
		memory_wire_flip(host->wire, bad ? 1 : 0);
		g_assert_cmpint(node_client_put(client, pages, 1), ==, bad ? -EBADMSG : 0);
		memory_wire_flip(host->wire, 0);
		g_assert_cmpint(node_client_get(client, pages, 1, i % 2), ==, bad ? -ENOENT : 0);
	}
	g_assert_cmpuint(node_host_errors(host, 1, "checksum"), ==, 10);
	g_assert_cmpuint(memory_wire_get_counts(host->wire)->flipped, ==, 10);
	memory_wire_flip(host->wire, 0);
	node_client_free(client);
	node_host_free(host);
}

/* A client that goes between RESERVE and COMMIT, or has leases, gives all of it back. */
static void test_death(void)
{
	node_setup setup = node_setup_default();
	setup.settings.pool_bytes = 2 * NODE_SLAB;
	node_host *host = node_host_new(&setup);
	for (unsigned i = 0; i < 20; i++) {
		node_client *client = node_client_new(host, 1, NODE_MODEL);
		g_assert_cmpint(node_client_put(client, node_pages(0, 16), 1), ==, 0);
		g_free(lease(client, node_pages(0, 16)));
		g_free(node_client_ask(client, (kvt_remote_record){ .type = KVT_REMOTE_RESERVE,
						       .run = node_pages(20, 16) }));
		kvt_node_tenant_state state = node_host_tenant(host, 1);
		g_assert_cmpuint(state.held_bytes, ==, 2 * NODE_SLAB);
		g_assert_cmpuint(state.leases + state.tickets, ==, 2);
		node_client_free(client);
		state = node_host_tenant(host, 1);
		g_assert_cmpuint(state.leases + state.tickets + state.held_bytes, ==, 0);
		g_assert_cmpuint(state.reserved + state.requests + state.connections, ==, 0);
	}
	node_host_free(host);
}

static void test_ticket_time(void)
{
	node_setup setup = node_setup_default();
	setup.settings.ticket = 5 * KVT_MILLISECOND;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	g_autofree node_answer *room = node_client_ask(
		client, (kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = node_pages(0, 4) });
	node_host_run(host, 10 * KVT_MILLISECOND);
	g_assert_cmpint(commit_sums(client, room, 4, 0), ==, -ESTALE);
	g_assert_cmpuint(node_host_tenant(host, 1).counts.expired_tickets, ==, 1);
	g_assert_cmpuint(node_host_tenant(host, 1).reserved, ==, 0);
	node_client_free(client);
	node_host_free(host);
}

/* --- LIST --- */

static uint64_t list_all(node_client *client, unsigned *messages)
{
	uint64_t cursor = 0, pages = 0;
	*messages = 0;
	do {
		g_autofree node_answer *answer = node_client_ask(
			client, (kvt_remote_record){ .type = KVT_REMOTE_LIST, .cursor = cursor });
		g_assert_cmpint(answer->record.status, ==, 0);
		for (uint32_t i = 0; i < answer->record.n; i++) {
			g_assert_cmpuint(answer->runs[i].page_bytes, ==, NODE_PAGE);
			pages += answer->runs[i].n_pages;
		}
		cursor = answer->record.cursor;
		++*messages;
	} while (cursor != 0);
	return pages;
}

static void test_list(gconstpointer with_store)
{
	node_setup setup = node_setup_default();
	setup.store = GPOINTER_TO_INT(with_store);
	setup.settings.pool_bytes = 32 * NODE_SLAB;
	setup.tenants[0].pool = setup.tenants[0].held = 32 * NODE_SLAB;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	node_client *other = node_client_new(host, 2, NODE_MODEL);
	node_client *model = node_client_new(host, 1, NODE_MODEL + 1);
	unsigned messages;
	g_assert_cmpuint(list_all(client, &messages), ==, 0);
	for (unsigned i = 0; i < 300; i++)
		g_assert_cmpint(node_client_put(client, node_pages(3 * i, 1), 1), ==, 0);
	g_assert_cmpint(node_client_put(other, node_pages(0, 16), 1), ==, 0);
	g_assert_cmpint(node_client_put(model, node_pages(0, 5), 1), ==, 0);
	g_assert_cmpuint(list_all(client, &messages), ==, 300);
	g_assert_cmpuint(messages, ==, 2);
	g_assert_cmpuint(list_all(other, &messages), ==, 16);
	g_assert_cmpuint(list_all(model, &messages), ==, 5);
	/* a cursor that nobody gave */
	g_assert_cmpint(node_client_status(client,
				(kvt_remote_record){ .type = KVT_REMOTE_LIST, .cursor = 1 }),
		==, -EINVAL);
	node_client_free(client);
	node_client_free(other);
	node_client_free(model);
	node_host_free(host);
}

/* --- Nonsense --- */

/* Whatever is sent, the connection ends or an answer comes; the node lives, and holds nothing. */
static void test_nonsense(void)
{
	node_host *host = host_default();
	kvt_rng rng = kvt_rng_init(3, kvt_rng_stream_id("node-nonsense", 0));
	node_client *sound = node_client_new(host, 1, NODE_MODEL);
	g_assert_cmpint(node_client_put(sound, node_pages(0, 16), 1), ==, 0);
	uint64_t ended = 0;
	for (unsigned i = 0; i < 200; i++) {
		uint8_t bytes[600];
		size_t length = 1 + kvt_rng_below(&rng, sizeof(bytes) - 1);
		node_client *client = node_client_new(host, 2, NODE_MODEL);
		for (size_t k = 0; k < length; k++)
			bytes[k] = (uint8_t)kvt_rng_below(&rng, 256);
		node_client_say(client, bytes, length);
		node_host_until(host, &client->down);
		node_client_free(client);
		ended++;
	}
	g_assert_cmpuint(node_host_tenant(host, 2).counts.protocol_errors, ==, ended);
	/* an answer is nothing that a client says */
	node_client *client = node_client_new(host, 2, NODE_MODEL);
	node_client_send(client, (kvt_remote_record){ .type = KVT_REMOTE_COMMITTED });
	node_host_until(host, &client->down);
	node_client_free(client);
	/* hellos that are none */
	for (unsigned i = 0; i < 50; i++) {
		uint8_t bytes[KVT_FABRIC_HELLO];
		size_t length = kvt_rng_below(&rng, sizeof(bytes) + 1);
		for (size_t k = 0; k < length; k++)
			bytes[k] = (uint8_t)kvt_rng_below(&rng, 256);
		client = node_client_hello(host, bytes, length);
		g_assert_true(client->down && client->status == -ECONNREFUSED);
		node_client_free(client);
	}
	g_assert_cmpint(node_client_get(sound, node_pages(0, 16), 1, false), ==, 0);
	node_client_free(sound);
	node_host_free(host);
}

/* Who asks and never listens is let go. */
static void test_deaf(void)
{
	node_setup setup = node_setup_default();
	setup.tenants[0].requests = 4;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	node_client *sound = node_client_new(host, 2, NODE_MODEL);
	const kvt_remote_record list = { .type = KVT_REMOTE_LIST };
	uint8_t bytes[KVT_REMOTE_MESSAGE];
	size_t length = 0;
	while (length + kvt_remote_size(&list) <= sizeof(bytes))
		length += kvt_remote_encode(&list, bytes + length);
	node_client_say(client, bytes, length);
	node_host_until(host, &client->down);
	g_assert_cmpuint(node_host_errors(host, 1, "quota"), >, 0);
	g_assert_cmpint(node_client_put(sound, node_pages(0, 16), 1), ==, 0);
	node_client_free(client);
	node_client_free(sound);
	node_host_free(host);
}

/* --- Faults of the store and the device --- */

static void test_bad_store(void)
{
	node_setup setup = node_setup_default();
	setup.settings.pool_bytes = NODE_SLAB;
	setup.faults = (kvt_fault_settings){ .write_error_rate = 1 };
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	g_assert_cmpint(node_client_put(client, node_pages(0, 16), 1), ==, -EIO);
	g_assert_cmpint(node_client_get(client, node_pages(0, 16), 1, true), ==, -ENOENT);
	g_assert_cmpuint(used(host), ==, 0);
	g_assert_cmpuint(node_host_tenant(host, 1).reserved, ==, 0);
	node_client_free(client);
	node_host_free(host);
	setup.faults = (kvt_fault_settings){ .full_rate = 1 };
	host = node_host_new(&setup);
	client = node_client_new(host, 1, NODE_MODEL);
	g_assert_cmpint(node_client_put(client, node_pages(0, 16), 1), ==, -ENOSPC);
	node_client_free(client);
	node_host_free(host);
	setup.faults = (kvt_fault_settings){ .read_error_rate = 1, .busy_rate = 0.5 };
	host = node_host_new(&setup);
	client = node_client_new(host, 1, NODE_MODEL);
	for (unsigned i = 0; i < 2; i++)
		g_assert_cmpint(node_client_put(client, node_pages(16 * i, 16), 1), ==, 0);
	/* one is in the pool; to read the other evicts it, and fails */
	g_assert_cmpint(node_client_get(client, node_pages(16, 16), 1, true), ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(0, 16), 1, true), ==, -EIO);
	g_assert_cmpint(node_client_get(client, node_pages(0, 16), 1, false), ==, -EIO);
	node_client_free(client);
	g_assert_cmpuint(node_host_tenant(host, 1).held_bytes, ==, 0);
	node_host_free(host);
}

static void test_registration(void)
{
	node_host *host = host_default();
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	g_assert_cmpint(node_client_put(client, node_pages(0, 16), 1), ==, 0);
	memory_fabric_limit_regions(host->far, 0);
	g_assert_cmpint(node_client_put(client, node_pages(16, 16), 1), ==, -ENOMEM);
	memory_fabric_limit_regions(host->far, 1); /* the second of the two keys is refused */
	g_assert_cmpint(node_client_put(client, node_pages(16, 16), 1), ==, -ENOMEM);
	g_assert_cmpint(node_client_get(client, node_pages(0, 16), 1, false), ==, 0);
	memory_fabric_limit_regions(host->far, UINT_MAX);
	g_assert_cmpint(node_client_put(client, node_pages(16, 16), 1), ==, 0);
	node_client_free(client);
	node_host_free(host);
}

/* --- Draining --- */

static void set_flag(void *arg)
{
	*(bool *)arg = true;
}

/* What is under way ends well, what is new is refused, leases are waited for. */
static void test_drain(void)
{
	node_host *host = host_default();
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	kvt_extent pages = node_pages(0, 4), more = node_pages(4, 4);
	bool drained = false;
	g_assert_cmpint(node_client_put(client, pages, 1), ==, 0);
	g_autofree node_answer *held = lease(client, pages);
	g_autofree node_answer *room = node_client_ask(
		client, (kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = more });
	kvt_node_drain(host->node, set_flag, &drained);
	g_assert_cmpint(node_client_get(client, pages, 1, true), ==, -ESHUTDOWN);
	g_assert_cmpint(node_client_status(client,
				(kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = more }),
		==, -ESHUTDOWN);
	node_pages_make(client->memory, more, 1);
	g_assert_cmpint(node_client_write(client, 0, room->pieces[0].address, room->pieces[0].key,
				4 * NODE_PAGE),
		==, 0);
	g_assert_cmpint(commit_sums(client, room, 4, 0), ==, 0);
	g_assert_cmpint(node_client_read(client, 0, held->pieces[0].address, held->pieces[0].key,
				4 * NODE_PAGE),
		==, 0);
	g_assert_false(drained || client->down);
	node_client_send(client,
		(kvt_remote_record){
			.type = KVT_REMOTE_RELEASE, .n = 1, .leases = &held->pieces[0].lease });
	node_host_until(host, &client->down);
	node_client_free(client);
	while (!drained)
		kvt_loop_run(host->loop);
	/* freed here as node_host_free would */
	char *folder = g_strdup(host->folder);
	kvt_node_free(host->node);
	kvt_tier_close(host->tier);
	host->tier = NULL;
	node_setup setup = node_setup_default();
	setup.folder = folder;
	node_host *again = node_host_new(&setup);
	client = node_client_new(again, 1, NODE_MODEL);
	g_assert_cmpint(node_client_get(client, node_pages(0, 8), 1, true), ==, 0);
	node_client_free(client);
	node_host_free(again);
	g_free(folder);
	host->near->ops->free(host->near);
	host->far->ops->free(host->far);
	memory_wire_free(host->wire);
	kvt_loop_free(host->loop);
	node_folder_free(host->folder);
	g_free(host);
}

/* A client that never lets go is let go. */
static void test_drain_limit(void)
{
	node_setup setup = node_setup_default();
	setup.settings.drain = 20 * KVT_MILLISECOND;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	g_assert_cmpint(node_client_put(client, node_pages(0, 4), 1), ==, 0);
	g_free(lease(client, node_pages(0, 4)));
	g_free(node_client_ask(client,
		(kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = node_pages(4, 4) }));
	memory_fabric_stop(host->near, true);
	bool drained = false;
	kvt_node_drain(host->node, set_flag, &drained);
	while (!drained)
		kvt_loop_run(host->loop);
	memory_fabric_stop(host->near, false);
	node_host_until(host, &client->down);
	node_client_free(client);
	kvt_node_free(host->node);
	kvt_tier_close(host->tier);
	host->near->ops->free(host->near);
	host->far->ops->free(host->far);
	memory_wire_free(host->wire);
	kvt_loop_free(host->loop);
	node_folder_free(host->folder);
	g_free(host);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/node/pages/store", GINT_TO_POINTER(1), test_pages);
	g_test_add_data_func("/node/pages/memory", GINT_TO_POINTER(0), test_pages);
	g_test_add_func("/node/store-reads", test_store_reads);
	g_test_add_func("/node/leases/held", test_held);
	g_test_add_data_func("/node/leases/stale", GUINT_TO_POINTER(1), test_stale);
	g_test_add_data_func("/node/leases/stale-other", GUINT_TO_POINTER(2), test_stale);
	g_test_add_func("/node/leases/write-keys", test_write_keys);
	g_test_add_func("/node/writes/commit", test_commit);
	g_test_add_func("/node/writes/wire", test_wire);
	g_test_add_func("/node/writes/death", test_death);
	g_test_add_func("/node/writes/time", test_ticket_time);
	g_test_add_data_func("/node/list/store", GINT_TO_POINTER(1), test_list);
	g_test_add_data_func("/node/list/memory", GINT_TO_POINTER(0), test_list);
	g_test_add_func("/node/hostile/nonsense", test_nonsense);
	g_test_add_func("/node/hostile/deaf", test_deaf);
	g_test_add_func("/node/faults/store", test_bad_store);
	g_test_add_func("/node/faults/registration", test_registration);
	g_test_add_func("/node/drain/clean", test_drain);
	g_test_add_func("/node/drain/limit", test_drain_limit);
	return g_test_run();
}
