/*
 * io_engine.c: from I/Os to commands and back: classes, coalescing and cutting, resumption, errors,
 * order of completions. How a command reaches the device is the backend's.
 */
#include "emu/io/io_engine.h"

#include <errno.h>
#include <string.h>

#include "emu/io/class_turns.h"
#include "emu/io/io_backend.h"
#include "emu/loop/real_loop.h"
#include "sim/base/error.h"

enum {
	BLOCK = 4096, /* what O_DIRECT may ask of offsets and memory */
	MAX_ATTEMPTS = 64,
	BATCHES = 32, /* that what is at the device is reaped in */
};

const char *const kvt_io_method_names[] = { "auto", "uring", "threads", NULL };

typedef struct io_class {
	kvt_raw_io *first, *last;
} io_class;

struct kvt_io_engine {
	kvt_loop *loop;
	kvt_io_settings settings;
	kvt_io_backend *backend;
	kvt_real_source source;
	char *notice;
	io_class classes[KVT_PRIORITY_CLASSES];
	kvt_class_turns turns;
	unsigned taken, in_backend; /* commands: in use; of these, given to the backend */
	kvt_io_command *commands, *free_commands;
	kvt_raw_io *finished; /* in order of submission; their done is to be scheduled */
	kvt_raw_io *last_finished;
	uint64_t sequence, outstanding; /* I/Os whose done is not yet scheduled */
	kvt_io_stats stats;
};

/* --- Queues --- */

static void append(io_class *class, kvt_raw_io *io)
{
	io->next = NULL;
	if (class->first)
		class->last->next = io;
	else
		class->first = io;
	class->last = io;
}

static void prepend(io_class *class, kvt_raw_io *io)
{
	io->next = class->first;
	if (!class->first)
		class->last = io;
	class->first = io;
}

/* False when it is not in the queue. */
static bool take_out(io_class *class, kvt_raw_io *io)
{
	kvt_raw_io *previous = NULL, *at = class->first;
	while (at && at != io) {
		previous = at;
		at = at->next;
	}
	if (!at)
		return false;
	if (previous)
		previous->next = io->next;
	else
		class->first = io->next;
	if (class->last == io)
		class->last = previous;
	return true;
}

/* Puts an I/O among those whose done is due. They mostly come in order. */
static void finish(kvt_io_engine *engine, kvt_raw_io *io, int status)
{
	if (io->status == 0)
		io->status = status;
	if (engine->finished && engine->last_finished->sequence < io->sequence) {
		io->next = NULL;
		engine->last_finished = engine->last_finished->next = io;
		return;
	}
	kvt_raw_io **link = &engine->finished;
	while (*link && (*link)->sequence < io->sequence)
		link = &(*link)->next;
	io->next = *link;
	*link = io;
	if (!io->next)
		engine->last_finished = io;
}

static void run_done(void *arg)
{
	kvt_raw_io *io = arg;
	io->done(io);
}

static unsigned schedule_finished(kvt_io_engine *engine)
{
	unsigned n = 0;
	if (!engine->finished)
		return 0;
	kvt_time now = kvt_loop_now(engine->loop);
	for (kvt_raw_io *io = engine->finished, *next; io; io = next, n++) {
		next = io->next;
		engine->stats.ios += io->status == 0;
		engine->stats.bytes += io->status == 0 ? io->length : 0;
		kvt_loop_at(engine->loop, now, run_done, io);
		kvt_real_loop_release(engine->loop);
	}
	engine->outstanding -= n;
	engine->finished = NULL;
	return n;
}

/* --- Beginning commands --- */

/* The class whose turn it is, or NULL. */
static io_class *next_class(kvt_io_engine *engine)
{
	unsigned room = engine->settings.queue_depth - engine->taken;
	unsigned waiting = 0, may_go = room > engine->settings.reserved ? ~0u : room > 0;
	for (unsigned i = 0; i < KVT_PRIORITY_CLASSES; i++)
		waiting |= (unsigned)(engine->classes[i].first != NULL) << i;
	unsigned chosen =
		kvt_class_turns_next(&engine->turns, waiting, may_go, engine->settings.patience);
	return chosen < KVT_PRIORITY_CLASSES ? &engine->classes[chosen] : NULL;
}

static bool may_join(
	const kvt_io_engine *engine, const kvt_io_command *command, const kvt_raw_io *io)
{
	return io && !engine->settings.no_coalescing && !io->alone && !command->ios->alone &&
	       io->op == command->op && io->op != KVT_RAW_SYNC && io->fd == command->fd &&
	       io->slot == command->slot && io->offset == command->offset + command->length &&
	       io->length <= engine->settings.max_transfer - command->length &&
	       command->n_vectors < KVT_IO_IOVECS;
}

static void add_vector(kvt_io_command *command, void *memory, uint64_t length)
{
	struct iovec *last = command->n_vectors ? &command->all[command->n_vectors - 1] : NULL;
	if (last && (char *)last->iov_base + last->iov_len == memory)
		last->iov_len += length;
	else
		command->all[command->n_vectors++] = (struct iovec){ memory, length };
	command->length += length;
}

/* Makes a command of the first I/O of a class: of a part of it, or of it and its neighbours. */
static kvt_io_command *make_command(kvt_io_engine *engine, io_class *class)
{
	kvt_io_command *command = engine->free_commands;
	kvt_raw_io *io = class->first;
	engine->free_commands = command->next;
	command->op = io->op;
	command->fd = io->fd;
	command->slot = io->slot;
	command->offset = io->offset + io->begun;
	command->length = command->moved = 0;
	command->attempts = command->n_vectors = 0;
	command->vectors = command->all;
	command->ios = io;
	command->n_ios = 1;
	uint64_t length = MIN(io->length - io->begun, engine->settings.max_transfer);
	add_vector(command, (char *)io->memory + io->begun, length);
	io->begun += length;
	io->commands++;
	if (io->begun < io->length)
		return command;
	class->first = io->next;
	/* only whole I/Os share a command */
	while (length == io->length && may_join(engine, command, class->first)) {
		kvt_raw_io *next = class->first;
		class->first = next->next;
		add_vector(command, next->memory, next->length);
		next->begun = next->length;
		next->commands++;
		command->n_ios++;
		engine->stats.coalesced++;
	}
	return command;
}

static void give(kvt_io_engine *engine, kvt_io_command *command)
{
	engine->in_backend++;
	engine->stats.commands++;
	engine->backend->ops->prepare(engine->backend, command);
}

static void begin_commands(kvt_io_engine *engine)
{
	io_class *class;
	while ((class = next_class(engine))) {
		engine->taken++;
		engine->stats.peak_depth = MAX(engine->stats.peak_depth, engine->taken);
		give(engine, make_command(engine, class));
	}
}

/* --- Ending commands --- */

/* One command less of an I/O, which came to `status`. */
static void end_part(kvt_io_engine *engine, kvt_raw_io *io, int status)
{
	io->commands--;
	if (status != 0 && io->begun < io->length) {
		take_out(&engine->classes[io->priority], io);
		io->begun = io->length;
	}
	if (io->status == 0)
		io->status = status;
	if (io->commands == 0 && io->begun == io->length)
		finish(engine, io, status);
}

/* An error of several I/Os together is none of each: those that it is of are tried alone. */
static void separate(kvt_io_engine *engine, kvt_io_command *command)
{
	uint64_t end = 0;
	kvt_raw_io *again = NULL, *io = command->ios, *next;
	for (unsigned i = 0; i < command->n_ios; i++, io = next) {
		next = io->next;
		end += io->length;
		if (end <= command->moved || io->cancelled) {
			end_part(engine, io, end <= command->moved ? 0 : -ECANCELED);
			continue;
		}
		io->commands = 0;
		io->begun = 0;
		io->alone = true;
		io->next = again;
		again = io;
	}
	for (io = again; io; io = next) {
		next = io->next;
		prepend(&engine->classes[io->priority], io);
	}
}

static void end_command(kvt_io_engine *engine, kvt_io_command *command, int status)
{
	kvt_raw_io *io = command->ios, *next;
	engine->taken--;
	if (status != 0 && command->n_ios > 1) {
		separate(engine, command);
	} else {
		for (unsigned i = 0; i < command->n_ios; i++, io = next) {
			next = io->next;
			end_part(engine, io, status);
		}
	}
	command->next = engine->free_commands;
	engine->free_commands = command;
}

static void retry(void *arg)
{
	kvt_io_command *command = arg;
	give(command->engine, command);
}

/* Again in a while, unless that has been done often enough; false then. */
static bool try_again(kvt_io_engine *engine, kvt_io_command *command)
{
	if (command->ios->cancelled || ++command->attempts >= MAX_ATTEMPTS)
		return false;
	kvt_time delay = KVT_MICROSECOND << MIN(command->attempts, 13);
	kvt_loop_after(engine->loop, delay, retry, command);
	return true;
}

/* Drops the first `bytes` of what is left of a command. */
static void advance(kvt_io_command *command, uint64_t bytes)
{
	command->offset += bytes;
	command->length -= bytes;
	command->moved += bytes;
	while (bytes > 0) {
		struct iovec *vector = command->vectors;
		uint64_t part = MIN(bytes, vector->iov_len);
		vector->iov_base = (char *)vector->iov_base + part;
		vector->iov_len -= part;
		bytes -= part;
		if (vector->iov_len == 0) {
			command->vectors++;
			command->n_vectors--;
		}
	}
}

/* A command that moved some bytes and not all: goes on where it may, from a whole block. */
static void resume(kvt_io_engine *engine, kvt_io_command *command, uint64_t bytes)
{
	if (command->offset % BLOCK == 0)
		bytes -= bytes % BLOCK;
	engine->stats.resumed++;
	if (bytes > 0) {
		advance(command, bytes);
		command->attempts = 0;
		if (command->ios->cancelled)
			end_command(engine, command, -ECANCELED);
		else
			give(engine, command);
		return;
	}
	/* the end of the file shows as the same few bytes again and again, or none */
	if (++command->attempts < MAX_ATTEMPTS && !command->ios->cancelled)
		give(engine, command);
	else
		end_command(engine, command, command->op == KVT_RAW_READ ? -ENODATA : -EIO);
}

static void complete(kvt_io_engine *engine, kvt_io_command *command)
{
	int result = command->result;
	engine->in_backend--;
	if (engine->settings.fault)
		result = engine->settings.fault(engine->settings.fault_arg, command->op,
			command->offset, command->length, result);
	if (result == -EINTR || result == -EAGAIN) {
		engine->stats.retried++;
		if (!try_again(engine, command))
			end_command(engine, command, command->ios->cancelled ? -ECANCELED : -EIO);
	} else if (result < 0) {
		end_command(engine, command, result);
	} else if (command->op == KVT_RAW_SYNC) {
		end_command(engine, command, 0);
	} else if ((uint64_t)result >= command->length) {
		command->moved += command->length;
		end_command(engine, command, 0);
	} else if (result == 0) {
		end_command(engine, command, command->op == KVT_RAW_READ ? -ENODATA : -EIO);
	} else {
		resume(engine, command, (uint64_t)result);
	}
}

/* Ends some of the commands that have completed; returns whether there may be more. Not all at
 * once: what their done submits is to reach the device before it has run dry. At depth 32 and
 * 16 KiB that is worth a tenth to a fifth of a drive's rate. */
static bool reap(kvt_io_engine *engine, unsigned *reaped)
{
	kvt_io_command *command;
	unsigned most = MAX(engine->in_backend / BATCHES, 1);
	for (*reaped = 0; *reaped < most; (*reaped)++) {
		command = engine->backend->ops->reap(engine->backend);
		if (!command)
			return false;
		complete(engine, command);
	}
	return true;
}

/* Moves things on without waiting; returns how many I/Os have ended. */
static unsigned engine_poll(void *arg)
{
	kvt_io_engine *engine = arg;
	unsigned reaped;
	begin_commands(engine);
	engine->backend->readable |= engine->source.readable;
	engine->source.readable = false;
	bool given = engine->backend->ops->flush(engine->backend);
	bool more = reap(engine, &reaped);
	if (reaped > 0) {
		begin_commands(engine);
		given = engine->backend->ops->flush(engine->backend);
	}
	engine->source.idle = engine->in_backend == 0;
	engine->source.must_poll =
		!given || more || (engine->backend->must_poll && engine->in_backend > 0);
	return schedule_finished(engine);
}

static bool engine_arm(void *arg)
{
	kvt_io_engine *engine = arg;
	return engine->backend->ops->arm(engine->backend);
}

static void engine_wait(void *arg, int wake_fd, int64_t ns)
{
	kvt_io_engine *engine = arg;
	engine->backend->ops->wait(engine->backend, wake_fd, ns);
}

/* --- The interface --- */

void kvt_io_engine_submit(kvt_io_engine *engine, kvt_raw_io *io)
{
	g_assert(io->priority < KVT_PRIORITY_CLASSES && io->done);
	g_assert(io->op == KVT_RAW_SYNC || io->length > 0);
	if (io->op == KVT_RAW_SYNC)
		io->length = 0;
	io->sequence = ++engine->sequence;
	io->begun = 0;
	io->commands = 0;
	io->status = 0;
	io->alone = io->op == KVT_RAW_SYNC;
	io->cancelled = false;
	append(&engine->classes[io->priority], io);
	engine->outstanding++;
	kvt_real_loop_hold(engine->loop);
}

void kvt_io_engine_commit(kvt_io_engine *engine)
{
	begin_commands(engine);
	engine->backend->ops->flush(engine->backend);
}

static void end_cancelled(void *arg)
{
	schedule_finished(arg);
}

void kvt_io_engine_cancel(kvt_io_engine *engine, kvt_raw_io *io)
{
	io->cancelled = true;
	if (io->begun < io->length || (io->commands == 0 && io->status == 0)) {
		if (!take_out(&engine->classes[io->priority], io))
			return; /* it has ended, and its done is on its way */
		io->begun = io->length;
		io->status = -ECANCELED;
		if (io->commands == 0) {
			finish(engine, io, -ECANCELED);
			kvt_loop_at(engine->loop, 0, end_cancelled, engine);
			return;
		}
	}
	for (unsigned i = 0; i < engine->settings.queue_depth; i++) {
		kvt_io_command *command = &engine->commands[i];
		if (command->ios == io && io->commands > 0)
			engine->backend->ops->cancel(engine->backend, command);
	}
}

int kvt_io_engine_register_memory(kvt_io_engine *engine, void *memory, uint64_t bytes)
{
	return engine->backend->ops->register_memory(engine->backend, memory, bytes);
}

void kvt_io_engine_unregister_memory(kvt_io_engine *engine, void *memory)
{
	engine->backend->ops->unregister_memory(engine->backend, memory);
}

int kvt_io_engine_register_file(kvt_io_engine *engine, int slot, int fd)
{
	if (slot < 0 || slot >= KVT_IO_SLOTS)
		return -EINVAL;
	return engine->backend->ops->register_file(engine->backend, slot, fd);
}

kvt_io_method kvt_io_engine_method(const kvt_io_engine *engine)
{
	return engine->settings.method;
}

const char *kvt_io_engine_notice(const kvt_io_engine *engine)
{
	return engine->notice ? engine->notice : engine->backend->notice;
}

void kvt_io_engine_set_fault(kvt_io_engine *engine, kvt_io_fault fault, void *arg)
{
	engine->settings.fault = fault;
	engine->settings.fault_arg = arg;
}

kvt_io_stats kvt_io_engine_stats(const kvt_io_engine *engine)
{
	return engine->stats;
}

static bool open_backend(kvt_io_engine *engine, GError **error)
{
	kvt_io_settings *s = &engine->settings;
	if (s->method != KVT_IO_THREADS) {
		g_autoptr(GError) reason = NULL;
		engine->backend = kvt_uring_backend_new(s, &engine->stats, &reason);
		if (!engine->backend && s->method == KVT_IO_URING) {
			g_propagate_error(error, g_steal_pointer(&reason));
			return false;
		}
		if (!engine->backend)
			engine->notice = g_strdup_printf("%s: %u threads with pread and pwrite "
							 "instead",
				reason->message, s->threads);
		s->method = engine->backend ? KVT_IO_URING : KVT_IO_THREADS;
	}
	if (!engine->backend)
		engine->backend = kvt_thread_backend_new(s, &engine->stats, error);
	return engine->backend != NULL;
}

kvt_io_engine *kvt_io_engine_new(kvt_loop *loop, const kvt_io_settings *settings, GError **error)
{
	kvt_io_engine *engine = g_new0(kvt_io_engine, 1);
	kvt_io_settings *s = &engine->settings;
	if (settings)
		*s = *settings;
	s->queue_depth = s->queue_depth ? MIN(s->queue_depth, 4096) : 64;
	s->max_transfer = CLAMP(s->max_transfer ? s->max_transfer : 1 << 20, BLOCK, 1 << 30);
	s->max_transfer -= s->max_transfer % BLOCK;
	s->patience = s->patience ? s->patience : 16;
	s->reserved = MIN(s->reserved, s->queue_depth - 1);
	s->threads = s->threads ? MIN(s->threads, 64) : 4;
	engine->loop = loop;
	if (!open_backend(engine, error)) {
		g_free(engine);
		return NULL;
	}
	engine->commands = g_new0(kvt_io_command, s->queue_depth);
	for (unsigned i = s->queue_depth; i-- > 0;) {
		engine->commands[i].engine = engine;
		engine->commands[i].next = engine->free_commands;
		engine->free_commands = &engine->commands[i];
	}
	engine->source = (kvt_real_source){ .poll = engine_poll,
		.wait_fd = engine->backend->wait_fd,
		.arm = engine->backend->ops->arm ? engine_arm : NULL,
		.wait = engine_wait,
		.idle = true,
		.arg = engine };
	kvt_real_loop_add_source(loop, &engine->source);
	return engine;
}

void kvt_io_engine_free(kvt_io_engine *engine)
{
	if (!engine)
		return;
	kvt_io_backend *backend = engine->backend;
	backend->ops->flush(backend);
	while (engine->in_backend > 0) {
		if (backend->ops->reap(backend))
			engine->in_backend--;
		else
			backend->ops->wait(backend, -1, -1);
	}
	for (; engine->outstanding > 0; engine->outstanding--)
		kvt_real_loop_release(engine->loop);
	kvt_real_loop_remove_source(engine->loop, &engine->source);
	backend->ops->free(backend);
	g_free(engine->notice);
	g_free(engine->commands);
	g_free(engine);
}
