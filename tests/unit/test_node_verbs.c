/*
 * test_node_verbs.c: clients of a storage node that is another process, over RDMA devices: what
 * tests/rxe/rxe_node.t runs while it kills, ends and starts the node. KVT_NODE_IP and KVT_NODE_PORT
 * say where it listens, KVT_NODE_STATE is a file for what was acknowledged. Without them all skip.
 */
#include <errno.h>
#include <string.h>

#include "emu/loop/real_loop.h"
#include "emu/fabric/verbs_fabric.h"
#include "tests/unit/node_fixture.h"

enum { RUNS = 12, PAGES = 3, AT_ONCE = 4 };

static node_host *host_new(void)
{
	const char *ip = g_getenv("KVT_NODE_IP"), *port = g_getenv("KVT_NODE_PORT");
	g_autoptr(GError) error = NULL;
	if (!ip || !port) {
		g_test_skip("there is no node: KVT_NODE_IP and KVT_NODE_PORT are not set");
		return NULL;
	}
	kvt_loop *loop = kvt_real_loop_new(NULL);
	kvt_fabric *fabric =
		kvt_verbs_fabric_new(loop, &(kvt_verbs_settings){ .peer = ip }, &error);
	g_assert_no_error(error);
	return node_host_far(loop, fabric, ip, (uint16_t)g_ascii_strtoull(port, NULL, 10));
}

/* --- What was acknowledged --- */

typedef struct state {
	unsigned version[RUNS]; /* that was acknowledged last; 0: none */
	bool under_way[RUNS];   /* the next one may be there or not */
} state;

static void state_read(state *s)
{
	g_autofree char *text = NULL;
	*s = (state){ 0 };
	if (!g_file_get_contents(g_getenv("KVT_NODE_STATE"), &text, NULL, NULL))
		return;
	g_auto(GStrv) words = g_strsplit_set(text, " \n", -1);
	for (unsigned i = 0; i < RUNS; i++) {
		s->version[i] = (unsigned)g_ascii_strtoull(words[2 * i], NULL, 10);
		s->under_way[i] = g_ascii_strtoull(words[2 * i + 1], NULL, 10) != 0;
	}
}

static void state_write(const state *s)
{
	g_autoptr(GString) text = g_string_new(NULL);
	for (unsigned i = 0; i < RUNS; i++)
		g_string_append_printf(text, "%u %u\n", s->version[i], s->under_way[i]);
	g_assert_true(g_file_set_contents(g_getenv("KVT_NODE_STATE"), text->str, -1, NULL));
}

static kvt_extent run_of(unsigned i)
{
	return (kvt_extent){ i, 1, 100, PAGES, NODE_PAGE };
}

/* All that was acknowledged is there, and nothing that nobody wrote. What was found of writes that
 * were under way counts as acknowledged from now on. */
static void verify(node_client *client, state *s)
{
	unsigned found = 0, newer = 0;
	for (unsigned i = 0; i < RUNS; i++) {
		int status = node_client_get(client, run_of(i), (uint8_t)s->version[i], i % 2);
		if (status == -ENOENT && s->version[i] == 0)
			continue;
		if (status == -EBADMSG && s->under_way[i]) {
			/* the newer one, whole */
			s->version[i]++;
			newer++;
			status = node_client_get(client, run_of(i), (uint8_t)s->version[i], true);
		}
		if (status == -EBADMSG && s->version[i] == 0)
			status = node_client_get(client, run_of(i), 1, true);
		g_assert_cmpint(status, ==, 0);
		found++;
	}
	memset(s->under_way, 0, sizeof(s->under_way));
	g_test_message("%u runs are as they were acknowledged, %u of them as they were written "
		       "when the node ended",
		found, newer);
}

/* --- Load --- */

typedef struct write {
	unsigned run;
	uint64_t id; /* of RESERVE, then of COMMIT */
	node_answer *room;
} write_in_flight;

/* Puts the bytes of the next version there, and asks for the acknowledgement. */
static bool commit(node_client *client, const state *s, write_in_flight *w)
{
	kvt_extent pages = run_of(w->run);
	uint64_t checksums[PAGES], at = 0;
	node_pages_make(client->memory, pages, (uint8_t)(s->version[w->run] + 1));
	kvt_store_checksums(client->memory, NODE_PAGE, PAGES, checksums);
	for (uint32_t k = 0; k < w->room->record.n; k++) {
		const kvt_remote_piece *piece = &w->room->pieces[k];
		uint64_t bytes = piece->n_pages * NODE_PAGE;
		if (node_client_write(client, at, piece->address, piece->key, bytes) != 0)
			return false;
		at += bytes;
	}
	w->id = node_client_send(client, (kvt_remote_record){ .type = KVT_REMOTE_COMMIT,
						 .ticket = w->room->record.ticket,
						 .n_checksums = PAGES,
						 .checksums = checksums });
	return true;
}

/* Writes several runs at once; false when the node has gone, or takes nothing more. */
static bool write_some(node_client *client, state *s, unsigned first, uint64_t *acknowledged)
{
	write_in_flight writes[AT_ONCE] = { 0 };
	bool good = true;
	for (unsigned k = 0; k < AT_ONCE; k++) {
		writes[k].run = (first + k) % RUNS;
		writes[k].id =
			node_client_send(client, (kvt_remote_record){ .type = KVT_REMOTE_RESERVE,
							 .run = run_of(writes[k].run) });
	}
	for (unsigned k = 0; k < AT_ONCE && good; k++) {
		writes[k].room = node_client_wait(client);
		good = writes[k].room && writes[k].room->record.status == 0;
		g_assert_true(
			!writes[k].room || good || writes[k].room->record.status == -ESHUTDOWN);
		s->under_way[writes[k].run] = good;
		good = good && commit(client, s, &writes[k]);
	}
	while (good) {
		g_autofree node_answer *answer = node_client_wait(client);
		good = answer != NULL;
		for (unsigned k = 0; k < AT_ONCE && good; k++) {
			if (writes[k].id != answer->record.id)
				continue;
			g_assert_cmpint(answer->record.status, ==, 0);
			s->version[writes[k].run]++;
			s->under_way[writes[k].run] = false;
			writes[k].id = 0;
			++*acknowledged;
		}
		bool left = false;
		for (unsigned k = 0; k < AT_ONCE; k++)
			left |= writes[k].id != 0;
		if (!left)
			break;
	}
	for (unsigned k = 0; k < AT_ONCE; k++)
		g_free(writes[k].room);
	return good;
}

/* Checks what is there, and writes until the node goes. */
static void test_load(void)
{
	node_host *host = host_new();
	state s;
	uint64_t acknowledged = 0;
	if (!host)
		return;
	state_read(&s);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	g_assert_true(client->up);
	verify(client, &s);
	state_write(&s);
	for (unsigned at = 0; write_some(client, &s, at, &acknowledged); at += AT_ONCE)
		if (acknowledged == AT_ONCE)
			g_assert_true(
				g_file_set_contents(g_getenv("KVT_NODE_BUSY"), "busy\n", -1, NULL));
	state_write(&s);
	g_test_message("%" G_GUINT64_FORMAT " writes were acknowledged", acknowledged);
	g_assert_cmpuint(acknowledged, >=, AT_ONCE);
	if (!client->down)
		node_host_until(host, &client->down);
	node_client_free(client);
	node_host_free(host);
}

static void test_verify(void)
{
	node_host *host = host_new();
	state s;
	if (!host)
		return;
	state_read(&s);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	g_assert_true(client->up);
	verify(client, &s);
	state_write(&s);
	node_client_free(client);
	node_host_free(host);
}

/* --- Isolation --- */

static void test_isolation(void)
{
	node_host *host = host_new();
	if (!host)
		return;
	kvt_extent pages = { 900, 1, 0, 4, NODE_PAGE };
	node_client *owner = node_client_new(host, 1, NODE_MODEL);
	node_client *thief = node_client_new(host, 2, NODE_MODEL);
	g_assert_true(owner->up && thief->up);
	g_assert_cmpint(node_client_put(owner, pages, 7), ==, 0);
	g_autofree node_answer *lease = node_client_ask(
		owner, (kvt_remote_record){ .type = KVT_REMOTE_FETCH, .run = pages });
	g_assert_cmpint(lease->record.status, ==, 0);
	const kvt_remote_piece piece = lease->pieces[0];
	g_assert_cmpint(node_client_read(owner, 0, piece.address, piece.key, 4 * NODE_PAGE), ==, 0);
	g_assert_true(node_pages_are(owner->memory, pages, 7));
	/* page numbers of the other's, with and without memory of the own */
	g_assert_cmpint(node_client_get(thief, pages, 7, false), ==, -ENOENT);
	g_assert_cmpint(node_client_get(thief, pages, 7, true), ==, -ENOENT);
	/* its key, which the device refuses */
	memset(thief->memory, 0, NODE_PAGE);
	g_assert_cmpint(
		node_client_read(thief, 0, piece.address, piece.key, NODE_PAGE), ==, -EACCES);
	g_assert_cmpuint(thief->memory[0] | thief->memory[NODE_PAGE - 1], ==, 0);
	node_client_free(thief);
	/* another tenant's secret */
	uint8_t bytes[KVT_FABRIC_HELLO];
	kvt_remote_hello hello = {
		.version = KVT_REMOTE_VERSION, .tenant = 2, .model = NODE_MODEL
	};
	memset(hello.key, 1, sizeof(hello.key));
	thief = node_client_hello(host, bytes, kvt_remote_hello_encode(&hello, bytes));
	g_assert_true(thief->down);
	g_assert_cmpint(thief->refusal, ==, KVT_REMOTE_WRONG_KEY);
	node_client_free(thief);
	/* the owner's own, of which nothing was hurt */
	g_assert_cmpint(node_client_read(owner, 0, piece.address, piece.key, 4 * NODE_PAGE), ==, 0);
	node_client_free(owner);
	node_host_free(host);
}

/* A lease that has run out and whose slab is used again, in a pool of two slabs: a key that the
 * device knows no more. */
static void test_stale(void)
{
	node_host *host = host_new();
	if (!host)
		return;
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	uint64_t slab = client->welcome.request_bytes / NODE_PAGE;
	kvt_extent pages = { 901, 1, 0, slab, NODE_PAGE };
	g_assert_cmpint(node_client_put(client, pages, 7), ==, 0);
	g_autofree node_answer *lease = node_client_ask(
		client, (kvt_remote_record){ .type = KVT_REMOTE_FETCH, .run = pages });
	g_assert_cmpint(lease->record.status, ==, 0);
	node_client *other = node_client_new(host, 2, NODE_MODEL);
	for (unsigned i = 0; i < 3; i++) {
		kvt_extent others = { 902 + i, 1, 0, slab, NODE_PAGE };
		g_assert_cmpint(node_client_put(other, others, 8), ==, 0);
	}
	memset(client->memory, 0, NODE_PAGE);
	g_assert_cmpint(node_client_read(client, 0, lease->pieces[0].address, lease->pieces[0].key,
				NODE_PAGE),
		==, -EACCES);
	g_assert_cmpuint(client->memory[0] | client->memory[NODE_PAGE - 1], ==, 0);
	node_client_free(client);
	node_client_free(other);
	node_host_free(host);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/node-verbs/load", test_load);
	g_test_add_func("/node-verbs/verify", test_verify);
	g_test_add_func("/node-verbs/isolation", test_isolation);
	g_test_add_func("/node-verbs/stale", test_stale);
	return g_test_run();
}
