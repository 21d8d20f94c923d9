/*
 * bench_rdma.c: one-sided reads through the fabric over verbs and by perftest (ib_read_bw,
 * ib_read_lat), over the same wire, at one size and depth, in pairs within one run whose order
 * alternates. Prints each pair and the medians of their ratios. Wanted: 95% of ib_read_bw's rate
 * at 64 KiB and 1 MiB or more, and a median latency at 4 KiB within 25% of ib_read_lat's.
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

#include "emu/real_loop.h"
#include "emu/verbs_fabric.h"

enum { MEMORY = 4 << 20, PORT = 18600, MOST_PAIRS = 99, TRIES = 60 };

typedef struct bench_case {
	uint64_t bytes;
	unsigned count, depth; /* depth 1: latency */
} bench_case;

static const bench_case cases[] = {
	{ 4096, 1500, 1 },
	{ 64 << 10, 600, 128 },
	{ 1 << 20, 128, 64 },
};

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

static void fail(const char *what)
{
	fprintf(stderr, "bench_rdma: %s\n", what);
	exit(1);
}

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
		fail(error->message);
	e->domain = e->fabric->ops->domain_new(e->fabric, &error);
	void *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (!e->domain || memory == MAP_FAILED ||
		e->fabric->ops->region_open(
			e->domain, memory, MEMORY, KVT_FABRIC_REMOTE_BOTH, &e->region) != 0)
		fail("memory cannot be registered");
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
		fail(error->message);
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
		fail(g_strerror(-transfer->status));
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
	for (unsigned i = 0; i < TRIES; i++) {
		e->up = e->down = false;
		e->connection = e->fabric->ops->connect(e->fabric, e->domain, address, PORT,
			&settings, NULL, 0, &handlers, e, &error);
		if (!e->connection)
			fail(error->message);
		while (!e->up && !e->down)
			kvt_loop_run(e->loop);
		if (e->up)
			return;
		g_usleep(100000);
	}
	fail("nobody answers");
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), compare);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* MiB/s, or the median latency in us. */
static double run_ours(end *e, const char *address, const bench_case *c)
{
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
			.length = c->bytes,
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
		return median(times, m.n_times);
	return (double)c->bytes * c->count / seconds / (1 << 20);
}

/* --- perftest's --- */

static char *device_of(const char *address)
{
	kvt_loop *loop = kvt_real_loop_new(NULL);
	GError *error = NULL;
	kvt_fabric *fabric =
		kvt_verbs_fabric_new(loop, &(kvt_verbs_settings){ .address = address }, &error);
	if (!fabric)
		fail(error->message);
	char *name = g_strdup(kvt_verbs_fabric_device(fabric));
	fabric->ops->free(fabric);
	kvt_loop_free(loop);
	return name;
}

/* The figure of the line that begins with the size and the count; < 0: there is none. */
static double figure_of(const char *output, const bench_case *c)
{
	g_auto(GStrv) lines = g_strsplit(output ? output : "", "\n", -1);
	for (char **line = lines; *line; line++) {
		unsigned long bytes, count;
		double a, b, middle;
		if (sscanf(*line, "%lu %lu %lf %lf %lf", &bytes, &count, &a, &b, &middle) < 4 ||
			bytes != c->bytes || count != c->count)
			continue;
		/* peak, average; least, most, typical */
		return c->depth == 1 ? middle : b;
	}
	return -1;
}

static double run_perftest(const char *const devices[2], const char *address, const bench_case *c)
{
	static unsigned port = 18700;
	port++;
	g_autofree char *depth =
		c->depth == 1 ? g_strdup("") : g_strdup_printf("-t %u -o %u", c->depth, c->depth);
	g_autofree char *common = g_strdup_printf("%s -F -x 1 -p %u -s %lu -n %u %s",
		c->depth == 1 ? "ib_read_lat" : "ib_read_bw", port, (unsigned long)c->bytes,
		c->count, depth);
	g_autofree char *server =
		g_strdup_printf("timeout 60 %s -d %s >/dev/null 2>&1 &", common, devices[1]);
	g_autofree char *client =
		g_strdup_printf("%s -d %s %s 2>/dev/null", common, devices[0], address);
	const char *serve_argv[] = { "/bin/sh", "-c", server, NULL };
	if (!g_spawn_sync(NULL, (char **)serve_argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL,
		    NULL, NULL))
		fail("no perftest");
	for (unsigned i = 0; i < TRIES; i++) {
		g_autofree char *output = NULL;
		const char *argv[] = { "/bin/sh", "-c", client, NULL };
		g_usleep(200000);
		g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &output, NULL,
			NULL, NULL);
		double figure = figure_of(output, c);
		if (figure >= 0)
			return figure;
	}
	fail("perftest says nothing");
	return 0;
}

static void compare_case(end *e, const char *const addresses[2], const char *const devices[2],
	const bench_case *c, unsigned pairs)
{
	double ours[MOST_PAIRS], theirs[MOST_PAIRS], ratios[MOST_PAIRS];
	const char *unit = c->depth == 1 ? "us" : "MiB/s";
	for (unsigned i = 0; i < pairs; i++) {
		if (i % 2 == 0)
			ours[i] = run_ours(e, addresses[1], c);
		theirs[i] = run_perftest(devices, addresses[1], c);
		if (i % 2 == 1)
			ours[i] = run_ours(e, addresses[1], c);
		ratios[i] = ours[i] / theirs[i];
		printf("%8lu bytes, depth %3u: %9.2f %s, perftest %9.2f, ratio %.3f\n",
			(unsigned long)c->bytes, c->depth, ours[i], unit, theirs[i], ratios[i]);
		fflush(stdout);
	}
	printf("median %s %lu: %.2f %s, perftest %.2f, ratio %.3f\n",
		c->depth == 1 ? "latency" : "rate", (unsigned long)c->bytes, median(ours, pairs),
		unit, median(theirs, pairs), median(ratios, pairs));
}

int main(int argc, char **argv)
{
	const char *addresses[2] = { g_getenv("RXE_IP0"), g_getenv("RXE_IP1") };
	unsigned pairs = argc > 1 ? CLAMP(strtoul(argv[1], NULL, 10), 1, MOST_PAIRS) : 5;
	uint64_t bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	if (!addresses[0] || !addresses[1]) {
		printf("no RDMA devices here: RXE_IP0 and RXE_IP1 are not set\n");
		return 0;
	}
	pid_t server = fork();
	if (server == 0)
		serve(addresses[1]);
	const char *devices[2] = { device_of(addresses[0]), device_of(addresses[1]) };
	end polls = { 0 }, sleeps = { 0 };
	open_end(&polls, &(kvt_verbs_settings){ .address = addresses[0] }, 10 * KVT_SECOND);
	open_end(&sleeps, &(kvt_verbs_settings){ .address = addresses[0] }, 100 * KVT_MICROSECOND);
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++)
		if (bytes == 0 || bytes == cases[i].bytes)
			compare_case(cases[i].depth == 1 ? &polls : &sleeps, addresses, devices,
				&cases[i], pairs);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	return 0;
}
