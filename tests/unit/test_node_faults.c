/*
 * test_node_faults.c: a storage node and clients that send nonsense, a store that fails, a device
 * that registers no more, and its own end.
 */
#include <errno.h>
#include <string.h>

#include "emu/remote/node.h"
#include "sim/base/rng.h"
#include "tests/unit/node_fixture.h"

static node_host *host_default(void)
{
	node_setup setup = node_setup_default();
	return node_host_new(&setup);
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
	g_assert_cmpuint(node_host_tenant(host, 1).used, ==, 0);
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

/* --- Reads that come late --- */

/* A tier whose reads end when they are let go. */
typedef struct late_tier {
	kvt_tier base;
	kvt_tier *inner;
	kvt_io *held; /* the node's I/O, whose read is over */
	kvt_io read;  /* the one below, of the same */
	bool hold, is_held;
} late_tier;

static void on_late_read(kvt_io *read)
{
	late_tier *tier = read->arg;
	tier->held->status = read->status;
	tier->held->bytes = read->bytes;
	tier->is_held = true;
}

static int late_submit(kvt_tier *base, kvt_io *io)
{
	late_tier *tier = (late_tier *)base;
	if (io->op != KVT_IO_READ || !tier->hold)
		return kvt_tier_submit(tier->inner, io);
	tier->hold = false;
	tier->held = io;
	tier->read = *io;
	tier->read.done = on_late_read;
	tier->read.arg = tier;
	return kvt_tier_submit(tier->inner, &tier->read);
}

static void late_commit(kvt_tier *base)
{
	kvt_tier_commit(((late_tier *)base)->inner);
}

static uint64_t late_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((late_tier *)base)->inner;
	return inner->ops->discard(inner, tenant, extent);
}

static bool late_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((late_tier *)base)->inner;
	return inner->ops->holds(inner, tenant, extent);
}

static void late_close(kvt_tier *base)
{
}

static kvt_tier *make_late(void *arg, kvt_tier *inner)
{
	static const kvt_tier_ops ops = { .name = "late",
		.submit = late_submit,
		.commit = late_commit,
		.discard = late_discard,
		.holds = late_holds,
		.close = late_close };
	late_tier *tier = arg;
	tier->base.ops = &ops;
	tier->inner = inner;
	return &tier->base;
}

/* What was read before a newer version was acknowledged is not what later ones find, though the
 * newer one has left the pool meanwhile. */
static void test_late(void)
{
	late_tier late = { .hold = false };
	node_setup setup = node_setup_default();
	setup.settings.pool_bytes = 2 * NODE_SLAB;
	setup.wrap = make_late;
	setup.wrap_arg = &late;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	node_client *slow = node_client_new(host, 1, NODE_MODEL);
	kvt_extent pages = node_pages(0, 16);
	g_assert_cmpint(node_client_put(client, pages, 1), ==, 0);
	for (unsigned i = 1; i < 3; i++)
		g_assert_cmpint(node_client_put(client, node_pages(100 * i, 16), 1), ==, 0);
	late.hold = true;
	node_client_send(slow, (kvt_remote_record){ .type = KVT_REMOTE_FETCH,
				       .run = pages,
				       .address = slow->region.address,
				       .key = slow->region.key });
	node_host_until(host, &late.is_held);
	g_assert_cmpint(node_client_put(client, pages, 2), ==, 0);
	g_assert_cmpint(node_client_put(client, node_pages(300, 16), 1), ==, 0);
	late.held->done(late.held);
	g_autofree node_answer *answer = node_client_wait(slow);
	g_assert_cmpint(answer->record.status, ==, 0);
	g_assert_true(node_pages_are(slow->memory, pages, 1));
	g_assert_cmpint(node_client_get(client, pages, 2, true), ==, 0);
	g_assert_cmpint(node_client_get(client, pages, 2, false), ==, 0);
	node_client_free(client);
	node_client_free(slow);
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
	g_autofree node_answer *held = node_client_lease(client, pages);
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
	g_assert_cmpint(node_client_commit(client, room, node_pages(0, 4)), ==, 0);
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
	char *folder = g_strdup(host->folder);
	kvt_node_free(g_steal_pointer(&host->node));
	kvt_tier_close(g_steal_pointer(&host->tier));
	node_setup setup = node_setup_default();
	setup.folder = folder;
	node_host *again = node_host_new(&setup);
	client = node_client_new(again, 1, NODE_MODEL);
	g_assert_cmpint(node_client_get(client, node_pages(0, 8), 1, true), ==, 0);
	node_client_free(client);
	node_host_free(again);
	g_free(folder);
	node_host_free(host);
}

/* A client that never lets go is let go. */
static void test_drain_limit(void)
{
	node_setup setup = node_setup_default();
	setup.settings.drain = 20 * KVT_MILLISECOND;
	node_host *host = node_host_new(&setup);
	node_client *client = node_client_new(host, 1, NODE_MODEL);
	g_assert_cmpint(node_client_put(client, node_pages(0, 4), 1), ==, 0);
	g_free(node_client_lease(client, node_pages(0, 4)));
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
	kvt_node_free(g_steal_pointer(&host->node));
	node_host_free(host);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/node-faults/hostile/nonsense", test_nonsense);
	g_test_add_func("/node-faults/hostile/deaf", test_deaf);
	g_test_add_func("/node-faults/faults/store", test_bad_store);
	g_test_add_func("/node-faults/faults/registration", test_registration);
	g_test_add_func("/node-faults/faults/late", test_late);
	g_test_add_func("/node-faults/drain/clean", test_drain);
	g_test_add_func("/node-faults/drain/limit", test_drain_limit);
	return g_test_run();
}
