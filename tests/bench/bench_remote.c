/*
 * bench_remote.c: reads through the remote tier, with leases that are known and every page's
 * checksum verified, and by perftest, over the same wire, at one size and depth, in pairs within
 * one run; both read the same bytes each time. Wanted: as bench_rdma.c's. perftest verifies
 * nothing.
 *
 *     bench_remote [PAIRS [BYTES]]
 *
 * The node, with memory alone, is a process of its own at RXE_IP1.
 */
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emu/remote/node.h"
#include "emu/loop/real_loop.h"
#include "emu/remote/remote_tier.h"
#include "emu/fabric/verbs_fabric.h"
#include "tests/bench/median.h"
#include "tests/bench/perftest.h"

enum { PORT = 18610, DEPTH_MOST = 128, MIB = 1 << 20 };

/* --- The node --- */

static G_NORETURN void serve(const char *address)
{
	GError *error = NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	kvt_loop *loop = kvt_real_loop_new(NULL);
	kvt_fabric *fabric =
		kvt_verbs_fabric_new(loop, &(kvt_verbs_settings){ .address = address }, &error);
	if (!fabric)
		perftest_fail(error->message);
	const kvt_node_tenant_settings tenant = { .capacity = 64 * MIB,
		.pool = 128 * MIB,
		.held = 128 * MIB,
		.connections = 4,
		.requests = 1024,
		.models = 1 };
	const kvt_node_settings settings = { .address = address,
		.port = PORT,
		.pool_bytes = 128 * MIB,
		.slab_bytes = 4 * MIB,
		.numa_node = -1,
		.lease = 1000 * KVT_SECOND,
		.ticket = 10 * KVT_SECOND,
		.patience = KVT_SECOND,
		.smallest_page = 4096,
		.tenants = &tenant,
		.n_tenants = 1 };
	if (!kvt_node_new(loop, fabric, &settings, &error))
		perftest_fail(error->message);
	for (;;)
		kvt_loop_run(loop);
}

/* --- The tier --- */

typedef struct measure measure;

typedef struct one_read {
	kvt_io io;
	kvt_extent run;
	void *where;
	measure *m;
} one_read;

struct measure {
	kvt_loop *loop;
	kvt_fabric *fabric;
	kvt_tier *tier;
	uint8_t *memory;
	one_read reads[DEPTH_MOST];
	unsigned left, under_way, n_times;
	double *times; /* us, of single reads */
	kvt_time begun;
};

static void submit(one_read *r)
{
	r->m->begun = kvt_loop_now(r->m->loop);
	if (kvt_tier_submit(r->m->tier, &r->io) != 0)
		perftest_fail("the tier takes no more");
	kvt_tier_commit(r->m->tier);
}

static void on_done(kvt_io *io)
{
	one_read *r = io->arg;
	measure *m = r->m;
	if (io->status != 0)
		perftest_fail(g_strerror(-io->status));
	if (m->times)
		m->times[m->n_times++] =
			(double)(kvt_loop_now(m->loop) - m->begun) / KVT_MICROSECOND;
	if (m->left > 0) {
		m->left--;
		submit(r);
	} else if (--m->under_way == 0) {
		kvt_loop_stop(m->loop);
	}
}

static void run_ios(measure *m, kvt_io_op op, const perftest_case *c, unsigned count)
{
	unsigned depth = MIN(c->depth, count);
	m->left = count - depth;
	m->under_way = depth;
	m->n_times = 0;
	for (unsigned i = 0; i < depth; i++) {
		one_read *r = &m->reads[i];
		r->m = m;
		r->run = (kvt_extent){ 1, (uint32_t)(c->size >> 12), 0, 1, c->size };
		r->where = m->memory;
		r->io = (kvt_io){ .op = op,
			.extents = &r->run,
			.n_extents = 1,
			.memory = &r->where,
			.done = on_done,
			.arg = r };
		submit(r);
	}
	while (m->under_way > 0)
		kvt_loop_run(m->loop);
}

static double run_ours(void *arg, const perftest_case *c)
{
	measure *m = arg;
	g_autofree double *times = g_new0(double, c->count);
	const kvt_extent page = { 1, (uint32_t)(c->size >> 12), 0, 1, c->size };
	m->times = NULL;
	if (!m->tier->ops->holds(m->tier, 0, &page))
		run_ios(m, KVT_IO_WRITE, c, 1);
	/* where it lies is learnt */
	run_ios(m, KVT_IO_READ, c, 1);
	m->times = c->depth == 1 ? times : NULL;
	kvt_time begin = kvt_loop_now(m->loop);
	run_ios(m, KVT_IO_READ, c, c->count);
	double seconds = kvt_time_to_seconds(kvt_loop_now(m->loop) - begin);
	if (c->depth == 1)
		return bench_median(times, m->n_times);
	return (double)c->size * c->count / seconds / MIB;
}

static measure *open_tier(const perftest_wire *wire, kvt_time spin)
{
	GError *error = NULL;
	measure *m = g_new0(measure, 1);
	m->loop = kvt_real_loop_new(&(kvt_real_loop_settings){ .spin = spin });
	m->fabric = kvt_verbs_fabric_new(
		m->loop, &(kvt_verbs_settings){ .address = wire->addresses[0] }, &error);
	if (!m->fabric)
		perftest_fail(error->message);
	const kvt_remote_tenant tenant = { 0 };
	const kvt_remote_settings settings = { .address = wire->addresses[1],
		.port = PORT,
		.model = "bench",
		.tenants = &tenant,
		.n_tenants = 1,
		.parts = DEPTH_MOST,
		.connection = { .depth = DEPTH_MOST } };
	const kvt_tier_env env = { .loop = m->loop };
	for (unsigned i = 0; i < PERFTEST_TRIES && !m->tier; i++) {
		g_clear_error(&error);
		m->tier = kvt_remote_tier_new(&env, m->fabric, &settings, &error);
		if (!m->tier)
			g_usleep(100000);
	}
	if (!m->tier)
		perftest_fail(error->message);
	m->memory = g_aligned_alloc(1, 4 * MIB, 4096);
	memset(m->memory, 7, 4 * MIB);
	if (m->tier->ops->register_memory(m->tier, m->memory, 4 * MIB) != 0)
		perftest_fail("memory cannot be registered");
	return m;
}

int main(int argc, char **argv)
{
	perftest_wire wire;
	unsigned pairs = argc > 1 ? CLAMP(strtoul(argv[1], NULL, 10), 1, PERFTEST_MOST_PAIRS) : 5;
	uint64_t bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	if (!perftest_wire_find(&wire))
		return 0;
	pid_t server = fork();
	if (server == 0)
		serve(wire.addresses[1]);
	perftest_wire_open(&wire);
	for (unsigned i = 0; i < PERFTEST_CASES; i++) {
		const perftest_case *c = &perftest_cases[i];
		if (bytes != 0 && bytes != c->size)
			continue;
		measure *m = open_tier(&wire, perftest_spin(c));
		perftest_compare(&wire, c, pairs, run_ours, m);
		kvt_tier_close(m->tier);
		m->fabric->ops->free(m->fabric);
		kvt_loop_free(m->loop);
		g_aligned_free(m->memory);
		g_free(m);
	}
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	return 0;
}
