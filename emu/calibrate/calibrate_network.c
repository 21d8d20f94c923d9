/* calibrate_network.c: the way to a storage node's memory by size and depth. The fit is in
 * calibrate_fit.c, perftest beside it in calibrate_perftest.c. */
#include "emu/calibrate/calibrate_network.h"

#include <errno.h>

#include "emu/calibrate/calibrate_grid.h"
#include "emu/loop/real_loop.h"
#include "emu/calibrate/remote_load.h"
#include "emu/calibrate/remote_probe.h"
#include "emu/fabric/verbs_fabric.h"
#include "sim/base/error.h"

static const uint64_t SIZES[] = { 4096, 16384, 65536, 262144, 1 << 20, 4 << 20 };
static const uint64_t QUICK_SIZES[] = { 4096, 65536, 1 << 20 };
static const unsigned DEPTHS[] = { 1, 2, 4, 8, 16, 32 };
static const unsigned QUICK_DEPTHS[] = { 1, 4, 16 };
enum { QUICK_ROUNDS = 3 };
/* Of reads and writes in flight, quickly: software that stands in for a device is slow. */
static const uint64_t QUICK_BYTES[2] = { 4 << 20, 1 << 20 };

/* What the remote tier reads at a time, as its option `part`. */
static const uint64_t REMOTE_SIZES[] = { 65536, 262144, 1 << 20, 4 << 20 };
static const unsigned REMOTE_DEPTHS[] = { 1, 4 };
enum { QUEUES = 4 }; /* of a connection, as the remote tier's option */

typedef struct network {
	const kvt_calibrate_settings *settings;
	kvt_remote_probe *probe;
	kvt_remote_load *load;
	bool fetch;
	double seconds;
} network;

static gboolean read_once(void *arg, const kvt_drive_point *point, unsigned round,
	kvt_load_result *result, kvt_histogram *latencies, GError **error)
{
	const network *n = arg;
	return kvt_remote_load_run(n->load, point, KVT_METER_LEAST(point->depth), n->seconds,
		result, latencies, error);
}

static gboolean measure_once(void *arg, const kvt_drive_point *point, unsigned round,
	kvt_load_result *result, kvt_histogram *latencies, GError **error)
{
	const network *n = arg;
	kvt_probe_load load = { .op = point->write ? KVT_PROBE_WRITE : KVT_PROBE_READ,
		.size = point->size,
		.depth = point->depth,
		.least = KVT_METER_LEAST(point->depth),
		.seconds = n->seconds };
	if (n->fetch)
		load.op = KVT_PROBE_FETCH;
	return kvt_remote_probe_run(n->probe, &load, result, latencies, error);
}

/* Reads before writes; or questions, of one page and of what a request is for. */
static GArray *make_points(const network *n)
{
	GArray *points = g_array_new(FALSE, TRUE, sizeof(kvt_drive_point));
	bool quick = n->settings->quick;
	const uint64_t *sizes = quick ? QUICK_SIZES : SIZES;
	const unsigned *depths = quick ? QUICK_DEPTHS : DEPTHS;
	unsigned n_sizes = quick ? G_N_ELEMENTS(QUICK_SIZES) : G_N_ELEMENTS(SIZES);
	unsigned n_depths = quick ? G_N_ELEMENTS(QUICK_DEPTHS) : G_N_ELEMENTS(DEPTHS);
	for (int write = 0; write < (n->fetch ? 1 : 2); write++)
		for (unsigned s = 0; s < n_sizes; s++)
			for (unsigned d = 0; d < n_depths; d++) {
				kvt_drive_point point = {
					.write = write, .size = sizes[s], .depth = depths[d]
				};
				uint64_t most = quick ? QUICK_BYTES[write]
						      : kvt_remote_probe_memory(n->probe);
				bool fits = point.size <= kvt_remote_probe_largest(n->probe) &&
					    (n->fetch || point.size * point.depth <= most);
				if (fits && (!n->fetch || sizes[s] == 65536 || sizes[s] == 1 << 20))
					g_array_append_val(points, point);
			}
	return points;
}

static gboolean measure(network *n, GArray *to, GError **error)
{
	g_autoptr(GArray) points = make_points(n);
	const kvt_grid grid = { .settings = n->settings,
		.names = { n->fetch ? "questions" : "remote reads", "remote writes" },
		.rounds = n->settings->quick ? (int)QUICK_ROUNDS : (int)KVT_GRID_ROUNDS,
		.run = measure_once,
		.arg = n };
	return kvt_grid_measure(&grid, points, to, error);
}

/* The tier's own reads. */
static gboolean measure_remote(const network *n, GArray *to, GError **error)
{
	g_autoptr(GArray) points = g_array_new(FALSE, TRUE, sizeof(kvt_drive_point));
	const kvt_grid grid = { .settings = n->settings,
		.names = { "reads of the tier", "" },
		.rounds = n->settings->quick ? (int)QUICK_ROUNDS : (int)KVT_GRID_ROUNDS,
		.run = read_once,
		.arg = (void *)n };
	unsigned n_sizes = G_N_ELEMENTS(REMOTE_SIZES) - (n->settings->quick ? 1 : 0);
	for (unsigned s = 0; s < n_sizes; s++)
		for (unsigned d = 0; d < G_N_ELEMENTS(REMOTE_DEPTHS); d++) {
			const kvt_drive_point point = { .size = REMOTE_SIZES[s],
				.depth = REMOTE_DEPTHS[d] };
			if (point.size * point.depth <=
				(n->settings->quick ? QUICK_BYTES[0]
						    : kvt_remote_load_memory(n->load)))
				g_array_append_val(points, point);
		}
	return kvt_grid_measure(&grid, points, to, error);
}

static gboolean measure_all(kvt_calibration *c, network *n, kvt_loop *loop, GError **error)
{
	kvt_remote_probe_settings settings = { 0 };
	g_autofree char *address = NULL;
	if (!kvt_remote_node_parse(n->settings->node, &address, &settings.port, error))
		return FALSE;
	g_autoptr(GArray) tenants = kvt_remote_keys_load(n->settings->keys, error);
	if (!tenants)
		return FALSE;
	settings.tenant = g_array_index(tenants, kvt_remote_tenant, 0);
	settings.address = address;
	settings.connection.queues = QUEUES;
	const kvt_verbs_settings verbs = { .peer = address };
	kvt_fabric *fabric = kvt_verbs_fabric_new(loop, &verbs, error);
	if (!fabric)
		return FALSE;
	c->node = g_strdup(n->settings->node);
	c->device = g_strdup(kvt_verbs_fabric_device(fabric));
	n->probe = kvt_remote_probe_new(loop, fabric, &settings, error);
	bool good = n->probe && measure(n, c->network, error);
	n->fetch = true;
	good = good && measure(n, c->fetches, error);
	if (good)
		kvt_calibrate_against_perftest(c, n->settings, n->probe, loop, address);
	kvt_remote_probe_free(n->probe);
	const kvt_remote_settings remote = { .address = address,
		.port = settings.port,
		.model = "kvtier calibrate",
		.tenants = &settings.tenant,
		.n_tenants = 1,
		.no_leases = true,
		.connection.queues = QUEUES };
	n->load = good ? kvt_remote_load_new(loop, fabric, &remote, error) : NULL;
	good = n->load && measure_remote(n, c->remote, error);
	c->from_drives = good ? kvt_remote_load_from_drives(n->load) : 0;
	kvt_remote_load_free(n->load);
	fabric->ops->free(fabric);
	return good;
}

gboolean kvt_calibrate_network(
	kvt_calibration *c, const kvt_calibrate_settings *settings, GError **error)
{
	network n = { .settings = settings, .seconds = settings->quick ? 0.015 : 0.1 };
	bool own = settings->place->n > 1;
	/* as an emulation's loop */
	kvt_loop *loop =
		kvt_real_loop_new(&(kvt_real_loop_settings){ .spin = own ? KVT_SECOND : 0 });
	if (!loop)
		return kvt_error_failed(error, "calibrate: no loop: %s", g_strerror(errno));
	gboolean good = measure_all(c, &n, loop, error);
	kvt_loop_free(loop);
	return good;
}
