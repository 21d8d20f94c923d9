/*
 * test_memory_fabric.c: what tests of RDMA stand on: that the fabric within a process moves bytes
 * where it may and nowhere else, and that its faults are the ones they claim to be.
 */
#include "tests/unit/memory_fabric.h"

#include <errno.h>
#include <string.h>

#include "emu/loop/real_loop.h"
#include "tests/unit/fabric_conformance.h"

enum { BYTES = 1 << 16, HOSTS = 2 };

/* One end: a host with a connection, a region and what it has heard. */
typedef struct end {
	kvt_fabric *fabric;
	kvt_fabric_domain *domain;
	kvt_connection *connection;
	kvt_fabric_region region;
	uint8_t *memory;
	unsigned ups, downs, messages, done;
	int down_status, last_status;
	char reason[32];
	char heard[64];
} end;

typedef struct fixture {
	kvt_loop *loop;
	memory_wire *wire;
	end near, far;
	kvt_fabric_listener *listener;
	kvt_connection_settings settings;
	bool refuse;
} fixture;

static void on_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
	end *e = arg;
	e->ups++;
}

static void on_message(
	void *arg, kvt_connection *connection, int queue, const void *bytes, size_t length)
{
	end *e = arg;
	e->messages++;
	g_strlcpy(e->heard, bytes, sizeof(e->heard));
}

static void on_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	end *e = arg;
	e->downs++;
	e->down_status = status;
	memcpy(e->reason, reason ? reason : "", bytes);
}

static const kvt_connection_handlers handlers = { on_up, on_message, on_down };

static void on_asked(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes)
{
	fixture *f = arg;
	const kvt_fabric_ops *ops = f->far.fabric->ops;
	g_assert_cmpmem(hello, bytes, "hello", 6);
	if (f->refuse)
		ops->refuse(request, "no", 3);
	else
		f->far.connection = ops->accept(
			request, f->far.domain, &f->settings, "welcome", 8, &handlers, &f->far);
}

static void open_end(end *e, memory_wire *wire, const char *address, kvt_fabric_access access)
{
	e->fabric = memory_fabric_new(wire, address, NULL);
	e->domain = e->fabric->ops->domain_new(e->fabric, NULL);
	e->memory = g_malloc0(BYTES);
	g_assert_cmpint(
		e->fabric->ops->region_open(e->domain, e->memory, BYTES, access, &e->region), ==,
		0);
}

static void connect_near(fixture *f)
{
	const kvt_fabric_ops *ops = f->near.fabric->ops;
	unsigned before = f->near.ups + f->near.downs;
	f->near.connection = ops->connect(f->near.fabric, f->near.domain, "10.0.0.2",
		ops->listener_port(f->listener), &f->settings, "hello", 6, &handlers, &f->near,
		NULL);
	g_assert_nonnull(f->near.connection);
	g_assert_cmpuint(f->near.ups + f->near.downs, ==, before);
	kvt_loop_run(f->loop);
}

static void set_up(fixture *f, gconstpointer data)
{
	f->loop = kvt_real_loop_new(NULL);
	f->wire = memory_wire_new(f->loop);
	open_end(&f->near, f->wire, "10.0.0.1", KVT_FABRIC_LOCAL);
	open_end(&f->far, f->wire, "10.0.0.2", KVT_FABRIC_REMOTE_BOTH);
	f->settings = (kvt_connection_settings){ .depth = 4,
		.messages = 2,
		.retries = 2,
		.timeout = KVT_MILLISECOND,
		.connect_timeout = 10 * KVT_MILLISECOND };
	const kvt_fabric_ops *ops = f->far.fabric->ops;
	f->listener = ops->listen(f->far.fabric, "10.0.0.2", 0, on_asked, f, NULL);
	g_assert_nonnull(f->listener);
}

static void close_end(end *e)
{
	const kvt_fabric_ops *ops = e->fabric->ops;
	if (e->connection)
		ops->connection_free(e->connection);
	ops->region_close(&e->region);
	ops->domain_free(e->domain);
	g_free(e->memory);
}

static void tear_down(fixture *f, gconstpointer data)
{
	close_end(&f->near);
	f->far.fabric->ops->listener_free(f->listener);
	close_end(&f->far);
	f->near.fabric->ops->free(f->near.fabric);
	f->far.fabric->ops->free(f->far.fabric);
	memory_wire_free(f->wire);
	kvt_loop_free(f->loop);
}

static void on_done(kvt_transfer *transfer)
{
	end *e = transfer->arg;
	e->done++;
	e->last_status = transfer->status;
}

/* A transfer between the first bytes of near's memory and a place in far's. */
static kvt_transfer transfer_of(fixture *f, kvt_transfer_op op, uint64_t at, uint64_t length)
{
	return (kvt_transfer){ .op = op,
		.queue = KVT_ANY_QUEUE,
		.memory = f->near.memory,
		.region = &f->near.region,
		.length = length,
		.remote_address = f->far.region.address + at,
		.remote_key = f->far.region.key,
		.done = on_done,
		.arg = &f->near,
		.status = 1 };
}

static int run_transfer(fixture *f, kvt_transfer t)
{
	unsigned before = f->near.done;
	f->near.fabric->ops->submit(f->near.connection, &t);
	f->near.fabric->ops->commit(f->near.connection);
	g_assert_cmpuint(f->near.done, ==, before);
	kvt_loop_run(f->loop);
	g_assert_cmpuint(f->near.done, ==, before + 1);
	return t.status;
}

static void say(fixture *f, const char *words)
{
	char copy[64];
	g_strlcpy(copy, words, sizeof(copy));
	kvt_transfer t = {
		.op = KVT_TRANSFER_MESSAGE, .memory = copy, .length = strlen(words) + 1
	};
	f->near.fabric->ops->submit(f->near.connection, &t);
	memset(copy, 0, sizeof(copy));
	memset(&t, 0xee, sizeof(t));
}

static void test_moves(fixture *f, gconstpointer data)
{
	connect_near(f);
	g_assert_cmpuint(f->near.ups, ==, 1);
	g_assert_cmpuint(f->far.ups, ==, 1);
	memcpy(f->near.memory, "pages", 6);
	g_assert_cmpint(run_transfer(f, transfer_of(f, KVT_TRANSFER_WRITE, 100, 6)), ==, 0);
	g_assert_cmpstr((char *)f->far.memory + 100, ==, "pages");
	memcpy(f->far.memory + BYTES - 6, "there", 6);
	g_assert_cmpint(run_transfer(f, transfer_of(f, KVT_TRANSFER_READ, BYTES - 6, 6)), ==, 0);
	g_assert_cmpstr((char *)f->near.memory, ==, "there");
	/* more than there is credit for; the last is heard last */
	for (unsigned i = 0; i < 9; i++)
		say(f, "again");
	say(f, "the last");
	kvt_loop_run(f->loop);
	g_assert_cmpuint(f->far.messages, ==, 10);
	g_assert_cmpstr(f->far.heard, ==, "the last");
}

/* What opens nothing: past the end, a wrong or old key, another domain, the wrong access. */
static void test_denied(gconstpointer data)
{
	for (unsigned way = 0; way < 6; way++) {
		fixture f = { 0 };
		set_up(&f, NULL);
		connect_near(&f);
		const kvt_fabric_ops *ops = f.far.fabric->ops;
		kvt_transfer t = transfer_of(&f, KVT_TRANSFER_READ, 0, 4096);
		kvt_fabric_domain *other = ops->domain_new(f.far.fabric, NULL);
		kvt_fabric_region region;
		uint8_t memory[4096] = { 0 };
		kvt_fabric_access access =
			way == 4 ? KVT_FABRIC_REMOTE_WRITE : KVT_FABRIC_REMOTE_READ;
		g_assert_cmpint(ops->region_open(way == 3 ? other : f.far.domain, memory,
					sizeof(memory), access, &region),
			==, 0);
		if (way == 0)
			t.remote_address += BYTES - 4095;
		if (way == 1)
			t.remote_key++;
		if (way == 2)
			t.remote_address--;
		if (way >= 3) {
			t.remote_key = region.key;
			t.remote_address = region.address;
		}
		if (way == 5)
			ops->region_close(&region);
		g_assert_cmpint(run_transfer(&f, t), ==, -EACCES);
		g_assert_cmpuint(memory_wire_get_counts(f.wire)->denied, ==, 1);
		g_assert_cmpuint(f.near.downs + f.far.downs, ==, 2);
		g_assert_cmpint(run_transfer(&f, transfer_of(&f, KVT_TRANSFER_READ, 0, 1)), ==,
			-ECONNRESET);
		if (way != 5)
			ops->region_close(&region);
		ops->domain_free(other);
		tear_down(&f, NULL);
	}
}

static void test_refused(fixture *f, gconstpointer data)
{
	f->refuse = true;
	connect_near(f);
	g_assert_cmpuint(f->near.ups, ==, 0);
	g_assert_cmpuint(f->near.downs, ==, 1);
	g_assert_cmpint(f->near.down_status, ==, -ECONNREFUSED);
	g_assert_cmpstr(f->near.reason, ==, "no");
}

static void test_cut(fixture *f, gconstpointer data)
{
	connect_near(f);
	memory_fabric_cut(f->far.fabric, true);
	g_assert_cmpint(run_transfer(f, transfer_of(f, KVT_TRANSFER_READ, 0, 10)), ==, -ETIMEDOUT);
	g_assert_cmpuint(f->near.downs, ==, 1);
	g_assert_cmpint(f->near.down_status, ==, -ETIMEDOUT);
	/* nobody has told the other side */
	g_assert_cmpuint(f->far.downs, ==, 0);
	g_assert_cmpuint(memory_wire_get_counts(f->wire)->reads, ==, 0);
	g_assert_cmpuint(memory_wire_get_counts(f->wire)->lost, ==, 3);
	f->near.fabric->ops->connection_free(f->near.connection);
	connect_near(f);
	g_assert_cmpuint(f->near.downs, ==, 2);
	g_assert_cmpint(f->near.down_status, ==, -ETIMEDOUT);
	f->far.fabric->ops->connection_free(f->far.connection);
	f->far.connection = NULL;
}

static void mend(void *arg)
{
	memory_fabric_cut(((fixture *)arg)->far.fabric, false);
}

static void test_mended(fixture *f, gconstpointer data)
{
	f->settings.timeout = 20 * KVT_MILLISECOND;
	connect_near(f);
	memory_fabric_cut(f->far.fabric, true);
	kvt_loop_after(f->loop, KVT_MILLISECOND, mend, f);
	g_assert_cmpint(run_transfer(f, transfer_of(f, KVT_TRANSFER_READ, 0, 10)), ==, 0);
	g_assert_cmpuint(f->near.downs, ==, 0);
}

static void test_killed(fixture *f, gconstpointer data)
{
	connect_near(f);
	memory_fabric_kill(f->far.fabric);
	g_assert_cmpint(run_transfer(f, transfer_of(f, KVT_TRANSFER_READ, 0, 10)), ==, -ECONNRESET);
	g_assert_cmpuint(f->near.downs, ==, 1);
	g_assert_cmpint(f->near.down_status, ==, 0);
	g_assert_cmpuint(f->far.downs, ==, 0);
}

static void go_on(void *arg)
{
	fixture *f = arg;
	g_assert_cmpuint(f->far.messages, ==, 0);
	memory_fabric_stop(f->far.fabric, false);
}

static void test_stopped(fixture *f, gconstpointer data)
{
	connect_near(f);
	memory_fabric_stop(f->far.fabric, true);
	for (unsigned i = 0; i < 5; i++)
		say(f, "wake up");
	g_assert_cmpint(run_transfer(f, transfer_of(f, KVT_TRANSFER_READ, 0, 10)), ==, 0);
	kvt_loop_after(f->loop, KVT_MILLISECOND, go_on, f);
	kvt_loop_run(f->loop);
	g_assert_cmpuint(f->far.messages, ==, 5);
}

static void test_flipped(fixture *f, gconstpointer data)
{
	connect_near(f);
	memory_wire_flip(f->wire, 3);
	for (unsigned i = 1; i <= 9; i++) {
		unsigned wrong = 0;
		memset(f->near.memory, 0, 1000);
		g_assert_cmpint(run_transfer(f, transfer_of(f, KVT_TRANSFER_READ, 0, 1000)), ==, 0);
		for (unsigned k = 0; k < 1000; k++)
			wrong += (unsigned)__builtin_popcount(f->near.memory[k]);
		g_assert_cmpuint(wrong, ==, i % 3 == 0);
	}
	g_assert_cmpuint(memory_wire_get_counts(f->wire)->flipped, ==, 3);
}

static void test_limit(fixture *f, gconstpointer data)
{
	const kvt_fabric_ops *ops = f->near.fabric->ops;
	kvt_fabric_region region;
	memory_fabric_limit_regions(f->near.fabric, 1);
	g_assert_cmpint(
		ops->region_open(f->near.domain, f->near.memory, 1, KVT_FABRIC_LOCAL, &region), ==,
		0);
	ops->region_close(&region);
	g_assert_cmpint(
		ops->region_open(f->near.domain, f->near.memory, 1, KVT_FABRIC_LOCAL, &region), ==,
		-ENOMEM);
}

/* --- The suite --- */

static const char *make_pair(fabric_pair *pair)
{
	pair->loop = kvt_real_loop_new(NULL);
	memory_wire *wire = memory_wire_new(pair->loop);
	pair->more = wire;
	pair->near = memory_fabric_new(wire, "10.0.0.1", "fd00::1");
	pair->far = memory_fabric_new(wire, "10.0.0.2", "fd00::2");
	pair->far_address = "10.0.0.2";
	pair->second_address = "fd00::2";
	return NULL;
}

static void free_pair(fabric_pair *pair)
{
	pair->near->ops->free(pair->near);
	pair->far->ops->free(pair->far);
	memory_wire_free(pair->more);
	kvt_loop_free(pair->loop);
}

static void cut_pair(fabric_pair *pair)
{
	memory_fabric_cut(pair->far, true);
}

static void mend_pair(fabric_pair *pair)
{
	memory_fabric_cut(pair->far, false);
}

static const fabric_kind kind = {
	.name = "memory", .make = make_pair, .free = free_pair, .cut = cut_pair, .mend = mend_pair
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	fabric_conformance_add(&kind);
	static const struct {
		const char *name;
		void (*run)(fixture *f, gconstpointer data);
	} tests[] = {
		{ "moves", test_moves },
		{ "refused", test_refused },
		{ "cut", test_cut },
		{ "mended", test_mended },
		{ "killed", test_killed },
		{ "stopped", test_stopped },
		{ "flipped", test_flipped },
		{ "limit", test_limit },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
		g_autofree char *path = g_strconcat("/memory-fabric/", tests[i].name, NULL);
		g_test_add(path, fixture, NULL, set_up, tests[i].run, tear_down);
	}
	g_test_add_data_func("/memory-fabric/denied", NULL, test_denied);
	return g_test_run();
}
