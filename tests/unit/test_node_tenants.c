/*
 * test_node_tenants.c: what tenants of a storage node can do to each other, which is nothing, and
 * what they can have, which is what their caps say. Each attempt is one that would succeed if the
 * node did not look.
 */
#include <errno.h>
#include <string.h>

#include "emu/remote/node.h"
#include "tests/unit/node_fixture.h"

/* --- Who is let in --- */

static kvt_remote_refusal hello(
	node_host *host, uint16_t version, uint32_t tenant, uint8_t key, unsigned wrong_byte)
{
	uint8_t bytes[KVT_FABRIC_HELLO];
	kvt_remote_hello says = { .version = version, .tenant = tenant, .model = NODE_MODEL };
	memset(says.key, key, sizeof(says.key));
	if (wrong_byte < KVT_REMOTE_KEY)
		says.key[wrong_byte] ^= 1;
	size_t length = kvt_remote_hello_encode(&says, bytes);
	node_client *client = node_client_hello(host, bytes, length);
	client->tenant = tenant;
	kvt_remote_refusal refusal = client->refusal;
	g_assert_true(client->up == (refusal == 0));
	g_assert_true(client->up || client->status == -ECONNREFUSED);
	node_client_free(client);
	return refusal;
}

static void test_hello(void)
{
	node_setup setup = node_setup_default();
	node_host *host = node_host_new(&setup);
	g_assert_cmpint(hello(host, KVT_REMOTE_VERSION, 1, 1, 99), ==, 0);
	/* another tenant's key, and every byte of the own counts */
	g_assert_cmpint(hello(host, KVT_REMOTE_VERSION, 1, 2, 99), ==, KVT_REMOTE_WRONG_KEY);
	for (unsigned i = 0; i < KVT_REMOTE_KEY; i++)
		g_assert_cmpint(hello(host, KVT_REMOTE_VERSION, 2, 2, i), ==, KVT_REMOTE_WRONG_KEY);
	g_assert_cmpint(hello(host, KVT_REMOTE_VERSION, 4, 1, 99), ==, KVT_REMOTE_UNKNOWN_TENANT);
	g_assert_cmpint(
		hello(host, KVT_REMOTE_VERSION + 1, 1, 1, 99), ==, KVT_REMOTE_OTHER_VERSION);
	node_host_free(host);
}

static void test_connections(void)
{
	node_setup setup = node_setup_default();
	node_host *host = node_host_new(&setup);
	node_client *clients[4];
	for (unsigned i = 0; i < 4; i++) {
		clients[i] = node_client_new(host, 1, NODE_MODEL);
		g_assert_true(clients[i]->up);
	}
	g_assert_cmpint(hello(host, KVT_REMOTE_VERSION, 1, 1, 99), ==, KVT_REMOTE_TOO_MANY);
	g_assert_cmpint(hello(host, KVT_REMOTE_VERSION, 2, 2, 99), ==, 0);
	node_client_free(clients[0]);
	g_assert_cmpint(hello(host, KVT_REMOTE_VERSION, 1, 1, 99), ==, 0);
	for (unsigned i = 1; i < 4; i++)
		node_client_free(clients[i]);
	/* models count as long as there are connections or pages of them */
	for (unsigned i = 0; i < 3; i++) {
		clients[i] = node_client_new(host, 1, 100 + i);
		g_assert_true(clients[i]->up == (i < 2));
	}
	g_assert_cmpint(clients[2]->refusal, ==, KVT_REMOTE_NO_ROOM);
	g_assert_cmpint(node_client_put(clients[0], node_pages(0, 1), 1), ==, 0);
	for (unsigned i = 0; i < 3; i++)
		node_client_free(clients[i]);
	for (unsigned i = 0; i < 3; i++) {
		node_client *client = node_client_new(host, 1, 200 + i);
		g_assert_true(client->up);
		node_client_free(client);
	}
	clients[0] = node_client_new(host, 1, 200);
	clients[1] = node_client_new(host, 1, 201);
	g_assert_true(clients[0]->up && clients[1]->down);
	node_client_free(clients[0]);
	node_client_free(clients[1]);
	node_host_free(host);
}

/* --- Another tenant's pages --- */

/* Two of them, the first with pages in the pool and a lease. */
typedef struct pair {
	node_host *host;
	node_client *owner, *thief;
	node_answer *lease;
	kvt_extent pages;
} pair;

static pair pair_new(void)
{
	node_setup setup = node_setup_default();
	pair p = { .host = node_host_new(&setup), .pages = node_pages(0, 16) };
	p.owner = node_client_new(p.host, 1, NODE_MODEL);
	p.thief = node_client_new(p.host, 2, NODE_MODEL);
	g_assert_cmpint(node_client_put(p.owner, p.pages, 1), ==, 0);
	p.lease = node_client_ask(
		p.owner, (kvt_remote_record){ .type = KVT_REMOTE_FETCH, .run = p.pages });
	g_assert_cmpint(p.lease->record.status, ==, 0);
	return p;
}

static void pair_free(pair *p)
{
	/* what the owner has is what it had */
	g_assert_cmpint(node_client_get(p->owner, p->pages, 1, true), ==, 0);
	g_free(p->lease);
	node_client_free(p->owner);
	node_client_free(p->thief);
	node_host_free(p->host);
}

/* A key that another tenant was told. */
static void test_other_key(void)
{
	pair p = pair_new();
	const kvt_remote_piece *piece = &p.lease->pieces[0];
	g_assert_cmpint(node_client_read(p.owner, 0, piece->address, piece->key, NODE_SLAB), ==, 0);
	g_assert_cmpint(
		node_client_read(p.thief, 0, piece->address, piece->key, NODE_PAGE), ==, -EACCES);
	g_assert_false(node_pages_are(p.thief->memory, node_pages(0, 1), 1));
	node_client_free(p.thief);
	/* nor one to write with */
	p.thief = node_client_new(p.host, 2, NODE_MODEL);
	g_autofree node_answer *room = node_client_ask(p.owner,
		(kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = node_pages(16, 1) });
	const kvt_remote_piece *place = &room->pieces[0];
	g_assert_cmpint(
		node_client_write(p.thief, 0, place->address, place->key, NODE_PAGE), ==, -EACCES);
	g_assert_cmpint(
		node_client_write(p.owner, 0, place->address, place->key, NODE_PAGE), ==, 0);
	pair_free(&p);
}

/* The same context, layer and page numbers, and what was guessed, are the thief's own. */
static void test_other_pages(void)
{
	pair p = pair_new();
	uint64_t before = memory_wire_get_counts(p.host->wire)->written_bytes;
	for (unsigned direct = 0; direct < 2; direct++)
		for (uint64_t first = 0; first < 20; first++)
			g_assert_cmpint(node_client_get(p.thief, node_pages(first, 1), 1, direct),
				==, -ENOENT);
	g_assert_cmpint(node_client_get(p.thief, p.pages, 1, true), ==, -ENOENT);
	g_assert_cmpuint(memory_wire_get_counts(p.host->wire)->written_bytes, ==, before);
	g_autofree node_answer *gone = node_client_ask(
		p.thief, (kvt_remote_record){ .type = KVT_REMOTE_DISCARD, .run = p.pages });
	g_assert_cmpuint(gone->record.pages, ==, 0);
	g_autofree node_answer *list =
		node_client_ask(p.thief, (kvt_remote_record){ .type = KVT_REMOTE_LIST });
	g_assert_cmpuint(list->record.n, ==, 0);
	/* its own of the same numbers are others */
	g_assert_cmpint(node_client_put(p.thief, p.pages, 2), ==, 0);
	g_assert_cmpint(node_client_get(p.thief, p.pages, 2, false), ==, 0);
	/* and so are another model's of the same tenant */
	node_client *model = node_client_new(p.host, 1, NODE_MODEL + 1);
	g_assert_cmpint(node_client_get(model, p.pages, 1, true), ==, -ENOENT);
	node_client_free(model);
	pair_free(&p);
}

/* Numbers of leases and tickets are easily guessed, and of no use to others. */
static void test_other_numbers(void)
{
	pair p = pair_new();
	uint64_t guesses[64], checksum;
	for (unsigned i = 0; i < G_N_ELEMENTS(guesses); i++)
		guesses[i] = i;
	node_client_send(p.thief, (kvt_remote_record){ .type = KVT_REMOTE_RELEASE,
					  .n = G_N_ELEMENTS(guesses),
					  .leases = guesses });
	g_autofree node_answer *room = node_client_ask(p.owner,
		(kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = node_pages(16, 1) });
	node_pages_make(p.owner->memory, node_pages(16, 1), 1);
	kvt_store_checksums(p.owner->memory, NODE_PAGE, 1, &checksum);
	g_assert_cmpint(node_client_write(p.owner, 0, room->pieces[0].address, room->pieces[0].key,
				NODE_PAGE),
		==, 0);
	kvt_remote_record commit = { .type = KVT_REMOTE_COMMIT,
		.ticket = room->record.ticket,
		.n_checksums = 1,
		.checksums = &checksum };
	for (uint64_t i = 0; i < 64; i++)
		node_client_send(
			p.thief, (kvt_remote_record){ .type = KVT_REMOTE_ABORT, .ticket = i });
	g_assert_cmpint(node_client_status(p.thief, commit), ==, -ESTALE);
	/* also of the same tenant: a ticket is its connection's */
	node_client *brother = node_client_new(p.host, 1, NODE_MODEL);
	g_assert_cmpint(node_client_status(brother, commit), ==, -ESTALE);
	node_client_free(brother);
	g_assert_cmpuint(node_host_tenant(p.host, 1).leases, ==, 1);
	g_assert_cmpint(node_client_status(p.owner, commit), ==, 0);
	g_assert_cmpint(node_client_get(p.owner, node_pages(16, 1), 1, true), ==, 0);
	pair_free(&p);
}

/* A lease's bounds are not the slab's, but the slab is the tenant's alone: reading past it gives
 * the tenant's own pages or nothing, and past the slab's end ends the connection. */
static void test_past_the_end(void)
{
	pair p = pair_new();
	const kvt_remote_piece *piece = &p.lease->pieces[0];
	/* its neighbour in memory is the other's */
	g_assert_cmpint(node_client_put(p.thief, p.pages, 2), ==, 0);
	g_assert_cmpint(
		node_client_read(p.owner, 0, piece->address + NODE_PAGE, piece->key, NODE_SLAB), ==,
		-EACCES);
	g_assert_false(
		node_pages_are(p.owner->memory + NODE_SLAB - NODE_PAGE, node_pages(0, 1), 2));
	node_client_free(p.owner);
	p.owner = node_client_new(p.host, 1, NODE_MODEL);
	pair_free(&p);
}

/* --- Caps --- */

static void test_capacity(void)
{
	node_setup setup = node_setup_default();
	setup.tenants[0].capacity = 20 * NODE_PAGE;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	g_assert_cmpint(node_client_put(client, node_pages(0, 16), 1), ==, 0);
	g_assert_cmpint(node_client_put(client, node_pages(16, 5), 1), ==, -ENOSPC);
	/* both versions need room, also of what is only begun */
	g_assert_cmpint(node_client_put(client, node_pages(0, 5), 1), ==, -ENOSPC);
	g_free(node_client_ask(client,
		(kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = node_pages(20, 4) }));
	g_assert_cmpint(node_client_put(client, node_pages(16, 1), 1), ==, -ENOSPC);
	g_assert_cmpint(node_client_status(client, (kvt_remote_record){ .type = KVT_REMOTE_DISCARD,
							   .run = node_pages(8, 8) }),
		==, 0);
	g_assert_cmpint(node_client_put(client, node_pages(16, 8), 1), ==, 0);
	/* another tenant's is another's */
	node_client *other = node_client_new(host, 2, NODE_MODEL);
	g_assert_cmpint(node_client_put(other, node_pages(0, 16), 1), ==, 0);
	node_client_free(other);
	node_client_free(client);
	node_host_free(host);
}

/* What leases and writes hold at once, and what of the pool a tenant has. */
static void test_held(void)
{
	node_setup setup = node_setup_default();
	setup.tenants[0].held = 2 * NODE_SLAB;
	setup.tenants[0].pool = 4 * NODE_SLAB;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	for (unsigned i = 0; i < 8; i++)
		g_assert_cmpint(node_client_put(client, node_pages(16 * i, 16), 1), ==, 0);
	g_assert_cmpuint(node_host_tenant(host, 1).pool_bytes, <=, 4 * NODE_SLAB);
	for (unsigned i = 6; i < 8; i++)
		g_assert_cmpint(
			node_client_status(client, (kvt_remote_record){ .type = KVT_REMOTE_FETCH,
							   .run = node_pages(16 * i, 16) }),
			==, 0);
	g_assert_cmpuint(node_host_tenant(host, 1).held_bytes, ==, 2 * NODE_SLAB);
	/* no more leases, but what lies in a slab that is held costs nothing more; others are
	 * written to who names memory */
	kvt_remote_record fetch = { .type = KVT_REMOTE_FETCH, .run = node_pages(80, 16) };
	g_assert_cmpint(node_client_status(client, fetch), ==, -EDQUOT);
	fetch.run = node_pages(96, 8);
	g_assert_cmpint(node_client_status(client, fetch), ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(80, 16), 1, true), ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(0, 16), 1, true), ==, 0);
	g_assert_cmpint(node_client_put(client, node_pages(200, 16), 1), ==, -EDQUOT);
	node_client *other = node_client_new(host, 2, NODE_MODEL);
	g_assert_cmpint(node_client_put(other, node_pages(0, 16), 1), ==, 0);
	g_assert_cmpint(node_client_get(other, node_pages(0, 16), 1, false), ==, 0);
	node_client_free(other);
	node_client_free(client);
	node_host_free(host);
}

static void test_requests(void)
{
	node_setup setup = node_setup_default();
	setup.tenants[0].requests = 3;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	unsigned good = 0, refused = 0;
	kvt_remote_record reserve = { .type = KVT_REMOTE_RESERVE };
	/* writes that were begun count until they end */
	for (unsigned i = 0; i < 5; i++) {
		reserve.run = node_pages(4 * i, 1);
		int status = node_client_status(client, reserve);
		g_assert_true(status == 0 || status == -EDQUOT);
		good += status == 0;
		refused += status != 0;
	}
	g_assert_cmpuint(good, >=, 2);
	g_assert_cmpuint(good, <=, 3);
	g_assert_cmpuint(node_host_errors(host, 1, "quota"), ==, refused);
	/* those of another connection too, and no other tenant's */
	node_client *second = node_client_new(host, 1, NODE_MODEL);
	node_client *other = node_client_new(host, 2, NODE_MODEL);
	g_assert_cmpint(node_client_put(other, node_pages(0, 1), 1), ==, 0);
	if (good == 3)
		g_assert_cmpint(node_client_status(second, reserve), ==, -EDQUOT);
	node_client_free(client);
	g_assert_cmpint(node_client_put(second, node_pages(0, 1), 1), ==, 0);
	node_client_free(second);
	node_client_free(other);
	node_host_free(host);
}

/* Bytes beyond the burst take their time; the first class goes first, others are not starved, and
 * no other tenant waits. */
static void test_bandwidth(void)
{
	enum { N = 40 };
	node_setup setup = node_setup_default();
	setup.tenants[0].bandwidth = 20.0 * NODE_SLAB / 0.1;
	setup.tenants[0].burst = NODE_SLAB;
	setup.tenants[0].requests = 2 * N;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	node_client *other = node_client_new(host, 2, NODE_MODEL);
	g_assert_cmpint(node_client_put(client, node_pages(0, 16), 1), ==, 0);
	g_assert_cmpint(node_client_put(other, node_pages(0, 16), 1), ==, 0);
	/* what is refused for its size costs nothing */
	kvt_extent huge = { 9, 9, 0, 1, UINT64_MAX / 4 };
	g_assert_cmpint(node_client_status(client,
				(kvt_remote_record){ .type = KVT_REMOTE_FETCH, .run = huge }),
		==, -E2BIG);
	kvt_time begin = kvt_loop_now(host->loop);
	unsigned urgent = 0, late = 0, urgent_left = N / 2;
	uint64_t first = client->next_id + 1;
	for (unsigned i = 0; i < N; i++)
		node_client_send(client, (kvt_remote_record){ .type = KVT_REMOTE_FETCH,
						 .priority = i % 2 ? 0 : 3,
						 .run = node_pages(0, 16) });
	g_assert_cmpint(node_client_get(other, node_pages(0, 16), 1, true), ==, 0);
	g_assert_cmpuint(node_host_tenant(host, 2).counts.delayed, ==, 0);
	for (unsigned i = 0; i < N; i++) {
		g_autofree node_answer *answer = node_client_wait(client);
		g_assert_cmpint(answer->record.status, ==, 0);
		bool is_urgent = (answer->record.id - first) % 2 == 1;
		urgent += is_urgent && i < N / 2 + 4;
		urgent_left -= is_urgent;
		late += !is_urgent && urgent_left > 0;
	}
	kvt_time took = kvt_loop_now(host->loop) - begin;
	/* N slabs, of which two went at once at most */
	g_assert_cmpint(took, >=, (kvt_time)((N - 3) * 5) * KVT_MILLISECOND);
	g_assert_cmpuint(urgent, >=, N / 2 - 3);
	g_assert_cmpuint(late, >, 0);
	g_assert_cmpuint(node_host_tenant(host, 1).counts.delayed, >, N / 2);
	node_client_free(client);
	node_client_free(other);
	node_host_free(host);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/node-tenants/hello", test_hello);
	g_test_add_func("/node-tenants/connections", test_connections);
	g_test_add_func("/node-tenants/isolation/key", test_other_key);
	g_test_add_func("/node-tenants/isolation/pages", test_other_pages);
	g_test_add_func("/node-tenants/isolation/numbers", test_other_numbers);
	g_test_add_func("/node-tenants/isolation/past-the-end", test_past_the_end);
	g_test_add_func("/node-tenants/caps/capacity", test_capacity);
	g_test_add_func("/node-tenants/caps/held", test_held);
	g_test_add_func("/node-tenants/caps/requests", test_requests);
	g_test_add_func("/node-tenants/caps/bandwidth", test_bandwidth);
	return g_test_run();
}
