/*
 * test_remote_tier.c: the conformance suite over the remote tier and a storage node on a fabric
 * within the process, with the node's memory alone and with a store behind it; and what is remote
 * about it: bytes come back as they went, nothing wrong is ever served, and whatever befalls the
 * node or the wire, every I/O ends.
 */
#include "emu/remote_tier.h"

#include <errno.h>
#include <string.h>

#include "emu/real_loop.h"
#include "sim/base/rng.h"
#include "tests/unit/node_fixture.h"
#include "tests/unit/tier_conformance.h"
#include "tests/unit/tier_test_io.h"

enum { TENANTS = 3, MIB = 1 << 20 };

/* A node that is made, and how the tier is opened. */
typedef struct rig {
	node_host *host;
	kvt_tier *tier;
	kvt_remote_settings settings;
	kvt_remote_tenant tenants[TENANTS];
} rig;

static node_setup setup_of(bool store)
{
	node_setup setup = node_setup_default();
	setup.store = store;
	setup.store_capacity = (uint64_t)2 << 30;
	setup.settings.slab_bytes = 4 * MIB;
	setup.settings.pool_bytes = (store ? 128 : 1024) * (uint64_t)MIB;
	setup.settings.lease = 40 * KVT_MILLISECOND;
	setup.settings.connection.timeout = 20 * KVT_MILLISECOND;
	setup.settings.connection.retries = 2;
	for (unsigned i = 0; i < TENANTS; i++) {
		setup.tenants[i].number = i;
		setup.tenants[i].capacity = (uint64_t)2 << 30;
		setup.tenants[i].pool = setup.tenants[i].held = setup.settings.pool_bytes;
		setup.tenants[i].requests = 1024;
	}
	return setup;
}

static void init_rig(rig *r, const node_setup *setup)
{
	r->host = node_host_new(setup);
	/* tests run the loop until nothing is under way; a node would keep it for ever */
	kvt_real_loop_release(r->host->loop);
	for (unsigned i = 0; i < TENANTS; i++) {
		r->tenants[i].number = i;
		memcpy(r->tenants[i].key, setup->tenants[i].key, KVT_REMOTE_KEY);
	}
	r->settings = (kvt_remote_settings){ .address = "10.0.0.2",
		.port = kvt_node_port(r->host->node),
		.model = "tests",
		.tenants = r->tenants,
		.n_tenants = TENANTS,
		.timeout = 20 * KVT_SECOND,
		.pause = 10 * KVT_MILLISECOND,
		.connection = { .retries = 2,
			.timeout = 20 * KVT_MILLISECOND,
			.connect_timeout = 100 * KVT_MILLISECOND } };
}

static void open_rig(rig *r)
{
	g_autoptr(GError) error = NULL;
	const kvt_tier_env env = { .loop = r->host->loop };
	r->tier = kvt_remote_tier_new(&env, r->host->near, &r->settings, &error);
	g_assert_no_error(error);
}

static void close_rig(rig *r)
{
	kvt_tier_close(r->tier);
	kvt_real_loop_hold(r->host->loop);
	node_host_free(r->host);
}

/* --- The suite --- */

static void make(tier_under_test *t, uint64_t capacity, bool store, bool leases, unsigned helpers)
{
	rig *r = g_new0(rig, 1);
	node_setup setup = setup_of(store);
	init_rig(r, &setup);
	r->settings.capacity = capacity;
	r->settings.no_leases = !leases;
	r->settings.helpers = helpers;
	open_rig(r);
	*t = (tier_under_test){ .loop = r->host->loop, .tier = r->tier, .more = r };
}

static void make_memory(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make(t, capacity, false, true, 0);
}

static void make_asking(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make(t, capacity, false, false, 1);
}

static void make_store(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make(t, capacity, true, true, 1);
}

static void free_kind(tier_under_test *t)
{
	const char *notice = t->tier->ops->notice(t->tier);
	if (notice)
		g_test_message("%s", notice);
	close_rig(t->more);
	g_free(t->more);
}

static const tier_kind kinds[] = {
	{ "remote-memory", make_memory, free_kind },
	{ "remote-asking", make_asking, free_kind },
	{ "remote-store", make_store, free_kind },
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
		tier_conformance_add(&kinds[i]);
	return g_test_run();
}
