/*
 * bench_rdma.c: one-sided reads through the fabric over verbs and by perftest (ib_read_bw,
 * ib_read_lat), over the same wire, at one size and depth, in pairs within one run whose order
 * alternates. Prints each pair, the median of their ratios, and the best of ours to the best of
 * perftest's, for hosts whose speed varies. Wanted: 95% of ib_read_bw's rate
 * at 64 KiB and 1 MiB or more, and a median latency at 4 KiB within 25% of ib_read_lat's; both poll
 * for it. Where both sleep (ib_read_lat -e) it is the wake-up that is compared.
 *
 *     bench_rdma [PAIRS [BYTES]]
 *
 * The two ends' addresses are RXE_IP0 and RXE_IP1, as tests/rxe/run.sh sets them; both are here.
 */
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "emu/loop/real_loop.h"
#include "emu/fabric/verbs_fabric.h"
#include "tests/bench/median.h"
#include "tests/bench/perftest.h"

enum { MEMORY = 4 << 20, PORT = 18600 };

/* What the server tells. */
typedef struct place {
	uint64_t address;
	uint32_t key;
} place;

/* One end, in its own process or in this one. */
typedef struct end {
	kvt_loop *loop;
	kvt_fabric *fabric;
	kvt_fabric_domain *domain;
	kvt_fabric_region region;
	kvt_connection *connection;
	place far;
	bool up, down;
} end;

static void on_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
	end *e = arg;
	e->up = true;
	if (welcome && bytes == sizeof(e->far))
		memcpy(&e->far, welcome, sizeof(e->far));
	kvt_loop_stop(e->loop);
}

static void on_message(
	void *arg, kvt_connection *connection, int queue, const void *bytes, size_t length)
{
}

static void on_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	end *e = arg;
	e->fabric->ops->connection_free(connection);
	e->connection = NULL;
	e->down = true;
	kvt_loop_stop(e->loop);
}

static const kvt_connection_handlers handlers = { on_up, on_message, on_down };

static void open_end(end *e, const kvt_verbs_settings *settings, kvt_time spin)
{
	GError *error = NULL;
	e->loop = kvt_real_loop_new(&(kvt_real_loop_settings){ .spin = spin });
	e->fabric = kvt_verbs_fabric_new(e->loop, settings, &error);
	if (!e->fabric)
		perftest_fail(error->message);
	e->domain = e->fabric->ops->domain_new(e->fabric, &error);
	void *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (!e->domain || memory == MAP_FAILED ||
		e->fabric->ops->region_open(
			e->domain, memory, MEMORY, KVT_FABRIC_REMOTE_BOTH, &e->region) != 0)
		perftest_fail("memory cannot be registered");
}

/* --- The server, a process of its own --- */

static void on_asked(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes)
{
	end *e = arg;
	place here = { e->region.address, e->region.key };
	e->connection =
		e->fabric->ops->accept(request, e->domain, NULL, &here, sizeof(here), &handlers, e);
}

static G_GNUC_NORETURN void serve(const char *address)
{
	end e = { 0 };
	GError *error = NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	open_end(&e, &(kvt_verbs_settings){ .address = address }, 0);
	if (!e.fabric->ops->listen(e.fabric, address, PORT, on_asked, &e, &error))
		perftest_fail(error->message);
	kvt_real_loop_hold(e.loop);
	for (;;)
		kvt_loop_run(e.loop);
}

/* --- Ours --- */

typedef struct measure {
	end *e;
	unsigned left, under_way;
	double *times; /* us, of single reads */
	unsigned n_times;
	kvt_time begun;
} measure;

static void on_read(kvt_transfer *transfer)
{
	measure *m = transfer->arg;
	if (transfer->status != 0)
		perftest_fail(g_strerror(-transfer->status));
	kvt_time now = kvt_loop_now(m->e->loop);
	if (m->times)
		m->times[m->n_times++] = (double)(now - m->begun) / KVT_MICROSECOND;
	m->begun = now;
	if (m->left > 0) {
		m->left--;
		m->e->fabric->ops->submit(m->e->connection, transfer);
	} else if (--m->under_way == 0) {
		kvt_loop_stop(m->e->loop);
	}
}

static void connect_end(end *e, const char *address, unsigned depth)
{
	GError *error = NULL;
	kvt_connection_settings settings = { .depth = depth };
	for (unsigned i = 0; i < PERFTEST_TRIES; i++) {
		e->up = e->down = false;
		e->connection = e->fabric->ops->connect(e->fabric, e->domain, address, PORT,
			&settings, NULL, 0, &handlers, e, &error);
		if (!e->connection)
			perftest_fail(error->message);
		while (!e->up && !e->down)
			kvt_loop_run(e->loop);
		if (e->up)
			return;
		g_usleep(100000);
	}
	perftest_fail("nobody answers");
}

/* MiB/s, or the median latency in us. */
static double run_ours(void *arg, const perftest_case *c)
{
	end *e = arg;
	const char *address = g_getenv("RXE_IP1");
	g_autofree kvt_transfer *transfers = g_new0(kvt_transfer, c->depth);
	g_autofree double *times = g_new0(double, c->count);
	measure m = { .e = e, .left = c->count - c->depth, .under_way = c->depth };
	connect_end(e, address, c->depth);
	m.times = c->depth == 1 ? times : NULL;
	kvt_time begin = m.begun = kvt_loop_now(e->loop);
	for (unsigned i = 0; i < c->depth; i++) {
		transfers[i] = (kvt_transfer){ .op = KVT_TRANSFER_READ,
			.queue = KVT_ANY_QUEUE,
			.memory = e->region.memory,
			.region = &e->region,
			.length = c->size,
			.remote_address = e->far.address,
			.remote_key = e->far.key,
			.done = on_read,
			.arg = &m };
		e->fabric->ops->submit(e->connection, &transfers[i]);
	}
	kvt_loop_run(e->loop);
	double seconds = (double)(kvt_loop_now(e->loop) - begin) / KVT_SECOND;
	e->fabric->ops->disconnect(e->connection);
	while (!e->down)
		kvt_loop_run(e->loop);
	if (c->depth == 1)
		return bench_median(times, m.n_times);
	return (double)c->size * c->count / seconds / (1 << 20);
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
	const kvt_verbs_settings here = { .address = wire.addresses[0] };
	for (unsigned i = 0; i < PERFTEST_CASES; i++) {
		const perftest_case *c = &perftest_cases[i];
		end e = { 0 };
		if (bytes != 0 && bytes != c->size)
			continue;
		open_end(&e, &here, perftest_spin(c));
		perftest_compare(&wire, c, pairs, run_ours, &e);
	}
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	return 0;
}
