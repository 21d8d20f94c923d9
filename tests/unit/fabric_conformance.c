/*
 * fabric_conformance.c: how connections open and end, and how bytes and messages go; faults are in
 * fabric_faults.c.
 */
#include "tests/unit/fabric_conformance.h"

#include <errno.h>
#include <string.h>

#include "emu/loop/real_loop.h"
#include "tests/unit/fabric_faults.h"

enum { MOST = 3000 };

/* --- Opening and ending --- */

static void test_hello(gconstpointer kind)
{
	uint8_t hello[KVT_FABRIC_HELLO], welcome[KVT_FABRIC_WELCOME];
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	trial_fill(hello, sizeof(hello), 1);
	trial_fill(welcome, sizeof(welcome), 2);
	t.hello = hello;
	t.answer_bytes = welcome;
	for (unsigned i = 0; i < 3; i++) {
		t.hello_bytes = (size_t[]){ sizeof(hello), 0, 7 }[i];
		t.answer_length = (size_t[]){ sizeof(welcome), 0, 11 }[i];
		trial_open(&t, 1);
		g_assert_cmpmem(t.far.said, t.far.said_bytes, hello, t.hello_bytes);
		g_assert_cmpmem(t.near.said, t.near.said_bytes, welcome, t.answer_length);
		trial_close(&t);
		g_assert_cmpuint(t.near.downs, ==, 1);
		g_assert_cmpuint(t.far.downs, ==, 1);
		g_assert_cmpint(t.near.status, ==, 0);
		g_assert_cmpint(t.far.status, ==, 0);
	}
	trial_end_all(&t);
}

static void test_ends(gconstpointer kind)
{
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	/* one side ends it, and the other one is told */
	for (unsigned side = 0; side < 2; side++) {
		trial_end *ends = side ? &t.far : &t.near;
		trial_open(&t, 1 + side);
		ends->fabric->ops->disconnect(ends->connection);
		g_assert_cmpuint(ends->downs, ==, 0);
		/* again is nothing new */
		ends->fabric->ops->disconnect(ends->connection);
		t.near.frees = t.far.frees = true;
		trial_run(&t, trial_both_down);
		t.near.frees = t.far.frees = false;
		g_assert_cmpint(t.near.status, ==, 0);
		g_assert_cmpint(t.far.status, ==, 0);
		g_assert_true(!t.near.connection && !t.far.connection);
	}
	/* before it has begun */
	trial_connect(&t);
	t.near.fabric->ops->disconnect(t.near.connection);
	trial_run(&t, trial_near_down);
	g_assert_cmpint(t.near.status, ==, 0);
	g_assert_cmpuint(t.near.ups, ==, 0);
	trial_end_all(&t);
}

static bool was_asked(fabric_trial *t)
{
	return t->request != NULL;
}

static void test_refusal(gconstpointer kind)
{
	uint8_t reason[KVT_FABRIC_WELCOME];
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	trial_fill(reason, sizeof(reason), 3);
	t.answer_bytes = reason;
	for (unsigned i = 0; i < 4; i++) {
		t.answer_length = (size_t[]){ sizeof(reason), 0, 1, 5 }[i];
		t.answer = i < 2 ? TRIAL_REFUSE : TRIAL_WAIT;
		t.settings.queues = 1 + i;
		trial_connect(&t);
		if (i >= 2) {
			trial_run(&t, was_asked);
			trial_pass(&t, 10 * KVT_MILLISECOND);
			g_assert_cmpuint(t.near.downs, ==, 0);
			trial_refuse(&t);
		}
		trial_run(&t, trial_near_down);
		g_assert_cmpint(t.near.status, ==, -ECONNREFUSED);
		g_assert_cmpuint(t.near.ups, ==, 0);
		g_assert_cmpmem(t.near.said, t.near.said_bytes, reason, t.answer_length);
		trial_close(&t);
	}
	/* accepted late */
	t.answer_length = 5;
	trial_connect(&t);
	trial_run(&t, was_asked);
	trial_pass(&t, 10 * KVT_MILLISECOND);
	trial_accept(&t);
	trial_run(&t, trial_both_up);
	trial_close(&t);
	/* who was not answered is refused */
	trial_connect(&t);
	trial_run(&t, was_asked);
	t.far.fabric->ops->listener_free(t.listener);
	t.listener = NULL;
	t.request = NULL;
	trial_run(&t, trial_near_down);
	g_assert_cmpint(t.near.status, ==, -ECONNREFUSED);
	g_assert_false(t.near.said_any);
	trial_end_all(&t);
}

static void no_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
	g_assert_not_reached();
}

static void any_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	*(int *)arg = status;
}

static const kvt_connection_handlers nobody = { .up = no_up, .down = any_down };

/* Nobody listens there; no such address; not the same messages. */
static void test_nobody(gconstpointer kind)
{
	fabric_trial t;
	GError *error = NULL;
	int status = 1;
	if (!trial_begin(&t, kind))
		return;
	const kvt_fabric_ops *ops = t.near.fabric->ops;
	g_assert_null(ops->connect(t.near.fabric, t.near.domain, "300.1.2.3", 1, NULL, NULL, 0,
		&nobody, &status, &error));
	g_assert_nonnull(error);
	g_assert_null(strchr(error->message, '\n'));
	g_assert_nonnull(strstr(error->message, "300.1.2.3"));
	g_clear_error(&error);
	uint16_t port = ops->listener_port(t.listener);
	kvt_connection *c = ops->connect(t.near.fabric, t.near.domain, t.pair.far_address, port ^ 1,
		NULL, NULL, 0, &nobody, &status, &error);
	g_assert_no_error(error);
	kvt_loop_run(t.pair.loop);
	g_assert_cmpint(status, ==, -ECONNREFUSED);
	ops->connection_free(c);
	/* what has been listened at is free again, and not before */
	g_assert_null(ops->listen(t.far.fabric, t.pair.far_address, port, NULL, NULL, &error));
	g_assert_nonnull(error);
	g_clear_error(&error);
	t.settings.message_bytes = 4096;
	trial_connect(&t);
	trial_run(&t, trial_near_down);
	g_assert_cmpint(t.near.status, ==, -ECONNREFUSED);
	g_assert_null(t.far.connection);
	trial_end_all(&t);
}

/* Messages that are submitted before it is up, and by up itself, come after it. */
static void say_at_once(trial_end *end)
{
	trial_say(end, 0, "up", 2);
}

static bool two_messages(fabric_trial *t)
{
	return t->far.messages == 2 && t->near.messages == 1;
}

static void test_early(gconstpointer kind)
{
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	t.near.on_up = t.far.on_up = say_at_once;
	t.settings.queues = 4;
	for (unsigned i = 0; i < 3; i++) {
		trial_connect(&t);
		trial_say(&t.near, 0, "early", 5);
		trial_run(&t, two_messages);
		trial_close(&t);
	}
	trial_end_all(&t);
}

/* Who listens everywhere is reached at all addresses of the host, of both families. */
static void say_peer(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes)
{
	fabric_trial *t = arg;
	const char *peer = t->far.fabric->ops->request_peer(request);
	t->far.fabric->ops->refuse(request, peer, strlen(peer) + 1);
}

static void keep_peer(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	g_assert_cmpint(status, ==, -ECONNREFUSED);
	g_assert_cmpuint(bytes, >, 0);
	g_strlcpy(arg, reason, 64);
}

static const kvt_connection_handlers peer_handlers = { .up = no_up, .down = keep_peer };

static void test_addresses(gconstpointer kind)
{
	fabric_trial t;
	GError *error = NULL;
	char peers[2][64] = { "", "" };
	if (!trial_begin(&t, kind))
		return;
	const kvt_fabric_ops *ops = t.near.fabric->ops;
	kvt_fabric_listener *listener = ops->listen(t.far.fabric, "", 0, say_peer, &t, &error);
	g_assert_no_error(error);
	for (unsigned i = 0; i < 2; i++) {
		const char *address = i == 0 ? t.pair.far_address : t.pair.second_address;
		if (!address)
			continue;
		kvt_connection *c = ops->connect(t.near.fabric, t.near.domain, address,
			ops->listener_port(listener), NULL, NULL, 0, &peer_handlers, peers[i],
			&error);
		g_assert_no_error(error);
		kvt_loop_run(t.pair.loop);
		ops->connection_free(c);
		g_assert_nonnull(strrchr(peers[i], ':'));
	}
	if (t.pair.second_address)
		g_assert_cmpstr(peers[0], !=, peers[1]);
	else
		g_test_skip("the far host has one address");
	ops->listener_free(listener);
	trial_end_all(&t);
}

/* --- Bytes --- */

static unsigned wanted;

static bool all_done(fabric_trial *t)
{
	return t->done == wanted;
}

/* Runs until n transfers are done; how many have failed. */
static unsigned run_all(fabric_trial *t, const trial_transfer *all, unsigned n)
{
	wanted = n;
	trial_run(t, all_done);
	unsigned failed = t->failed;
	t->done = t->failed = 0;
	for (unsigned i = 0; i < n; i++)
		g_assert_cmpuint(all[i].done, ==, 1);
	return failed;
}

/* Both ways, at odd places, and nothing beside them is touched. */
static void test_sizes(gconstpointer kind)
{
	static const uint64_t sizes[] = { 1, 7, 64, 220, 221, 4095, 4096, 4097, 65536, 1 << 20,
		(1 << 20) + 1, 4 << 20, (8 << 20) + 123 };
	fabric_trial t;
	trial_transfer x;
	if (!trial_begin(&t, kind))
		return;
	trial_open(&t, 1);
	g_autofree uint8_t *shadow = g_malloc(FABRIC_MEMORY);
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		uint64_t here = 3 * i, there = 1000 + 5 * i, n = sizes[i];
		/* only what is near is compared whole */
		uint64_t span = MIN(n + 8192, FABRIC_MEMORY);
		trial_fill(t.near.memory, span, 100 + i);
		trial_fill(t.far.memory, span, 200 + i);
		memcpy(shadow, t.near.memory, span);
		memcpy(shadow + here, t.far.memory + there, n);
		trial_make(&x, &t, KVT_TRANSFER_READ, here, there, n);
		g_assert_cmpint(trial_do(&x), ==, 0);
		g_assert_true(memcmp(t.near.memory, shadow, span) == 0);
		trial_fill(t.near.memory, span, 300 + i);
		memcpy(shadow, t.far.memory, span);
		memcpy(shadow + there, t.near.memory + here, n);
		trial_make(&x, &t, KVT_TRANSFER_WRITE, here, there, n);
		g_assert_cmpint(trial_do(&x), ==, 0);
		g_assert_true(memcmp(t.far.memory, shadow, span) == 0);
	}
	trial_end_all(&t);
}

/* Thousands at once, over several queues and all classes: more than queues have room for. */
static void test_many(gconstpointer kind)
{
	enum { EACH = 512 };
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	t.settings.depth = 16;
	trial_open(&t, 3);
	g_autofree trial_transfer *all = g_new0(trial_transfer, MOST);
	for (unsigned round = 0; round < 2; round++) {
		bool read = round == 1;
		trial_fill(read ? t.far.memory : t.near.memory, MOST * EACH, 10 + round);
		for (unsigned i = 0; i < MOST; i++) {
			uint64_t at = (uint64_t)i * EACH, to = (uint64_t)(MOST - 1 - i) * EACH;
			trial_make(&all[i], &t, read ? KVT_TRANSFER_READ : KVT_TRANSFER_WRITE, at,
				to, EACH);
			all[i].transfer.priority = i % KVT_PRIORITY_CLASSES;
			all[i].transfer.queue = (int)(i % 4) - 1;
			trial_submit(&all[i]);
		}
		g_assert_cmpuint(run_all(&t, all, MOST), ==, 0);
		for (unsigned i = 0; i < MOST; i++)
			g_assert_true(memcmp(t.near.memory + i * EACH,
					      t.far.memory + (MOST - 1 - i) * EACH, EACH) == 0);
	}
	trial_end_all(&t);
}

/* A transfer's done may submit it again. */
static void again(kvt_transfer *transfer)
{
	trial_transfer *x = transfer->arg;
	g_assert_cmpint(transfer->status, ==, 0);
	x->trial->done++;
	if (++x->order < 50)
		trial_submit(x);
	if (x->trial->reached(x->trial))
		kvt_loop_stop(x->trial->pair.loop);
}

static void test_again(gconstpointer kind)
{
	enum { CHAINS = 20 };
	fabric_trial t;
	trial_transfer all[CHAINS];
	if (!trial_begin(&t, kind))
		return;
	trial_open(&t, 2);
	for (unsigned i = 0; i < CHAINS; i++) {
		trial_make(&all[i], &t, i % 2 ? KVT_TRANSFER_READ : KVT_TRANSFER_WRITE, i * 4096,
			i * 4096, 4096);
		all[i].transfer.done = again;
		trial_submit(&all[i]);
	}
	wanted = CHAINS * 50;
	trial_run(&t, all_done);
	trial_end_all(&t);
}

/* One at a time, so that order is all there is to see. */
static void test_classes(gconstpointer kind)
{
	enum { LOW = 40, HIGH = 200 };
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	t.settings.depth = 1;
	trial_open(&t, 1);
	g_autofree trial_transfer *all = g_new0(trial_transfer, LOW + HIGH);
	for (unsigned i = 0; i < LOW + HIGH; i++) {
		trial_make(&all[i], &t, KVT_TRANSFER_WRITE, 0, 0, 1024);
		all[i].transfer.priority = i < LOW ? 2 : 0;
		trial_submit(&all[i]);
	}
	g_assert_cmpuint(run_all(&t, all, LOW + HIGH), ==, 0);
	uint64_t sum_low = 0, sum_high = 0;
	for (unsigned i = 0; i < LOW; i++)
		sum_low += all[i].order;
	for (unsigned i = LOW; i < LOW + HIGH; i++)
		sum_high += all[i].order;
	/* those of the first class went first though they came last */
	g_assert_cmpuint(sum_high / HIGH + 50, <, sum_low / LOW);
	for (unsigned i = 1; i < LOW; i++)
		g_assert_cmpuint(all[i - 1].order, <, all[i].order);
	/* and the others waited for a bounded number of them: some went before the last */
	g_assert_cmpuint(all[1].order, <, HIGH / 2);
	trial_end_all(&t);
}

/* --- Messages --- */

static void check_message(trial_end *end, int queue, const void *bytes, size_t length)
{
	/* message i of a queue: its number, then bytes that follow from it */
	uint64_t number = end->heard[queue]++;
	g_autofree uint8_t *expected = g_malloc(length + 8);
	trial_fill(expected, length, number + 1000 * (uint64_t)queue);
	g_assert_cmpuint(length, ==, (number * 97) % 3000);
	g_assert_true(memcmp(bytes, expected, length) == 0);
}

static void say_numbered(trial_end *end, unsigned queue, uint64_t number)
{
	uint8_t bytes[3008];
	size_t length = (number * 97) % 3000;
	trial_fill(bytes, length, number + 1000 * queue);
	trial_say(end, (int)queue, bytes, length);
}

static bool all_heard(fabric_trial *t)
{
	return t->near.messages == wanted && t->far.messages == wanted;
}

/* Far more than there is credit for, both ways at once. */
static void test_flood(gconstpointer kind)
{
	enum { QUEUES = 2, EACH = 300 };
	static const unsigned near_credit[] = { 1, 2, 8, 3 }, far_credit[] = { 1, 5, 2, 3 };
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	t.near.on_message = t.far.on_message = check_message;
	for (unsigned i = 0; i < G_N_ELEMENTS(near_credit); i++) {
		t.settings.messages = near_credit[i];
		t.far_settings.messages = far_credit[i];
		trial_open(&t, QUEUES);
		for (unsigned n = 0; n < EACH; n++)
			for (unsigned q = 0; q < QUEUES; q++) {
				say_numbered(&t.near, q, n);
				say_numbered(&t.far, q, n);
			}
		wanted = QUEUES * EACH;
		trial_run(&t, all_heard);
		trial_close(&t);
	}
	trial_end_all(&t);
}

/* Only one side talks: nothing takes its credits back along. */
static void test_monologue(gconstpointer kind)
{
	fabric_trial t;
	trial_transfer x;
	if (!trial_begin(&t, kind))
		return;
	t.far_settings.messages = 3;
	trial_open(&t, 1);
	for (unsigned i = 0; i < 100; i++) {
		uint64_t length = i == 50 ? 16 << 10 : i;
		trial_make(&x, &t, KVT_TRANSFER_MESSAGE, 0, 0, length);
		g_assert_cmpint(trial_do(&x), ==, 0);
	}
	wanted = 100;
	g_assert_cmpuint(t.near.messages, ==, 0);
	trial_end_all(&t);
}

/* A message comes after the bytes of the writes before it. */
static void check_written(trial_end *end, int queue, const void *bytes, size_t length)
{
	uint64_t number;
	g_assert_cmpuint(length, ==, sizeof(number));
	memcpy(&number, bytes, sizeof(number));
	g_assert_cmpuint(number, ==, end->heard[queue]++);
	const uint8_t *at = end->memory + (unsigned)queue * 65536;
	g_assert_true(memcmp(at + number * 256, end->trial->near.memory + number * 256, 256) == 0);
}

static bool all_far(fabric_trial *t)
{
	return t->far.messages == wanted && t->done == wanted;
}

static void test_order(gconstpointer kind)
{
	enum { QUEUES = 3, EACH = 100 };
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	t.far.on_message = check_written;
	trial_open(&t, QUEUES);
	trial_fill(t.near.memory, EACH * 256, 77);
	g_autofree trial_transfer *all = g_new0(trial_transfer, QUEUES * EACH);
	for (unsigned i = 0; i < QUEUES * EACH; i++) {
		unsigned queue = i % QUEUES;
		uint64_t number = i / QUEUES;
		trial_make(&all[i], &t, KVT_TRANSFER_WRITE, number * 256,
			queue * 65536 + number * 256, 256);
		all[i].transfer.queue = (int)queue;
		trial_submit(&all[i]);
		trial_say(&t.near, (int)queue, &number, sizeof(number));
	}
	wanted = QUEUES * EACH;
	trial_run(&t, all_far);
	t.done = t.failed = 0;
	trial_end_all(&t);
}

/* --- All of it --- */

static const struct {
	const char *name;
	void (*run)(gconstpointer kind);
} tests[] = {
	{ "hello", test_hello },
	{ "ends", test_ends },
	{ "refusal", test_refusal },
	{ "nobody", test_nobody },
	{ "early", test_early },
	{ "addresses", test_addresses },
	{ "sizes", test_sizes },
	{ "many", test_many },
	{ "again", test_again },
	{ "classes", test_classes },
	{ "flood", test_flood },
	{ "monologue", test_monologue },
	{ "order", test_order },
};

void fabric_conformance_add(const fabric_kind *kind)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
		g_autofree char *path = g_strdup_printf("/fabric/%s/%s", kind->name, tests[i].name);
		g_test_add_data_func(path, kind, tests[i].run);
	}
	fabric_faults_add(kind);
}
