/*
 * test_node.c: the storage node over a fabric within the process: pages come back as they went,
 * from the pool and from the store; leases hold; clients that die leave nothing behind.
 */
#include "emu/remote/node.h"

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

/* A pool of one slab, which is leased: nothing takes it, overwritten and discarded pages stay where
 * the lease says; who needs a slab waits for the release. */
static void test_held(void)
{
	node_setup setup = node_setup_default();
	setup.settings.pool_bytes = NODE_SLAB;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	node_client *other = node_client_new(host, 2, NODE_MODEL);
	kvt_extent pages = node_pages(0, 16);
	g_assert_cmpint(node_client_put(client, pages, 1), ==, 0);
	g_autofree node_answer *held = node_client_lease(client, pages);
	const kvt_remote_piece piece = held->pieces[0];
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

/* Who waits for room does not wait for ever. */
static void test_patience(void)
{
	node_setup setup = node_setup_default();
	setup.settings.pool_bytes = NODE_SLAB;
	setup.settings.patience = KVT_MILLISECOND;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	node_client *other = node_client_new(host, 2, NODE_MODEL);
	kvt_extent pages = node_pages(0, 16);
	g_assert_cmpint(node_client_put(client, pages, 1), ==, 0);
	g_free(node_client_lease(client, pages));
	g_assert_cmpint(node_client_put(other, pages, 2), ==, -EAGAIN);
	g_assert_cmpint(node_client_put(client, node_pages(16, 1), 2), ==, -EAGAIN);
	g_assert_cmpuint(node_host_errors(host, 2, "pool"), ==, 1);
	g_assert_cmpint(node_client_get(client, pages, 1, false), ==, 0);
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
	g_autofree node_answer *held = node_client_lease(client, pages);
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
	g_autofree node_answer *held = node_client_lease(reader, node_pages(24, 8));
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
	g_assert_cmpint(node_client_commit(client, first, node_pages(0, 4)), ==, -EBADMSG);
	g_assert_cmpint(node_client_commit(client, first, node_pages(0, 4)), ==, -ESTALE);
	g_assert_cmpint(node_client_get(client, pages, 1, true), ==, -ENOENT);
	/* of several at once each has its room; one that was aborted is none */
	g_autofree node_answer *second = node_client_ask(client, reserve);
	g_autofree node_answer *third = node_client_ask(client, reserve);
	node_client_send(client,
		(kvt_remote_record){ .type = KVT_REMOTE_ABORT, .ticket = second->record.ticket });
	g_assert_cmpint(node_client_commit(client, second, node_pages(0, 4)), ==, -ESTALE);
	g_assert_cmpint(node_client_commit(client, third, node_pages(0, 5)), ==, -EINVAL);
	node_pages_make(client->memory, pages, 1);
	g_assert_cmpint(node_client_write(client, 0, third->pieces[0].address, third->pieces[0].key,
				4 * NODE_PAGE),
		==, 0);
	g_assert_cmpint(node_client_commit(client, third, node_pages(0, 4)), ==, 0);
	g_assert_cmpint(node_client_get(client, pages, 1, false), ==, 0);
	node_client_free(client);
	kvt_node_tenant_state state = node_host_tenant(host, 1);
	g_assert_cmpuint(state.reserved + state.tickets + state.requests, ==, 0);
	g_assert_cmpuint(state.counts.tickets, ==, 3);
	node_host_free(host);
}

/* Several writes between RESERVE and COMMIT at once, of one client and another. */
static void test_many(void)
{
	enum { N = 12, PAGES = 3 };
	node_host *host = host_default();
	node_client *clients[2] = { node_client_new(host, 1, NODE_MODEL),
		node_client_new(host, 1, NODE_MODEL) };
	for (unsigned round = 0; round < 10; round++) {
		node_answer *rooms[N];
		for (unsigned i = 0; i < N; i++)
			node_client_send(
				clients[i % 2], (kvt_remote_record){ .type = KVT_REMOTE_RESERVE,
							.run = node_pages(PAGES * i, PAGES) });
		for (unsigned i = 0; i < N; i++) {
			node_client *client = clients[i % 2];
			uint64_t at = 0, checksums[PAGES];
			rooms[i] = node_client_wait(client);
			g_assert_cmpint(rooms[i]->record.status, ==, 0);
			node_pages_make(
				client->memory, node_pages(PAGES * i, PAGES), (uint8_t)round);
			kvt_store_checksums(client->memory, NODE_PAGE, PAGES, checksums);
			for (uint32_t k = 0; k < rooms[i]->record.n; k++) {
				const kvt_remote_piece *piece = &rooms[i]->pieces[k];
				uint64_t bytes = piece->n_pages * NODE_PAGE;
				g_assert_cmpint(node_client_write(client, at, piece->address,
							piece->key, bytes),
					==, 0);
				at += bytes;
			}
			node_client_send(client, (kvt_remote_record){ .type = KVT_REMOTE_COMMIT,
							 .ticket = rooms[i]->record.ticket,
							 .n_checksums = PAGES,
							 .checksums = checksums });
		}
		for (unsigned i = 0; i < N; i++) {
			g_autofree node_answer *answer = node_client_wait(clients[i % 2]);
			g_assert_cmpint(answer->record.type, ==, KVT_REMOTE_COMMITTED);
			g_assert_cmpint(answer->record.status, ==, 0);
			g_free(rooms[i]);
		}
		for (unsigned i = 0; i < N; i++)
			g_assert_cmpint(
				node_client_get(clients[i % 2], node_pages(PAGES * i, PAGES),
					(uint8_t)round, i % 3),
				==, 0);
	}
	node_client_free(clients[0]);
	node_client_free(clients[1]);
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
		g_free(node_client_lease(client, node_pages(0, 16)));
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
	g_assert_cmpint(node_client_commit(client, room, node_pages(0, 4)), ==, -ESTALE);
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

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/node/pages/store", GINT_TO_POINTER(1), test_pages);
	g_test_add_data_func("/node/pages/memory", GINT_TO_POINTER(0), test_pages);
	g_test_add_func("/node/store-reads", test_store_reads);
	g_test_add_func("/node/leases/held", test_held);
	g_test_add_func("/node/leases/patience", test_patience);
	g_test_add_data_func("/node/leases/stale", GUINT_TO_POINTER(1), test_stale);
	g_test_add_data_func("/node/leases/stale-other", GUINT_TO_POINTER(2), test_stale);
	g_test_add_func("/node/leases/write-keys", test_write_keys);
	g_test_add_func("/node/writes/commit", test_commit);
	g_test_add_func("/node/writes/many", test_many);
	g_test_add_func("/node/writes/wire", test_wire);
	g_test_add_func("/node/writes/death", test_death);
	g_test_add_func("/node/writes/time", test_ticket_time);
	g_test_add_data_func("/node/list/store", GINT_TO_POINTER(1), test_list);
	g_test_add_data_func("/node/list/memory", GINT_TO_POINTER(0), test_list);
	return g_test_run();
}
