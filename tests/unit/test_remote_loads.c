/* test_remote_loads.c: loads that calibration puts on a storage node, on a wire within the process:
 * every kind ends with figures, what was stored goes again, a stranger is refused, and a node that
 * does not answer any more ends them with an error. How fast anything is does not matter here. */
#include <string.h>

#include "emu/calibrate/remote_load.h"
#include "emu/calibrate/remote_probe.h"
#include "tests/unit/node_fixture.h"

enum { SLAB = 4 << 20, POOL = 64 << 20 };

static node_host *host_new(void)
{
	node_setup setup = node_setup_default();
	setup.store = false;
	setup.settings.slab_bytes = SLAB;
	setup.settings.pool_bytes = POOL;
	for (unsigned i = 0; i < G_N_ELEMENTS(setup.tenants); i++) {
		setup.tenants[i].capacity = setup.tenants[i].pool = setup.tenants[i].held = POOL;
	}
	return node_host_new(&setup);
}

static kvt_remote_tenant tenant_of(uint32_t number, uint8_t key)
{
	kvt_remote_tenant tenant = { .number = number };
	memset(tenant.key, key, sizeof(tenant.key));
	return tenant;
}

static kvt_remote_probe *probe_new(node_host *host, uint8_t key, GError **error)
{
	const kvt_remote_probe_settings settings = { .address = host->address,
		.port = host->port,
		.tenant = tenant_of(2, key),
		.connection = { .queues = 2, .retries = 1, .timeout = 10 * KVT_MILLISECOND } };
	return kvt_remote_probe_new(host->loop, host->near, &settings, error);
}

static void assert_result(
	const kvt_load_result *result, const kvt_histogram *latencies, unsigned least)
{
	g_assert_cmpuint(result->ios, >=, least);
	g_assert_cmpuint(latencies->count, >=, least);
	g_assert_cmpfloat(result->rate, >, 0);
	g_assert_cmpfloat(result->cpu, >, 0);
	g_assert_cmpfloat(result->waited, >=, 0);
	g_assert_cmpfloat(result->waited, <=, 1);
}

static void test_probe(void)
{
	node_host *host = host_new();
	GError *error = NULL;
	kvt_remote_probe *probe = probe_new(host, 2, &error);
	g_assert_no_error(error);
	g_assert_cmpuint(kvt_remote_probe_largest(probe), ==, SLAB);
	for (int op = 0; op < KVT_PROBE_OPS; op++)
		for (uint64_t size = 4096; size <= SLAB; size *= 32)
			for (unsigned depth = 1; depth <= 8; depth *= 8) {
				kvt_histogram latencies;
				kvt_load_result result;
				const kvt_probe_load load = { .op = (kvt_probe_op)op,
					.size = size,
					.depth = depth,
					.least = 3 * depth };
				kvt_histogram_init(&latencies);
				g_assert_true(kvt_remote_probe_run(
					probe, &load, &result, &latencies, &error));
				g_assert_no_error(error);
				assert_result(&result, &latencies, load.least);
			}
	kvt_node_tenant_state state = node_host_tenant(host, 2);
	g_assert_cmpuint(state.used, ==, SLAB);
	kvt_remote_probe_free(probe);
	state = node_host_tenant(host, 2);
	g_assert_cmpuint(state.used, ==, 0);
	g_assert_cmpuint(state.reserved, ==, 0);
	g_assert_cmpuint(state.leases, ==, 0);
	node_host_free(host);
}

static void test_stranger(void)
{
	node_host *host = host_new();
	GError *error = NULL;
	g_assert_null(probe_new(host, 3, &error));
	g_assert_nonnull(error);
	g_assert_nonnull(strstr(error->message, "not connected"));
	g_assert_null(strchr(error->message, '\n'));
	g_clear_error(&error);
	node_host_free(host);
}

static void test_lost(void)
{
	node_host *host = host_new();
	GError *error = NULL;
	kvt_remote_probe *probe = probe_new(host, 2, &error);
	g_assert_no_error(error);
	memory_fabric_cut(host->far, true);
	kvt_histogram latencies;
	kvt_load_result result;
	const kvt_probe_load load = { .op = KVT_PROBE_READ, .size = 4096, .depth = 4, .least = 16 };
	kvt_histogram_init(&latencies);
	g_assert_false(kvt_remote_probe_run(probe, &load, &result, &latencies, &error));
	g_assert_nonnull(error);
	g_clear_error(&error);
	kvt_remote_probe_free(probe);
	memory_fabric_cut(host->far, false);
	node_host_free(host);
}

static void test_tier(void)
{
	node_host *host = host_new();
	GError *error = NULL;
	const kvt_remote_tenant tenant = tenant_of(2, 2);
	const kvt_remote_settings settings = { .address = host->address,
		.port = host->port,
		.tenants = &tenant,
		.n_tenants = 1,
		.no_leases = true };
	kvt_remote_load *load = kvt_remote_load_new(host->loop, host->near, &settings, &error);
	g_assert_no_error(error);
	uint64_t used = node_host_tenant(host, 2).used;
	g_assert_cmpuint(used, ==, kvt_remote_load_memory(load));
	for (uint64_t size = 65536; size <= 4 << 20; size *= 64) {
		kvt_histogram latencies;
		kvt_load_result result;
		const kvt_drive_point point = { .size = size, .depth = 3 };
		kvt_histogram_init(&latencies);
		g_assert_true(kvt_remote_load_run(load, &point, 9, 0, &result, &latencies, &error));
		g_assert_no_error(error);
		assert_result(&result, &latencies, 9);
	}
	/* there is no store: all of it was in the node's memory */
	g_assert_cmpfloat(kvt_remote_load_from_drives(load), ==, 0);
	kvt_remote_load_free(load);
	g_assert_cmpuint(node_host_tenant(host, 2).used, ==, 0);
	node_host_free(host);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/remote-loads/probe", test_probe);
	g_test_add_func("/remote-loads/stranger", test_stranger);
	g_test_add_func("/remote-loads/lost", test_lost);
	g_test_add_func("/remote-loads/tier", test_tier);
	return g_test_run();
}
