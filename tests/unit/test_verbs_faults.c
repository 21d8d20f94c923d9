/*
 * test_verbs_faults.c: what happens to the fabric over verbs between processes: a peer that is
 * killed or stopped, a wire that loses and reorders, limits of registration, strangers at the
 * listener, more queues than one completion queue has room for. It needs two RDMA devices on a
 * wire, and skips aloud without (see test_verbs_fabric.c).
 */
#include <errno.h>
#include <rdma/rdma_cma.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emu/loop/real_loop.h"
#include "sim/base/rng.h"
#include "tests/unit/verbs_peer.h"

enum { MOST = 400 };

/* Short times, so that what fails does soon. */
static const kvt_connection_settings quick = {
	.queues = 2, .timeout = 65 * KVT_MILLISECOND, .retries = 4
};

static bool possible(void)
{
	const char *reason = verbs_peer_missing();
	if (reason)
		g_test_skip(reason);
	return !reason;
}

static void wire(const char *arguments)
{
	g_autofree char *line = g_strdup_printf("/bin/sh tests/rxe/wire.sh %s", arguments);
	int status;
	g_assert_true(g_spawn_command_line_sync(line, NULL, NULL, &status, NULL));
	g_assert_cmpint(status, ==, 0);
}

static unsigned packets_lost(void)
{
	const char *argv[] = { "/bin/sh", "tests/rxe/wire.sh", "dropped", NULL };
	g_autofree char *output = NULL;
	g_assert_true(g_spawn_sync(
		NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &output, NULL, NULL, NULL));
	return (unsigned)strtoul(output, NULL, 10);
}

static void submit_reads(verbs_near *near, kvt_transfer *all, unsigned n, uint64_t bytes)
{
	for (unsigned i = 0; i < n; i++)
		verbs_near_submit(
			near, &all[i], KVT_TRANSFER_READ, i * 4096 % (PEER_MEMORY - bytes), bytes);
}

/* --- The peer's process --- */

static void test_killed(void)
{
	verbs_near near;
	if (!possible())
		return;
	g_autofree kvt_transfer *all = g_new0(kvt_transfer, MOST);
	verbs_near_begin(&near, NULL);
	for (unsigned i = 0; i < 2; i++) {
		pid_t peer = verbs_peer_start(i);
		verbs_near_open(&near, &quick);
		near.done = near.failed = near.downs = 0;
		submit_reads(&near, all, MOST, 4 << 20);
		verbs_near_until_done(&near, 4);
		verbs_peer_end(peer, SIGKILL);
		verbs_near_until_down(&near, 1);
		g_assert_cmpuint(near.done, ==, MOST);
		g_assert_cmpuint(near.failed, >, 0);
		g_test_message(
			"killed: %u of %u failed, status %d", near.failed, MOST, near.status);
		near.fabric->ops->connection_free(near.connection);
	}
	verbs_near_end(&near);
}

/* One that is only asked nothing is missed as well. */
static void test_killed_idle(void)
{
	verbs_near near;
	if (!possible())
		return;
	pid_t peer = verbs_peer_start(0);
	verbs_near_begin(&near, NULL);
	verbs_near_open(&near, &quick);
	verbs_peer_end(peer, SIGKILL);
	verbs_near_until_down(&near, 1);
	near.fabric->ops->connection_free(near.connection);
	verbs_near_end(&near);
}

/* Nothing is under way, the wire is cut, and it is noticed; a wire that is whole stays up. */
static void test_cut_idle(void)
{
	verbs_near near;
	if (!possible())
		return;
	pid_t peer = verbs_peer_start(0);
	verbs_near_begin(&near, &(kvt_verbs_settings){ .keepalive = 200 * KVT_MILLISECOND });
	verbs_near_open(&near, &quick);
	verbs_near_pass(&near, 2 * KVT_SECOND);
	g_assert_cmpuint(near.downs, ==, 0);
	kvt_verbs_stats stats = kvt_verbs_fabric_stats(near.fabric);
	g_assert_cmpuint(stats.requests, >=, 4);
	/* the peer's process has no part in it */
	kill(peer, SIGSTOP);
	verbs_near_pass(&near, 2 * KVT_SECOND);
	g_assert_cmpuint(near.downs, ==, 0);
	wire("cut");
	verbs_near_until_down(&near, 1);
	g_assert_cmpint(near.status, ==, -ETIMEDOUT);
	wire("clear");
	near.fabric->ops->connection_free(near.connection);
	verbs_peer_end(peer, SIGKILL);
	verbs_near_end(&near);
}

/* Its memory is read without it. */
static void test_stopped(void)
{
	verbs_near near;
	kvt_transfer all[8];
	if (!possible())
		return;
	g_autofree uint8_t *expected = g_malloc(PEER_MEMORY);
	verbs_peer_fill(expected, PEER_MEMORY, 5);
	pid_t peer = verbs_peer_start(5);
	verbs_near_begin(&near, NULL);
	verbs_near_open(&near, &quick);
	kill(peer, SIGSTOP);
	submit_reads(&near, all, G_N_ELEMENTS(all), 65536);
	verbs_near_until_done(&near, G_N_ELEMENTS(all));
	g_assert_cmpuint(near.failed, ==, 0);
	g_assert_true(memcmp(near.memory, expected, 65536) == 0);
	kill(peer, SIGCONT);
	verbs_near_close(&near, near.connection);
	verbs_peer_end(peer, SIGKILL);
	verbs_near_end(&near);
}

/* --- Loss --- */

typedef struct lossy {
	verbs_near *near;
	const uint8_t *expected;
	kvt_rng rng;
	uint64_t bytes;
	unsigned left, wrong, right;
} lossy;

typedef struct lossy_read {
	kvt_transfer transfer;
	lossy *test;
	unsigned slot;
} lossy_read;

static void next_read(lossy_read *read);

static void check_read(kvt_transfer *transfer)
{
	lossy_read *read = transfer->arg;
	lossy *test = read->test;
	uint64_t from = transfer->remote_address - test->near->address;
	g_assert_cmpint(transfer->status, ==, 0);
	bool same = memcmp(transfer->memory, test->expected + from, test->bytes) == 0;
	test->wrong += !same;
	test->right += same;
	memset(transfer->memory, 0xa5, test->bytes);
	test->near->done++;
	kvt_loop_stop(test->near->loop);
	next_read(read);
}

/* Somewhere in the peer's memory, to the read's own place here. */
static void next_read(lossy_read *read)
{
	lossy *test = read->test;
	if (test->left == 0)
		return;
	test->left--;
	uint64_t from = kvt_rng_below(&test->rng, PEER_MEMORY - test->bytes + 1);
	read->transfer = (kvt_transfer){ .op = KVT_TRANSFER_READ,
		.queue = KVT_ANY_QUEUE,
		.memory = test->near->memory + read->slot * test->bytes,
		.region = &test->near->region,
		.length = test->bytes,
		.remote_address = test->near->address + from,
		.remote_key = test->near->key,
		.done = check_read,
		.arg = read };
	test->near->fabric->ops->submit(test->near->connection, &read->transfer);
}

static void read_sizes(verbs_near *near, const uint8_t *expected, uint64_t bytes, unsigned count)
{
	unsigned depth = (unsigned)MIN(MIN(16, PEER_MEMORY / bytes), count);
	lossy test = { .near = near,
		.expected = expected,
		.rng = kvt_rng_init(bytes, 1),
		.bytes = bytes,
		.left = count };
	g_autofree lossy_read *reads = g_new0(lossy_read, depth);
	near->done = 0;
	kvt_time begin = kvt_loop_now(near->loop);
	for (unsigned i = 0; i < depth; i++) {
		reads[i].test = &test;
		reads[i].slot = i;
		next_read(&reads[i]);
	}
	for (unsigned i = 1; i <= count; i++)
		verbs_near_until_done(near, i);
	g_assert_cmpuint(test.wrong, ==, 0);
	g_assert_cmpuint(test.right, ==, count);
	g_test_message("%u reads of %" G_GUINT64_FORMAT " KiB: none wrong, %.1f s", count,
		bytes >> 10, (double)(kvt_loop_now(near->loop) - begin) / KVT_SECOND);
}

/* -m slow: ten thousand reads of the smallest pages, fifty of the largest. */
static void test_loss(void)
{
	verbs_near near;
	bool slow = g_test_slow();
	if (!possible())
		return;
	g_autofree uint8_t *expected = g_malloc(PEER_MEMORY);
	verbs_peer_fill(expected, PEER_MEMORY, 6);
	pid_t peer = verbs_peer_start(6);
	/* a guest on a busy machine may stand still for a while */
	kvt_connection_settings settings = {
		.queues = 2, .timeout = 520 * KVT_MILLISECOND, .retries = 6
	};
	verbs_near_begin(&near, NULL);
	verbs_near_open(&near, &settings);
	wire("netem loss 1% delay 100us reorder 5% 25%");
	for (uint64_t bytes = 4096; bytes <= 4 << 20; bytes *= 4) {
		unsigned count = (unsigned)MAX(((slow ? 64u : 4u) << 20) / bytes, 2);
		count = bytes == 4096 ? (slow ? 10000 : 500) : count;
		read_sizes(&near, expected, bytes, slow ? MAX(count, 50) : count);
	}
	g_test_message("%u packets were lost", packets_lost());
	g_assert_cmpuint(packets_lost(), >, 10);
	wire("clear");
	verbs_near_close(&near, near.connection);
	verbs_peer_end(peer, SIGKILL);
	verbs_near_end(&near);
}

/* --- Limits --- */

/* In a process that may lock little: all errors, none more. */
static void be_limited(void)
{
	verbs_near near;
	GError *error = NULL;
	kvt_fabric_region region;
	static const kvt_connection_handlers none;
	verbs_near_begin(&near, NULL);
	const kvt_fabric_ops *ops = near.fabric->ops;
	struct rlimit limit = { 1 << 20, 1 << 20 };
	g_assert_cmpint(setrlimit(RLIMIT_MEMLOCK, &limit), ==, 0);
	g_assert_cmpint(setresuid(65534, 65534, 65534), ==, 0);
	ops->region_close(&near.region);
	g_assert_cmpint(ops->region_open(near.domain, near.memory, PEER_MEMORY,
				KVT_FABRIC_REMOTE_READ, &region),
		==, -ENOMEM);
	g_assert_cmpint(
		ops->region_open(near.domain, near.memory, 65536, KVT_FABRIC_REMOTE_READ, &region),
		==, 0);
	kvt_connection_settings settings = { .queues = 16 };
	g_assert_null(ops->connect(near.fabric, near.domain, g_getenv("RXE_IP1"), 1, &settings,
		NULL, 0, &none, NULL, &error));
	g_assert_nonnull(error);
	g_assert_nonnull(strstr(error->message, "memory"));
	ops->region_close(&region);
	ops->domain_free(near.domain);
	ops->free(near.fabric);
	_exit(0);
}

static void test_limit(void)
{
	int status;
	if (!possible())
		return;
	if (getuid() != 0) {
		g_test_skip("not root, whose locked memory alone has no limit that can be lowered");
		return;
	}
	pid_t child = fork();
	if (child == 0)
		be_limited();
	g_assert_cmpint(waitpid(child, &status, 0), ==, child);
	g_assert_true(WIFEXITED(status));
	g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

static void test_dmabuf(void)
{
	verbs_near near;
	kvt_fabric_region region;
	if (!possible())
		return;
	verbs_near_begin(&near, NULL);
	/* which is no dma-buf, where the driver could take one */
	int fd = memfd_create("kvtier", MFD_CLOEXEC);
	int error = kvt_verbs_region_open_dmabuf(
		near.domain, fd, 0, near.memory, 65536, KVT_FABRIC_REMOTE_READ, &region);
	g_test_message("dma-buf: %s", g_strerror(-error));
	g_assert_true(error == -EOPNOTSUPP || error == -EINVAL || error == -EBADF);
	g_assert_cmpint(kvt_verbs_region_open_dmabuf(near.domain, -1, 0, near.memory, 65536,
				KVT_FABRIC_REMOTE_READ, &region),
		==, -EBADF);
	close(fd);
	verbs_near_end(&near);
}

/* Never more promised than a completion queue holds; several where one does not do. */
static void test_many_queues(void)
{
	enum { CONNECTIONS = 6, QUEUES = 16, EACH = 40 };
	verbs_near near;
	kvt_connection *connections[CONNECTIONS];
	if (!possible())
		return;
	g_autofree kvt_transfer *all = g_new0(kvt_transfer, CONNECTIONS * EACH);
	pid_t peer = verbs_peer_start(1);
	/* linked, as other devices take them */
	verbs_near_begin(&near, &(kvt_verbs_settings){ .linked = 32 });
	kvt_connection_settings settings = {
		.queues = QUEUES, .messages = 2, .message_bytes = 256, .depth = 64
	};
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		connections[i] = verbs_near_open(&near, &settings);
		submit_reads(&near, all + i * EACH, EACH, 4096);
	}
	kvt_verbs_stats stats = kvt_verbs_fabric_stats(near.fabric);
	g_assert_cmpuint(stats.entries, >=, CONNECTIONS * QUEUES * 66);
	g_assert_cmpuint(stats.queues, >, 1);
	g_assert_cmpuint(stats.entries, <=, stats.queues * 4096);
	verbs_near_until_done(&near, CONNECTIONS * EACH);
	g_assert_cmpuint(near.failed, ==, 0);
	for (unsigned i = 0; i < CONNECTIONS; i++)
		verbs_near_close(&near, connections[i]);
	stats = kvt_verbs_fabric_stats(near.fabric);
	g_assert_cmpuint(stats.entries, ==, 0);
	g_assert_cmpuint(stats.queues, ==, 1);
	verbs_peer_end(peer, SIGKILL);
	verbs_near_end(&near);
}

/* --- Strangers --- */

/* Asks for a connection with these private data; what becomes of it. */
static enum rdma_cm_event_type ask(uint16_t port, const void *bytes, uint8_t n, uint8_t retries)
{
	g_autofree char *service = g_strdup_printf("%u", port);
	struct rdma_addrinfo hints = { .ai_port_space = RDMA_PS_TCP }, *found;
	struct ibv_qp_init_attr attr = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 }
	};
	struct rdma_conn_param param = {
		.private_data = bytes, .private_data_len = n, .retry_count = retries
	};
	struct rdma_cm_id *id;
	if (rdma_getaddrinfo(g_getenv("RXE_IP1"), service, &hints, &found) != 0 ||
		rdma_create_ep(&id, found, NULL, &attr) != 0)
		return RDMA_CM_EVENT_ADDR_ERROR;
	int error = rdma_connect(id, &param);
	enum rdma_cm_event_type type = error == 0              ? RDMA_CM_EVENT_ESTABLISHED
				       : errno == ECONNREFUSED ? RDMA_CM_EVENT_REJECTED
							       : RDMA_CM_EVENT_CONNECT_ERROR;
	rdma_destroy_ep(id);
	rdma_freeaddrinfo(found);
	return type;
}

static G_GNUC_NORETURN void be_stranger(uint16_t port)
{
	kvt_rng rng = kvt_rng_init(4, 4);
	/* ours, but for one thing: a magic, a version, no message, a queue that nobody waits for */
	uint8_t good[56] = { 0x4b, 1, 0, 0, 32, 0, 0, 1 };
	for (unsigned i = 0; i < 24; i++) {
		uint8_t bytes[56], n = sizeof(bytes), retries = 6;
		memcpy(bytes, good, sizeof(bytes));
		switch (i) {
		case 0:
			n = 0;
			break;
		case 1:
			bytes[0] = 0;
			break;
		case 2:
			bytes[1] = 2;
			break;
		case 3:
			bytes[4] = 0;
			break;
		case 4:
			bytes[2] = 0x31;
			break;
		case 5:
			bytes[2] = 0x05;
			break;
		case 6:
			bytes[3] = 41;
			break;
		case 7:
			retries = 7;
			break;
		default:
			for (unsigned j = 0; j < sizeof(bytes); j++)
				bytes[j] = (uint8_t)kvt_rng_next(&rng);
			bytes[0] ^= bytes[0] == 0x4b;
		}
		if (ask(port, bytes, n, retries) != RDMA_CM_EVENT_REJECTED) {
			fprintf(stderr, "stranger %u was not refused\n", i);
			_exit(1);
		}
	}
	_exit(0);
}

static void on_asked(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes)
{
	g_assert_not_reached();
}

static gboolean child_is_over(pid_t child, int *status)
{
	return waitpid(child, status, WNOHANG) == child;
}

static void stop(void *arg)
{
	kvt_loop_stop(arg);
}

static void test_strangers(void)
{
	GError *error = NULL;
	int status;
	if (!possible())
		return;
	kvt_loop *loop = kvt_real_loop_new(NULL);
	const char *address = g_getenv("RXE_IP1");
	pid_t child = fork();
	if (child == 0) {
		sleep(1);
		be_stranger(18812);
	}
	kvt_fabric *fabric =
		kvt_verbs_fabric_new(loop, &(kvt_verbs_settings){ .address = address }, &error);
	g_assert_no_error(error);
	kvt_fabric_listener *listener =
		fabric->ops->listen(fabric, address, 18812, on_asked, NULL, &error);
	g_assert_no_error(error);
	kvt_real_loop_hold(loop);
	while (!child_is_over(child, &status)) {
		kvt_loop_after(loop, 20 * KVT_MILLISECOND, stop, loop);
		kvt_loop_run(loop);
	}
	kvt_real_loop_release(loop);
	g_assert_true(WIFEXITED(status));
	g_assert_cmpint(WEXITSTATUS(status), ==, 0);
	fabric->ops->listener_free(listener);
	fabric->ops->free(fabric);
	kvt_loop_free(loop);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/verbs-faults/killed", test_killed);
	g_test_add_func("/verbs-faults/killed-idle", test_killed_idle);
	g_test_add_func("/verbs-faults/cut-idle", test_cut_idle);
	g_test_add_func("/verbs-faults/stopped", test_stopped);
	g_test_add_func("/verbs-faults/loss", test_loss);
	g_test_add_func("/verbs-faults/limit", test_limit);
	g_test_add_func("/verbs-faults/dmabuf", test_dmabuf);
	g_test_add_func("/verbs-faults/many-queues", test_many_queues);
	g_test_add_func("/verbs-faults/strangers", test_strangers);
	return g_test_run();
}
