/*
 * fabric_trial.c: see fabric_trial.h. It checks what holds always: handlers run from the loop, up
 * and down at most once and in this order, done once, nothing left that keeps the loop.
 */
#include "tests/unit/fabric_trial.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "emu/loop/real_loop.h"

/* --- What the ends hear --- */

static void look(fabric_trial *trial)
{
	if (trial->reached && trial->reached(trial))
		kvt_loop_stop(trial->pair.loop);
}

static void keep(trial_end *end, const void *bytes, size_t length)
{
	g_assert_cmpuint(length, <=, sizeof(end->said));
	end->said_any = bytes != NULL;
	end->said_bytes = length;
	if (length > 0)
		memcpy(end->said, bytes, length);
}

static void on_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
	trial_end *end = arg;
	g_assert_true(connection == end->connection);
	g_assert_cmpuint(++end->ups, ==, 1);
	g_assert_cmpuint(end->downs, ==, 0);
	g_assert_cmpuint(end->messages, ==, 0);
	if (end == &end->trial->near)
		keep(end, welcome, bytes);
	else
		g_assert_null(welcome);
	if (end->on_up)
		end->on_up(end);
	look(end->trial);
}

static void on_message(
	void *arg, kvt_connection *connection, int queue, const void *bytes, size_t length)
{
	trial_end *end = arg;
	g_assert_true(connection == end->connection);
	g_assert_cmpuint(end->ups, ==, 1);
	g_assert_cmpuint(end->downs, ==, 0);
	g_assert_cmpint(queue, >=, 0);
	g_assert_cmpint(queue, <, (int)end->fabric->ops->queues(connection));
	end->messages++;
	if (end->on_message)
		end->on_message(end, queue, bytes, length);
	look(end->trial);
}

static void on_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	trial_end *end = arg;
	g_assert_true(connection == end->connection);
	g_assert_cmpuint(++end->downs, ==, 1);
	end->status = status;
	if (end == &end->trial->near && end->ups == 0)
		keep(end, reason, bytes);
	if (end->frees) {
		end->fabric->ops->connection_free(connection);
		end->connection = NULL;
	}
	look(end->trial);
}

static const kvt_connection_handlers handlers = { on_up, on_message, on_down };

void trial_accept(fabric_trial *trial)
{
	kvt_fabric_request *request = trial->request;
	trial->request = NULL;
	trial->far.connection =
		trial->far.fabric->ops->accept(request, trial->far.domain, &trial->far_settings,
			trial->answer_bytes, trial->answer_length, &handlers, &trial->far);
}

void trial_refuse(fabric_trial *trial)
{
	kvt_fabric_request *request = trial->request;
	trial->request = NULL;
	trial->far.fabric->ops->refuse(request, trial->answer_bytes, trial->answer_length);
}

static void on_asked(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes)
{
	fabric_trial *trial = arg;
	g_assert_null(trial->request);
	g_assert_nonnull(strchr(trial->far.fabric->ops->request_peer(request), ':'));
	keep(&trial->far, hello, bytes);
	trial->request = request;
	if (trial->answer == TRIAL_ACCEPT)
		trial_accept(trial);
	else if (trial->answer == TRIAL_REFUSE)
		trial_refuse(trial);
	look(trial);
}

/* --- Beginning and end --- */

static void begin_end(trial_end *end, fabric_trial *trial, kvt_fabric *fabric)
{
	GError *error = NULL;
	end->trial = trial;
	end->fabric = fabric;
	end->domain = fabric->ops->domain_new(fabric, &error);
	g_assert_no_error(error);
	end->memory = mmap(
		NULL, FABRIC_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_assert_true(end->memory != MAP_FAILED);
	int failed = fabric->ops->region_open(
		end->domain, end->memory, FABRIC_MEMORY, KVT_FABRIC_REMOTE_BOTH, &end->region);
	g_assert_cmpint(failed, ==, 0);
	g_assert_true(end->region.domain == end->domain && end->region.memory == end->memory);
	g_assert_cmpuint(end->region.bytes, ==, FABRIC_MEMORY);
}

bool trial_begin(fabric_trial *trial, const fabric_kind *kind)
{
	GError *error = NULL;
	*trial = (fabric_trial){ .kind = kind, .rng = kvt_rng_init(3, 3) };
	const char *reason = kind->make(&trial->pair);
	if (reason) {
		g_test_skip(reason);
		return false;
	}
	begin_end(&trial->near, trial, trial->pair.near);
	begin_end(&trial->far, trial, trial->pair.far);
	trial->listener = trial->pair.far->ops->listen(
		trial->pair.far, trial->pair.far_address, 0, on_asked, trial, &error);
	g_assert_no_error(error);
	g_assert_cmpuint(trial->pair.far->ops->listener_port(trial->listener), >, 0);
	return true;
}

static void free_end(trial_end *end)
{
	end->fabric->ops->region_close(&end->region);
	end->fabric->ops->domain_free(end->domain);
	munmap(end->memory, FABRIC_MEMORY);
}

void trial_end_all(fabric_trial *trial)
{
	trial_close(trial);
	if (trial->listener)
		trial->far.fabric->ops->listener_free(trial->listener);
	free_end(&trial->near);
	free_end(&trial->far);
	trial->reached = NULL;
	/* ends at once: nothing is held, nothing pending */
	kvt_loop_run(trial->pair.loop);
	trial->kind->free(&trial->pair);
}

static void reset(trial_end *end)
{
	end->ups = end->downs = end->messages = 0;
	end->status = 1;
	end->said_any = false;
	end->said_bytes = 0;
	memset(end->heard, 0, sizeof(end->heard));
}

void trial_connect(fabric_trial *trial)
{
	GError *error = NULL;
	const kvt_fabric_ops *ops = trial->near.fabric->ops;
	g_assert_true(!trial->near.connection && !trial->far.connection);
	reset(&trial->near);
	reset(&trial->far);
	trial->near.connection =
		ops->connect(trial->near.fabric, trial->near.domain, trial->pair.far_address,
			trial->far.fabric->ops->listener_port(trial->listener), &trial->settings,
			trial->hello, trial->hello_bytes, &handlers, &trial->near, &error);
	g_assert_no_error(error);
	g_assert_nonnull(trial->near.connection);
	g_assert_cmpuint(trial->near.ups + trial->near.downs, ==, 0);
}

void trial_open(fabric_trial *trial, unsigned queues)
{
	trial->settings.queues = queues;
	trial_connect(trial);
	trial_run(trial, trial_both_up);
	g_assert_cmpuint(trial->near.fabric->ops->queues(trial->near.connection), ==, queues);
	g_assert_cmpuint(trial->far.fabric->ops->queues(trial->far.connection), ==, queues);
}

static void free_connection(trial_end *end)
{
	if (end->connection)
		end->fabric->ops->connection_free(end->connection);
	end->connection = NULL;
}

void trial_close(fabric_trial *trial)
{
	if (trial->near.connection && trial->near.downs == 0)
		trial->near.fabric->ops->disconnect(trial->near.connection);
	if (trial->far.connection && trial->far.downs == 0)
		trial->far.fabric->ops->disconnect(trial->far.connection);
	trial_run(trial, trial_both_down);
	free_connection(&trial->near);
	free_connection(&trial->far);
}

/* --- Waiting --- */

bool trial_both_up(fabric_trial *trial)
{
	return trial->near.ups == 1 && trial->far.ups == 1;
}

bool trial_near_down(fabric_trial *trial)
{
	return trial->near.downs == 1;
}

static bool is_down(const trial_end *end)
{
	return !end->connection || end->downs == 1;
}

bool trial_both_down(fabric_trial *trial)
{
	return is_down(&trial->near) && is_down(&trial->far);
}

static void on_late(void *arg)
{
	fabric_trial *trial = arg;
	trial->late = true;
	kvt_loop_stop(trial->pair.loop);
}

void trial_run(fabric_trial *trial, bool (*reached)(fabric_trial *trial))
{
	kvt_loop *loop = trial->pair.loop;
	kvt_event deadline = kvt_loop_after(loop, FABRIC_SECONDS * KVT_SECOND, on_late, trial);
	trial->reached = reached;
	trial->late = false;
	kvt_real_loop_hold(loop);
	while (!reached(trial) && !trial->late)
		kvt_loop_run(loop);
	kvt_real_loop_release(loop);
	kvt_loop_cancel(loop, deadline);
	trial->reached = NULL;
	if (!reached(trial))
		g_error("after %d s: near %u up, %u down with %d; far %u up, %u down with %d; "
			"%" G_GUINT64_FORMAT " transfers done",
			FABRIC_SECONDS, trial->near.ups, trial->near.downs, trial->near.status,
			trial->far.ups, trial->far.downs, trial->far.status, trial->done);
}

static void stop(void *arg)
{
	kvt_loop_stop(arg);
}

void trial_pass(fabric_trial *trial, kvt_time time)
{
	kvt_loop_after(trial->pair.loop, time, stop, trial->pair.loop);
	kvt_real_loop_hold(trial->pair.loop);
	kvt_loop_run(trial->pair.loop);
	kvt_real_loop_release(trial->pair.loop);
}

/* --- Transfers --- */

static void on_done(kvt_transfer *transfer)
{
	trial_transfer *t = transfer->arg;
	g_assert_cmpuint(++t->done, ==, 1);
	t->order = ++t->trial->done;
	t->trial->failed += transfer->status != 0;
	look(t->trial);
}

void trial_make(trial_transfer *t, fabric_trial *trial, kvt_transfer_op op, uint64_t offset,
	uint64_t remote, uint64_t length)
{
	bool message = op == KVT_TRANSFER_MESSAGE;
	*t = (trial_transfer){ .trial = trial };
	t->transfer = (kvt_transfer){ .op = op,
		.queue = KVT_ANY_QUEUE,
		.memory = trial->near.memory + offset,
		.region = message ? NULL : &trial->near.region,
		.length = length,
		.remote_address = trial->far.region.address + remote,
		.remote_key = trial->far.region.key,
		.done = on_done,
		.arg = t,
		.status = 1 };
}

void trial_submit(trial_transfer *t)
{
	unsigned done = t->done;
	t->trial->near.fabric->ops->submit(t->trial->near.connection, &t->transfer);
	g_assert_cmpuint(t->done, ==, done);
}

static bool none_left(fabric_trial *trial)
{
	return trial->done == 1;
}

int trial_do(trial_transfer *t)
{
	t->trial->done = 0;
	trial_submit(t);
	t->trial->near.fabric->ops->commit(t->trial->near.connection);
	g_assert_cmpuint(t->done, ==, 0);
	trial_run(t->trial, none_left);
	g_assert_cmpuint(t->done, ==, 1);
	return t->transfer.status;
}

void trial_say(trial_end *end, int queue, const void *bytes, size_t length)
{
	g_autofree uint8_t *copy = g_malloc(length + 1);
	memcpy(copy, bytes, length);
	kvt_transfer message = {
		.op = KVT_TRANSFER_MESSAGE, .queue = queue, .memory = copy, .length = length
	};
	end->fabric->ops->submit(end->connection, &message);
	/* it must not be looked at any more */
	memset(copy, 0xee, length);
	memset(&message, 0xee, sizeof(message));
}

void trial_fill(uint8_t *at, uint64_t bytes, uint64_t seed)
{
	kvt_rng rng = kvt_rng_init(seed, 7);
	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t word = kvt_rng_next(&rng);
		memcpy(at + i, &word, MIN(8, bytes - i));
	}
}
