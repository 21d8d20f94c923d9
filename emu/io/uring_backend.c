/*
 * uring_backend.c: commands of the engine on io_uring: its set-up by what the kernel allows,
 * registered files and memory, submission in batches. It knows nothing of queues and I/Os.
 *
 * With iopoll there are two rings. A polled one does nothing but transfers, and of these only such
 * as a drive takes whole and at once: others the kernel may try again for ever. So they are asked
 * for with RWF_NOWAIT, and what is refused goes to the plain ring, where all else is done too.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emu/io/io_backend.h"
#include "sim/base/error.h"

enum { MAX_BUFFERS = 64 };

/* One registered buffer may not be larger. */
#define BUFFER_BYTES ((uint64_t)1 << 30)

typedef struct ring_buffer {
	char *begin; /* NULL: free */
	uint64_t bytes;
	char *memory; /* what it was registered with */
} ring_buffer;

typedef struct command_ring {
	struct io_uring ring;
	bool enabled;  /* the ring belongs to a thread from its first use on */
	bool task_run; /* completions are seen when asked for */
	bool polled;
	bool has_buffers;
	unsigned in_flight, prepared; /* not yet submitted */
} command_ring;

typedef struct uring_backend {
	kvt_io_backend base;
	command_ring rings[2]; /* the plain one, and the polled one */
	unsigned n_rings;
	unsigned next_ring; /* to be reaped */
	bool polling;       /* the polled one takes commands */
	bool armed;         /* the eventfd tells */
	bool watching;      /* the plain ring polls the loop's own descriptor */
	ring_buffer buffers[MAX_BUFFERS];
	unsigned last_buffer; /* that was found */
	unsigned n_slots;
	bool slots[KVT_IO_SLOTS]; /* that hold a file */
} uring_backend;

static void enable(command_ring *r)
{
	if (r->enabled)
		return;
	/* liburing 2.3 declares a function for it and lacks it */
	long error = syscall(
		__NR_io_uring_register, r->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	g_assert(error == 0);
	r->enabled = true;
}

/* Index of the buffer that holds all of the vector, or -1. */
static int find_buffer(uring_backend *u, const struct iovec *vector)
{
	if (!u->rings[0].has_buffers)
		return -1;
	const char *begin = vector->iov_base;
	for (unsigned i = 0; i < MAX_BUFFERS; i++) {
		unsigned at = (u->last_buffer + i) % MAX_BUFFERS;
		const ring_buffer *b = &u->buffers[at];
		if (b->begin && begin >= b->begin &&
			begin + vector->iov_len <= b->begin + b->bytes) {
			u->last_buffer = at;
			return (int)at;
		}
	}
	return -1;
}

static void submit(uring_backend *u, command_ring *r, bool look)
{
	enable(r);
	int n = look ? io_uring_submit_and_get_events(&r->ring) : io_uring_submit(&r->ring);
	r->prepared -= n > 0 ? MIN((unsigned)n, r->prepared) : 0;
	u->base.stats->calls++;
}

static struct io_uring_sqe *take_sqe(uring_backend *u, command_ring *r)
{
	struct io_uring_sqe *sqe;
	while (!(sqe = io_uring_get_sqe(&r->ring)))
		submit(u, r, false);
	r->prepared++;
	return sqe;
}

static void prepare_transfer(uring_backend *u, struct io_uring_sqe *sqe, const kvt_io_command *c)
{
	const struct iovec *v = c->vectors;
	int buffer = c->n_vectors == 1 ? find_buffer(u, v) : -1;
	unsigned bytes = (unsigned)v->iov_len;
	if (buffer >= 0 && c->op == KVT_RAW_READ)
		io_uring_prep_read_fixed(sqe, c->fd, v->iov_base, bytes, c->offset, buffer);
	else if (buffer >= 0)
		io_uring_prep_write_fixed(sqe, c->fd, v->iov_base, bytes, c->offset, buffer);
	else if (c->n_vectors == 1 && c->op == KVT_RAW_READ)
		io_uring_prep_read(sqe, c->fd, v->iov_base, bytes, c->offset);
	else if (c->n_vectors == 1)
		io_uring_prep_write(sqe, c->fd, v->iov_base, bytes, c->offset);
	else if (c->op == KVT_RAW_READ)
		io_uring_prep_readv(sqe, c->fd, v, c->n_vectors, c->offset);
	else
		io_uring_prep_writev(sqe, c->fd, v, c->n_vectors, c->offset);
	u->base.stats->fixed += buffer >= 0;
}

static void prepare_on(uring_backend *u, command_ring *r, kvt_io_command *command)
{
	struct io_uring_sqe *sqe = take_sqe(u, r);
	if (command->op == KVT_RAW_SYNC)
		io_uring_prep_fsync(sqe, command->fd, IORING_FSYNC_DATASYNC);
	else
		prepare_transfer(u, sqe, command);
	if (r->polled)
		sqe->rw_flags = RWF_NOWAIT;
	if (command->slot >= 0 && (unsigned)command->slot < u->n_slots && u->slots[command->slot]) {
		sqe->fd = command->slot;
		sqe->flags |= IOSQE_FIXED_FILE;
		u->base.stats->fixed_file++;
	}
	io_uring_sqe_set_data(sqe, command);
	r->in_flight++;
}

static void uring_prepare(kvt_io_backend *base, kvt_io_command *command)
{
	uring_backend *u = (uring_backend *)base;
	bool polled = u->polling && command->op != KVT_RAW_SYNC;
	prepare_on(u, &u->rings[polled], command);
	base->stats->polled += polled;
}

static bool task_run_pending(const command_ring *r)
{
	return IO_URING_READ_ONCE(*r->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static void flush_ring(uring_backend *u, command_ring *r)
{
	if (r->prepared > 0) {
		submit(u, r, r->task_run || r->polled);
	} else if (r->in_flight > 0 && (r->polled || task_run_pending(r))) {
		io_uring_get_events(&r->ring);
		u->base.stats->calls++;
	}
}

static bool uring_flush(kvt_io_backend *base)
{
	uring_backend *u = (uring_backend *)base;
	uint64_t count;
	if (base->readable && read(base->wait_fd, &count, sizeof(count)) < 0)
		g_assert(errno == EAGAIN || errno == EINTR);
	base->readable = false;
	if (u->armed)
		io_uring_cq_eventfd_toggle(&u->rings[0].ring, false);
	u->armed = false;
	bool given = true;
	for (unsigned i = 0; i < u->n_rings; i++) {
		flush_ring(u, &u->rings[i]);
		given &= u->rings[i].prepared == 0;
	}
	base->must_poll = u->rings[1].in_flight > 0;
	return given;
}

static void set_notice(uring_backend *u, const char *refused, int error)
{
	g_free(u->base.notice);
	u->base.notice = g_strdup_printf(
		"io_uring with %s (%s): goes on without", refused, g_strerror(error));
}

/* A polled command that was not carried out is given to the plain ring; false: it was. */
static bool give_again(uring_backend *u, kvt_io_command *command, int result)
{
	if (result != -EAGAIN && result != -EOPNOTSUPP && result != -EINVAL)
		return false;
	if (result == -EOPNOTSUPP && u->polling) {
		u->polling = false;
		set_notice(u, "iopoll: refused by the drive or its file system", -result);
	}
	prepare_on(u, &u->rings[0], command);
	u->base.stats->unpolled++;
	u->base.must_poll = true;
	return true;
}

static kvt_io_command *reap_ring(uring_backend *u, command_ring *r)
{
	struct io_uring_cqe *cqe;
	while (io_uring_peek_cqe(&r->ring, &cqe) == 0) {
		kvt_io_command *command = io_uring_cqe_get_data(cqe);
		int result = cqe->res;
		io_uring_cqe_seen(&r->ring, cqe);
		if ((void *)command == &u->watching)
			u->watching = false;
		/* of a cancellation: what it came to shows in what it was to cancel */
		if (!command || (void *)command == &u->watching)
			continue;
		r->in_flight--;
		if (r->polled && give_again(u, command, result))
			continue;
		command->result = result;
		return command;
	}
	return NULL;
}

static kvt_io_command *uring_reap(kvt_io_backend *base)
{
	uring_backend *u = (uring_backend *)base;
	kvt_io_command *command = NULL;
	for (unsigned i = 0; i < u->n_rings && !command; i++) {
		command = reap_ring(u, &u->rings[u->next_ring]);
		u->next_ring = (u->next_ring + 1) % u->n_rings;
	}
	return command;
}

/* Lets the ring tell when the loop has been posted to. */
static void watch(uring_backend *u, int wake_fd)
{
	if (u->watching || wake_fd < 0)
		return;
	struct io_uring_sqe *sqe = take_sqe(u, &u->rings[0]);
	io_uring_prep_poll_add(sqe, wake_fd, POLLIN);
	io_uring_sqe_set_data(sqe, &u->watching);
	u->watching = true;
}

static void uring_wait(kvt_io_backend *base, int wake_fd, int64_t ns)
{
	uring_backend *u = (uring_backend *)base;
	command_ring *r = &u->rings[0];
	struct io_uring_cqe *cqe;
	struct __kernel_timespec timeout = { ns / 1000000000, ns % 1000000000 };
	/* of what is polled nothing tells */
	if (u->rings[1].in_flight > 0) {
		uring_flush(base);
		return;
	}
	enable(r);
	watch(u, wake_fd);
	unsigned before = io_uring_sq_ready(&r->ring);
	io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1, ns < 0 ? NULL : &timeout, NULL);
	unsigned submitted = before - MIN(io_uring_sq_ready(&r->ring), before);
	r->prepared -= MIN(submitted, r->prepared);
	base->stats->calls++;
}

static bool uring_arm(kvt_io_backend *base)
{
	uring_backend *u = (uring_backend *)base;
	io_uring_cq_eventfd_toggle(&u->rings[0].ring, true);
	u->armed = true;
	atomic_thread_fence(memory_order_seq_cst);
	return io_uring_cq_ready(&u->rings[0].ring) > 0 || task_run_pending(&u->rings[0]);
}

/* What is polled for knows no cancellation: it is soon over. */
static void uring_cancel(kvt_io_backend *base, kvt_io_command *command)
{
	uring_backend *u = (uring_backend *)base;
	struct io_uring_sqe *sqe = take_sqe(u, &u->rings[0]);
	io_uring_prep_cancel(sqe, command, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

/* Puts memory at an index of the rings' tables, or takes it out: of 0 bytes. */
static int update_buffer(uring_backend *u, unsigned at, const struct iovec *memory)
{
	int status = 0;
	for (unsigned i = 0; i < u->n_rings && status >= 0; i++) {
		command_ring *r = &u->rings[i];
		const __u64 tag = 0;
		if (!r->has_buffers)
			status = io_uring_register_buffers_sparse(&r->ring, MAX_BUFFERS);
		r->has_buffers |= status >= 0;
		if (status >= 0)
			status =
				io_uring_register_buffers_update_tag(&r->ring, at, memory, &tag, 1);
	}
	return MIN(status, 0);
}

static void free_buffer(uring_backend *u, unsigned at)
{
	const struct iovec none = { NULL, 0 };
	update_buffer(u, at, &none);
	u->buffers[at] = (ring_buffer){ 0 };
}

/* Takes out what was registered with `memory`. */
static void uring_unregister_memory(kvt_io_backend *base, void *memory)
{
	uring_backend *u = (uring_backend *)base;
	for (unsigned i = 0; i < MAX_BUFFERS; i++) {
		if (u->buffers[i].begin && u->buffers[i].memory == memory)
			free_buffer(u, i);
	}
}

static int uring_register_memory(kvt_io_backend *base, void *memory, uint64_t bytes)
{
	uring_backend *u = (uring_backend *)base;
	uint64_t done = 0;
	for (unsigned i = 0; i < MAX_BUFFERS && done < bytes; i++) {
		const struct iovec part = { (char *)memory + done,
			MIN(bytes - done, BUFFER_BYTES) };
		if (u->buffers[i].begin)
			continue;
		int error = update_buffer(u, i, &part);
		if (error < 0) {
			free_buffer(u, i);
			uring_unregister_memory(base, memory);
			return error;
		}
		u->buffers[i] = (ring_buffer){ part.iov_base, part.iov_len, memory };
		done += part.iov_len;
	}
	if (done == bytes)
		return 0;
	uring_unregister_memory(base, memory);
	return -ENOSPC;
}

static int uring_register_file(kvt_io_backend *base, int slot, int fd)
{
	uring_backend *u = (uring_backend *)base;
	if ((unsigned)slot >= u->n_slots)
		return -ENOSPC;
	if (fd < 0 && !u->slots[slot])
		return 0;
	/* what was prepared for the file that goes must not meet the next one */
	if (u->slots[slot])
		uring_flush(base);
	int none = -1, status = 0;
	for (unsigned i = 0; i < u->n_rings && status >= 0; i++)
		status = io_uring_register_files_update(
			&u->rings[i].ring, (unsigned)slot, fd >= 0 ? &fd : &none, 1);
	u->slots[slot] = status == 1 && fd >= 0;
	return MIN(status, 0);
}

static void uring_free(kvt_io_backend *base)
{
	uring_backend *u = (uring_backend *)base;
	for (unsigned i = 0; i < u->n_rings; i++)
		io_uring_queue_exit(&u->rings[i].ring);
	close(base->wait_fd);
	g_free(base->notice);
	g_free(u);
}

static const kvt_io_backend_ops uring_ops = {
	.prepare = uring_prepare,
	.flush = uring_flush,
	.reap = uring_reap,
	.wait = uring_wait,
	.arm = uring_arm,
	.cancel = uring_cancel,
	.register_memory = uring_register_memory,
	.unregister_memory = uring_unregister_memory,
	.register_file = uring_register_file,
	.free = uring_free,
};

/* Sets a ring up with the best of the flags that the kernel takes; 0 or a negative errno. */
static int set_up(command_ring *r, unsigned queue_depth, bool sqpoll)
{
	const unsigned task_run[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	unsigned wanted = IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP;
	wanted |= sqpoll ? IORING_SETUP_SQPOLL : 0;
	wanted |= r->polled ? IORING_SETUP_IOPOLL : 0;
	int error = -EINVAL;
	/* a kernel thread that submits has no task work of ours to put off */
	for (unsigned i = sqpoll ? 2 : 0; error == -EINVAL && i < 3; i++) {
		struct io_uring_params params = { .flags = wanted | task_run[i],
			.sq_thread_idle = sqpoll ? 50 : 0 };
		r->task_run = params.flags & IORING_SETUP_TASKRUN_FLAG;
		error = io_uring_queue_init_params(queue_depth, &r->ring, &params);
	}
	return error;
}

/* The plain ring, and how it tells; 0 or a negative errno. */
static int set_up_plain(uring_backend *u, const kvt_io_settings *settings)
{
	command_ring *r = &u->rings[0];
	/* one kernel thread at most: beside a polled ring, where most commands are */
	bool sqpoll = settings->sqpoll && !settings->iopoll;
	int failed = set_up(r, settings->queue_depth, sqpoll);
	if (failed < 0 && sqpoll) {
		set_notice(u, "sqpoll: refused by the system", -failed);
		failed = set_up(r, settings->queue_depth, false);
	}
	if (failed < 0)
		return failed;
	u->base.wait_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	/* a ring that puts task work off does not wake those who poll its descriptor */
	failed =
		u->base.wait_fd < 0 ? -errno : io_uring_register_eventfd(&r->ring, u->base.wait_fd);
	if (failed < 0)
		io_uring_queue_exit(&r->ring);
	if (failed < 0 && u->base.wait_fd >= 0)
		close(u->base.wait_fd);
	return failed;
}

static void add_polled_ring(uring_backend *u, const kvt_io_settings *settings)
{
	command_ring *r = &u->rings[1];
	r->polled = true;
	int failed = set_up(r, settings->queue_depth, settings->sqpoll);
	if (failed < 0) {
		set_notice(u, "iopoll: refused by the system", -failed);
		return;
	}
	u->n_rings = 2;
	u->polling = true;
}

/* The tables of files; without them there are no slots. */
static void make_slots(uring_backend *u)
{
	struct rlimit files;
	unsigned n_slots = getrlimit(RLIMIT_NOFILE, &files) == 0
				   ? (unsigned)MIN(files.rlim_cur, KVT_IO_SLOTS)
				   : 1024;
	bool made = true;
	for (unsigned i = 0; i < u->n_rings; i++)
		made &= io_uring_register_files_sparse(&u->rings[i].ring, n_slots) == 0;
	u->n_slots = made ? n_slots : 0;
}

kvt_io_backend *kvt_uring_backend_new(
	const kvt_io_settings *settings, kvt_io_stats *stats, GError **error)
{
	uring_backend *u = g_new0(uring_backend, 1);
	int failed = set_up_plain(u, settings);
	if (failed < 0) {
		kvt_error_failed(
			error, "io_uring: refused by the system (%s)", g_strerror(-failed));
		g_free(u->base.notice);
		g_free(u);
		return NULL;
	}
	io_uring_cq_eventfd_toggle(&u->rings[0].ring, false);
	u->base.ops = &uring_ops;
	u->base.stats = stats;
	u->n_rings = 1;
	if (settings->iopoll)
		add_polled_ring(u, settings);
	make_slots(u);
	return &u->base;
}
