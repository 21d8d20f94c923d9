/*
 * test_node_restart.c: a storage node's store as it is found after a kill at any moment: copied
 * while writes are under way. All that was acknowledged before is there, whole; what was not is
 * there whole or not at all.
 */
#include <errno.h>
#include <string.h>

#include "emu/remote/node.h"
#include "tests/unit/node_fixture.h"
#include "tests/unit/store_fixture.h"

enum { RUNS = 24, PAGES = 5, ROUNDS = 10 };

typedef struct load {
	node_host *host;
	node_client *client;
	unsigned version[RUNS]; /* that was acknowledged last; 0: none */
	unsigned under_way;     /* the run that is being written, to version + 1; RUNS: none */
} load;

static kvt_extent run_of(unsigned i)
{
	return (kvt_extent){ i, 1, 7, PAGES, NODE_PAGE };
}

/* Begins to write the run; the bytes are there, and the COMMIT is on its way. */
static void begin_write(load *l, unsigned i)
{
	kvt_extent pages = run_of(i);
	uint64_t checksums[PAGES], at = 0;
	g_autofree node_answer *room = node_client_ask(
		l->client, (kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = pages });
	g_assert_cmpint(room->record.status, ==, 0);
	node_pages_make(l->client->memory, pages, (uint8_t)(l->version[i] + 1));
	kvt_store_checksums(l->client->memory, NODE_PAGE, PAGES, checksums);
	for (uint32_t k = 0; k < room->record.n; k++) {
		const kvt_remote_piece *piece = &room->pieces[k];
		uint64_t bytes = piece->n_pages * NODE_PAGE;
		g_assert_cmpint(
			node_client_write(l->client, at, piece->address, piece->key, bytes), ==, 0);
		at += bytes;
	}
	node_client_send(l->client, (kvt_remote_record){ .type = KVT_REMOTE_COMMIT,
					    .ticket = room->record.ticket,
					    .n_checksums = PAGES,
					    .checksums = checksums });
	l->under_way = i;
}

static void end_write(load *l)
{
	g_autofree node_answer *answer = node_client_wait(l->client);
	g_assert_cmpint(answer->record.status, ==, 0);
	l->version[l->under_way]++;
	l->under_way = RUNS;
}

/* A node on what a kill would have left. */
static void check_copy(const load *l, const node_setup *from, char *folder)
{
	node_setup setup = *from;
	setup.folder = folder;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	uint64_t pages = 0;
	for (unsigned i = 0; i < RUNS; i++) {
		unsigned version = l->version[i];
		int status = node_client_get(client, run_of(i), (uint8_t)version, i % 2);
		if (status != 0 && i == l->under_way)
			status = node_client_get(client, run_of(i), (uint8_t)(version + 1), true);
		if (status == -ENOENT && version == 0)
			status = 0;
		else
			pages += PAGES;
		g_assert_cmpint(status, ==, 0);
	}
	g_assert_cmpuint(node_host_tenant(host, 1).used, ==, pages * NODE_PAGE);
	/* and it goes on */
	g_assert_cmpint(node_client_put(client, node_pages(0, 4), 9), ==, 0);
	node_client_free(client);
	node_host_free(host);
	store_folder_free(folder);
}

static void test_kill(void)
{
	node_setup setup = node_setup_default();
	setup.settings.pool_bytes = 6 * NODE_SLAB;
	load l = { .host = node_host_new(&setup), .under_way = RUNS };
	l.client = node_client_new(l.host, 1, NODE_MODEL);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned k = 0; k < 4 + round; k++) {
			begin_write(&l, (7 * round + 5 * k) % RUNS);
			end_write(&l);
		}
		begin_write(&l, (11 * round) % RUNS);
		/* at some moment of what the loop does for it */
		node_host_run(l.host, (round % 4) * 20 * KVT_MICROSECOND);
		char *copy = store_folder_new();
		store_copy(l.host->folder, copy);
		check_copy(&l, &setup, copy);
		end_write(&l);
	}
	node_client_free(l.client);
	node_host_free(l.host);
}

/* What is in the store counts against the capacities, of tenants that there are. */
static void test_tenants(void)
{
	char *folder = store_folder_new();
	node_setup setup = node_setup_default();
	setup.folder = folder;
	for (unsigned round = 0; round < 2; round++) {
		node_host *host = node_host_new(&setup);
		for (uint32_t tenant = 1; tenant <= 3; tenant++)
			for (uint64_t model = 1; model <= 2; model++) {
				node_client *client = node_client_new(host, tenant, model);
				if (round == 0)
					g_assert_cmpint(
						node_client_put(client, node_pages(0, tenant),
							(uint8_t)(tenant + model)),
						==, 0);
				g_assert_cmpint(node_client_get(client, node_pages(0, tenant),
							(uint8_t)(tenant + model), false),
					==, 0);
				g_assert_cmpuint(node_host_tenant(host, tenant).used, ==,
					(round == 0 ? model : 2) * tenant * NODE_PAGE);
				node_client_free(client);
			}
		node_host_free(host);
	}
	/* the third is none any more, and its pages nobody's */
	setup.tenants[2].number = 9;
	node_host *host = node_host_new(&setup);
	uint8_t bytes[KVT_FABRIC_HELLO];
	kvt_remote_hello hello = { .version = KVT_REMOTE_VERSION, .tenant = 9, .model = 1 };
	memset(hello.key, 3, sizeof(hello.key));
	node_client *client =
		node_client_hello(host, bytes, kvt_remote_hello_encode(&hello, bytes));
	client->tenant = 3;
	g_assert_true(client->up);
	g_assert_cmpuint(client->welcome.used, ==, 0);
	g_assert_cmpint(node_client_get(client, node_pages(0, 1), 4, true), ==, -ENOENT);
	node_client_free(client);
	node_host_free(host);
	store_folder_free(folder);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/node-restart/kill", test_kill);
	g_test_add_func("/node-restart/tenants", test_tenants);
	return g_test_run();
}
