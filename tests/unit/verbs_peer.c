/*
 * verbs_peer.c: see verbs_peer.h.
 */
#include "tests/unit/verbs_peer.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emu/loop/real_loop.h"
#include "sim/base/rng.h"

enum { PORT = 18811 };

typedef struct place {
	uint64_t address;
	uint32_t key;
} place;

const char *verbs_peer_missing(void)
{
	return g_getenv("RXE_IP0") && g_getenv("RXE_IP1")
		       ? NULL
		       : "there are no RDMA devices: RXE_IP0 and RXE_IP1 are not set";
}

void verbs_peer_fill(uint8_t *at, uint64_t bytes, uint64_t seed)
{
	kvt_rng rng = kvt_rng_init(seed, 9);
	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t word = kvt_rng_next(&rng);
		memcpy(at + i, &word, 8);
	}
}

static void begin(verbs_near *end, const kvt_verbs_settings *settings)
{
	GError *error = NULL;
	end->loop = kvt_real_loop_new(NULL);
	end->fabric = kvt_verbs_fabric_new(end->loop, settings, &error);
	g_assert_no_error(error);
	end->domain = end->fabric->ops->domain_new(end->fabric, &error);
	g_assert_no_error(error);
	end->memory =
		mmap(NULL, PEER_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_assert_true(end->memory != MAP_FAILED);
	int failed = end->fabric->ops->region_open(
		end->domain, end->memory, PEER_MEMORY, KVT_FABRIC_REMOTE_BOTH, &end->region);
	g_assert_cmpint(failed, ==, 0);
}

/* --- The peer --- */

static void peer_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
}

static void no_message(
	void *arg, kvt_connection *connection, int queue, const void *bytes, size_t length)
{
}

static void peer_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	verbs_near *end = arg;
	end->fabric->ops->connection_free(connection);
}

static const kvt_connection_handlers peer_handlers = { peer_up, no_message, peer_down };

static void on_asked(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes)
{
	verbs_near *end = arg;
	kvt_connection_settings settings;
	place here = { end->region.address, end->region.key };
	g_assert_cmpuint(bytes, ==, sizeof(settings.messages) + sizeof(settings.message_bytes));
	/* what it sends, too, waits for a guest on a busy machine and a wire that loses packets */
	settings = (kvt_connection_settings){ .timeout = 520 * KVT_MILLISECOND };
	memcpy(&settings.messages, hello, sizeof(settings.messages));
	memcpy(&settings.message_bytes, (const uint8_t *)hello + sizeof(settings.messages),
		sizeof(settings.message_bytes));
	end->fabric->ops->accept(
		request, end->domain, &settings, &here, sizeof(here), &peer_handlers, end);
}

static G_GNUC_NORETURN void serve(uint64_t seed)
{
	verbs_near end = { 0 };
	GError *error = NULL;
	const char *address = g_getenv("RXE_IP1");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* librdmacm may have opened the device before the fork, and the kernel lets a child that
	 * did not open it send nothing: it must not probe a connection that hears nothing for long
	 */
	begin(&end, &(kvt_verbs_settings){ .address = address, .keepalive = 600 * KVT_SECOND });
	verbs_peer_fill(end.memory, PEER_MEMORY, seed);
	end.fabric->ops->listen(end.fabric, address, PORT, on_asked, &end, &error);
	g_assert_no_error(error);
	kvt_real_loop_hold(end.loop);
	for (;;)
		kvt_loop_run(end.loop);
}

pid_t verbs_peer_start(uint64_t seed)
{
	pid_t peer = fork();
	g_assert_cmpint(peer, >=, 0);
	if (peer == 0)
		serve(seed);
	return peer;
}

void verbs_peer_end(pid_t peer, int signal)
{
	g_assert_cmpint(kill(peer, signal), ==, 0);
	g_assert_cmpint(waitpid(peer, NULL, 0), ==, peer);
}

/* --- This end --- */

static void on_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
	verbs_near *near = arg;
	place far;
	g_assert_cmpuint(bytes, ==, sizeof(far));
	memcpy(&far, welcome, sizeof(far));
	near->address = far.address;
	near->key = far.key;
	near->ups++;
	kvt_loop_stop(near->loop);
}

static void on_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	verbs_near *near = arg;
	near->downs++;
	near->status = status;
	kvt_loop_stop(near->loop);
}

static const kvt_connection_handlers handlers = { on_up, no_message, on_down };

void verbs_near_begin(verbs_near *near, const kvt_verbs_settings *more)
{
	kvt_verbs_settings settings = more ? *more : (kvt_verbs_settings){ 0 };
	*near = (verbs_near){ 0 };
	settings.peer = g_getenv("RXE_IP1");
	begin(near, &settings);
}

void verbs_near_end(verbs_near *near)
{
	near->fabric->ops->region_close(&near->region);
	near->fabric->ops->domain_free(near->domain);
	near->fabric->ops->free(near->fabric);
	munmap(near->memory, PEER_MEMORY);
	kvt_loop_free(near->loop);
}

static void on_late(void *arg)
{
	g_error("nothing more happened in %d s", PEER_SECONDS);
}

/* Until the counter has come to the number. */
static void run_until(verbs_near *near, const unsigned *counter, unsigned number)
{
	kvt_event late = kvt_loop_after(near->loop, PEER_SECONDS * KVT_SECOND, on_late, NULL);
	kvt_real_loop_hold(near->loop);
	while (*counter < number)
		kvt_loop_run(near->loop);
	kvt_real_loop_release(near->loop);
	kvt_loop_cancel(near->loop, late);
}

static bool try_to_open(verbs_near *near, const kvt_connection_settings *settings)
{
	GError *error = NULL;
	unsigned messages = settings->messages;
	uint32_t bytes = settings->message_bytes;
	uint8_t hello[sizeof(messages) + sizeof(bytes)];
	memcpy(hello, &messages, sizeof(messages));
	memcpy(hello + sizeof(messages), &bytes, sizeof(bytes));
	unsigned ups = near->ups, downs = near->downs;
	near->connection = near->fabric->ops->connect(near->fabric, near->domain,
		g_getenv("RXE_IP1"), PORT, settings, hello, sizeof(hello), &handlers, near, &error);
	g_assert_no_error(error);
	while (near->ups == ups && near->downs == downs)
		kvt_loop_run(near->loop);
	if (near->ups > ups)
		return true;
	near->fabric->ops->connection_free(near->connection);
	near->downs = downs;
	return false;
}

kvt_connection *verbs_near_open(verbs_near *near, const kvt_connection_settings *settings)
{
	static const kvt_connection_settings none;
	for (unsigned i = 0; !try_to_open(near, settings ? settings : &none); i++) {
		g_assert_cmpuint(i, <, 100);
		g_usleep(100000);
	}
	return near->connection;
}

void verbs_near_close(verbs_near *near, kvt_connection *connection)
{
	near->fabric->ops->disconnect(connection);
	run_until(near, &near->downs, near->downs + 1);
	near->fabric->ops->connection_free(connection);
}

static void on_done(kvt_transfer *transfer)
{
	verbs_near *near = transfer->arg;
	near->done++;
	near->failed += transfer->status != 0;
	near->timed_out += transfer->status == -ETIMEDOUT;
	kvt_loop_stop(near->loop);
}

void verbs_near_submit(verbs_near *near, kvt_transfer *transfer, kvt_transfer_op op,
	uint64_t offset, uint64_t length)
{
	*transfer = (kvt_transfer){ .op = op,
		.queue = KVT_ANY_QUEUE,
		.memory = near->memory + offset,
		.region = &near->region,
		.length = length,
		.remote_address = near->address + offset,
		.remote_key = near->key,
		.done = on_done,
		.arg = near };
	near->fabric->ops->submit(near->connection, transfer);
}

void verbs_near_until_done(verbs_near *near, unsigned done)
{
	run_until(near, &near->done, done);
}

void verbs_near_until_down(verbs_near *near, unsigned downs)
{
	run_until(near, &near->downs, downs);
}

static void end_pass(void *arg)
{
	verbs_near *near = arg;
	near->passed = 1;
	kvt_loop_stop(near->loop);
}

void verbs_near_pass(verbs_near *near, kvt_time time)
{
	near->passed = 0;
	kvt_loop_after(near->loop, time, end_pass, near);
	run_until(near, &near->passed, 1);
}
