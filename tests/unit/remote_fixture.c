/* remote_fixture.c: a storage node, the tier that reads from it, and pages that say what they are.
 */
#include "tests/unit/remote_fixture.h"

#include <string.h>

#include "emu/loop/real_loop.h"

enum { MIB = 1 << 20 };

/* Tests wait for leases to end; a read must not come later, however slow the machine is. */
#ifdef __SANITIZE_THREAD__
#define LEASE (400 * KVT_MILLISECOND)
#else
#define LEASE (40 * KVT_MILLISECOND)
#endif

node_setup remote_setup(bool store)
{
	node_setup setup = node_setup_default();
	setup.store = store;
	setup.store_capacity = (uint64_t)2 << 30;
	setup.store_segment = 16 * MIB;
	setup.settings.slab_bytes = 4 * MIB;
	setup.settings.pool_bytes = (store ? 128 : 1024) * (uint64_t)MIB;
	setup.settings.lease = LEASE;
	setup.settings.smallest_page = 8;
	for (unsigned i = 0; i < REMOTE_TENANTS; i++) {
		setup.tenants[i].number = i;
		setup.tenants[i].capacity = (uint64_t)2 << 30;
		setup.tenants[i].pool = setup.tenants[i].held = setup.settings.pool_bytes;
		setup.tenants[i].requests = 1024;
		setup.tenants[i].connections = 64;
	}
	return setup;
}

void remote_rig_init(remote_rig *rig, const node_setup *setup)
{
	*rig = (remote_rig){ .host = node_host_new(setup) };
	/* tests run the loop until nothing is under way; a node would keep it for ever */
	kvt_real_loop_release(rig->host->loop);
	for (unsigned i = 0; i < REMOTE_TENANTS; i++) {
		rig->tenants[i].number = i;
		memcpy(rig->tenants[i].key, setup->tenants[i].key, KVT_REMOTE_KEY);
	}
	rig->settings = (kvt_remote_settings){ .address = "10.0.0.2",
		.port = kvt_node_port(rig->host->node),
		.model = "tests",
		.tenants = rig->tenants,
		.n_tenants = REMOTE_TENANTS,
		.timeout = 20 * KVT_SECOND };
}

void remote_rig_init_hasty(remote_rig *rig, const node_setup *setup)
{
	node_setup hasty = *setup;
	hasty.settings.connection.timeout = 20 * KVT_MILLISECOND;
	hasty.settings.connection.retries = 2;
	remote_rig_init(rig, &hasty);
	rig->settings.timeout = 300 * KVT_MILLISECOND;
	rig->settings.pause = KVT_MILLISECOND;
	rig->settings.longest_pause = 8 * KVT_MILLISECOND;
	rig->settings.connection = (kvt_connection_settings){ .queues = 3,
		.retries = 2,
		.timeout = 20 * KVT_MILLISECOND,
		.connect_timeout = 200 * KVT_MILLISECOND };
}

static kvt_tier *open_tier(remote_rig *rig, GError **error)
{
	const kvt_tier_env env = { .loop = rig->host->loop };
	return kvt_remote_tier_new(&env, rig->host->near, &rig->settings, error);
}

void remote_rig_open(remote_rig *rig)
{
	g_autoptr(GError) error = NULL;
	rig->tier = open_tier(rig, &error);
	g_assert_no_error(error);
	g_assert_nonnull(rig->tier);
}

char *remote_rig_refused(remote_rig *rig)
{
	g_autoptr(GError) error = NULL;
	g_assert_null(open_tier(rig, &error));
	g_assert_nonnull(error);
	g_assert_null(strchr(error->message, '\n'));
	return g_strdup(error->message);
}

void remote_rig_close(remote_rig *rig)
{
	if (rig->tier)
		kvt_tier_close(rig->tier);
	kvt_real_loop_hold(rig->host->loop);
	node_host_free(rig->host);
}

static void on_done(test_io *io)
{
	remote_rig *rig = io->hook_arg;
	kvt_loop_stop(rig->host->loop);
}

int remote_rig_run(remote_rig *rig, test_io *io)
{
	kvt_time end = kvt_loop_now(rig->host->loop) + 60 * KVT_SECOND;
	io->done = 0;
	io->hook = on_done;
	io->hook_arg = rig;
	test_io_submit(rig->tier, io);
	while (io->done == 0) {
		g_assert_cmpint(kvt_loop_now(rig->host->loop), <, end);
		kvt_loop_run(rig->host->loop);
	}
	g_assert_cmpuint(io->done, ==, 1);
	return io->io.status;
}

int remote_rig_move(
	remote_rig *rig, kvt_io_op op, uint32_t tenant, const kvt_extent *run, void *memory)
{
	test_io io;
	void *const where[] = { memory };
	test_io_init(&io, op, *run);
	io.io.tenant = tenant;
	io.io.memory = memory ? where : NULL;
	return remote_rig_run(rig, &io);
}
