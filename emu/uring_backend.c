/*
 * uring_backend.c: commands of the engine on one io_uring: its set-up by what the kernel allows,
 * registered files and memory, submission in batches. It knows nothing of queues and I/Os.
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

#include "emu/io_backend.h"
#include "sim/base/error.h"

enum { MAX_BUFFERS = 64 };

/* One registered buffer may not be larger. */
#define BUFFER_BYTES ((uint64_t)1 << 30)

typedef struct ring_buffer {
	char *begin; /* NULL: free */
	uint64_t bytes;
	char *memory; /* what it was registered with */
} ring_buffer;

typedef struct uring_backend {
	kvt_io_backend base;
	struct io_uring ring;
	bool enabled;  /* the ring belongs to a thread from its first use on */
	bool task_run; /* completions are seen when asked for */
	bool iopoll;
	bool armed;                   /* the eventfd tells */
	bool watching;                /* the ring polls the loop's own descriptor */
	unsigned in_flight, prepared; /* not yet submitted */
	bool has_buffers;
	ring_buffer buffers[MAX_BUFFERS];
	unsigned last_buffer; /* that was found */
	unsigned n_slots;
	bool slots[KVT_IO_SLOTS]; /* that hold a file */
} uring_backend;

static void enable(uring_backend *u)
{
	if (u->enabled)
		return;
	/* liburing 2.3 declares a function for it and lacks it */
	long error = syscall(
		__NR_io_uring_register, u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	g_assert(error == 0);
	u->enabled = true;
}

/* Index of the buffer that holds all of the vector, or -1. */
static int find_buffer(uring_backend *u, const struct iovec *vector)
{
	if (!u->has_buffers)
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

static void submit(uring_backend *u, bool look)
{
	enable(u);
	int n = look ? io_uring_submit_and_get_events(&u->ring) : io_uring_submit(&u->ring);
	u->prepared -= n > 0 ? MIN((unsigned)n, u->prepared) : 0;
	u->base.stats->calls++;
}

static struct io_uring_sqe *take_sqe(uring_backend *u)
{
	struct io_uring_sqe *sqe;
	while (!(sqe = io_uring_get_sqe(&u->ring)))
		submit(u, false);
	u->prepared++;
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

static void uring_prepare(kvt_io_backend *base, kvt_io_command *command)
{
	uring_backend *u = (uring_backend *)base;
	struct io_uring_sqe *sqe = take_sqe(u);
	if (command->op == KVT_RAW_SYNC)
		io_uring_prep_fsync(sqe, command->fd, IORING_FSYNC_DATASYNC);
	else
		prepare_transfer(u, sqe, command);
	if (command->slot >= 0 && (unsigned)command->slot < u->n_slots && u->slots[command->slot]) {
		sqe->fd = command->slot;
		sqe->flags |= IOSQE_FIXED_FILE;
		base->stats->fixed_file++;
	}
	io_uring_sqe_set_data(sqe, command);
	u->in_flight++;
}

static bool task_run_pending(const uring_backend *u)
{
	return IO_URING_READ_ONCE(*u->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static bool uring_flush(kvt_io_backend *base)
{
	uring_backend *u = (uring_backend *)base;
	uint64_t count;
	if (base->readable && read(base->wait_fd, &count, sizeof(count)) < 0)
		g_assert(errno == EAGAIN || errno == EINTR);
	base->readable = false;
	if (u->armed)
		io_uring_cq_eventfd_toggle(&u->ring, false);
	u->armed = false;
	if (u->prepared > 0) {
		submit(u, u->task_run || u->iopoll);
	} else if (u->in_flight > 0 && (u->iopoll || task_run_pending(u))) {
		io_uring_get_events(&u->ring);
		base->stats->calls++;
	}
	return u->prepared == 0;
}

static kvt_io_command *uring_reap(kvt_io_backend *base)
{
	uring_backend *u = (uring_backend *)base;
	struct io_uring_cqe *cqe;
	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		kvt_io_command *command = io_uring_cqe_get_data(cqe);
		int result = cqe->res;
		io_uring_cqe_seen(&u->ring, cqe);
		if ((void *)command == &u->watching)
			u->watching = false;
		/* of a cancellation: what it came to shows in what it was to cancel */
		if (!command || (void *)command == &u->watching)
			continue;
		u->in_flight--;
		command->result = result;
		return command;
	}
	return NULL;
}

/* Lets the ring tell when the loop has been posted to. */
static void watch(uring_backend *u, int wake_fd)
{
	if (u->watching || wake_fd < 0)
		return;
	struct io_uring_sqe *sqe = take_sqe(u);
	io_uring_prep_poll_add(sqe, wake_fd, POLLIN);
	io_uring_sqe_set_data(sqe, &u->watching);
	u->watching = true;
}

static void uring_wait(kvt_io_backend *base, int wake_fd, int64_t ns)
{
	uring_backend *u = (uring_backend *)base;
	struct io_uring_cqe *cqe;
	struct __kernel_timespec timeout = { ns / 1000000000, ns % 1000000000 };
	enable(u);
	watch(u, wake_fd);
	unsigned before = io_uring_sq_ready(&u->ring);
	io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, ns < 0 ? NULL : &timeout, NULL);
	unsigned submitted = before - MIN(io_uring_sq_ready(&u->ring), before);
	u->prepared -= MIN(submitted, u->prepared);
	base->stats->calls++;
}

static bool uring_arm(kvt_io_backend *base)
{
	uring_backend *u = (uring_backend *)base;
	io_uring_cq_eventfd_toggle(&u->ring, true);
	u->armed = true;
	atomic_thread_fence(memory_order_seq_cst);
	return io_uring_cq_ready(&u->ring) > 0 || task_run_pending(u);
}

static void uring_cancel(kvt_io_backend *base, kvt_io_command *command)
{
	struct io_uring_sqe *sqe = take_sqe((uring_backend *)base);
	io_uring_prep_cancel(sqe, command, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

/* Takes out what was registered with `memory`. */
static void uring_unregister_memory(kvt_io_backend *base, void *memory)
{
	uring_backend *u = (uring_backend *)base;
	for (unsigned i = 0; i < MAX_BUFFERS; i++) {
		const struct iovec none = { NULL, 0 };
		const __u64 tag = 0;
		if (!u->buffers[i].begin || u->buffers[i].memory != memory)
			continue;
		io_uring_register_buffers_update_tag(&u->ring, i, &none, &tag, 1);
		u->buffers[i] = (ring_buffer){ 0 };
	}
}

static int uring_register_memory(kvt_io_backend *base, void *memory, uint64_t bytes)
{
	uring_backend *u = (uring_backend *)base;
	if (!u->has_buffers) {
		int error = io_uring_register_buffers_sparse(&u->ring, MAX_BUFFERS);
		if (error < 0)
			return error;
		u->has_buffers = true;
	}
	uint64_t done = 0;
	for (unsigned i = 0; i < MAX_BUFFERS && done < bytes; i++) {
		const struct iovec part = { (char *)memory + done,
			MIN(bytes - done, BUFFER_BYTES) };
		const __u64 tag = 0;
		if (u->buffers[i].begin)
			continue;
		int error = io_uring_register_buffers_update_tag(&u->ring, i, &part, &tag, 1);
		if (error < 0) {
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
	if (u->slots[slot] && u->prepared > 0)
		uring_flush(base);
	int none = -1;
	int error =
		io_uring_register_files_update(&u->ring, (unsigned)slot, fd >= 0 ? &fd : &none, 1);
	u->slots[slot] = error == 1 && fd >= 0;
	return error < 0 ? error : 0;
}

static void uring_free(kvt_io_backend *base)
{
	uring_backend *u = (uring_backend *)base;
	io_uring_queue_exit(&u->ring);
	close(base->wait_fd);
	g_free(base->notice);
	g_free(u);
}

int kvt_io_try_polling(int fd)
{
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	void *block = g_aligned_alloc(1, 4096, 4096);
	int status = io_uring_queue_init(1, &ring, IORING_SETUP_IOPOLL);
	if (status == 0) {
		io_uring_prep_read(io_uring_get_sqe(&ring), fd, block, 4096, 0);
		status = io_uring_submit(&ring);
		if (status == 1)
			status = io_uring_wait_cqe(&ring, &cqe);
		if (status == 0)
			status = MIN(cqe->res, 0);
		io_uring_queue_exit(&ring);
	}
	g_aligned_free(block);
	return status;
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

/* Sets the ring up with the best of the flags that the kernel takes; 0 or a negative errno. */
static int set_up(uring_backend *u, const kvt_io_settings *settings, unsigned *flags)
{
	const unsigned task_run[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	unsigned wanted = IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP;
	wanted |= settings->sqpoll ? IORING_SETUP_SQPOLL : 0;
	wanted |= settings->iopoll ? IORING_SETUP_IOPOLL : 0;
	int error = -EINVAL;
	/* a kernel thread that submits has no task work of ours to put off */
	for (unsigned i = settings->sqpoll ? 2 : 0; error == -EINVAL && i < 3; i++) {
		struct io_uring_params params = { .flags = wanted | task_run[i],
			.sq_thread_idle = settings->sqpoll ? 50 : 0 };
		*flags = params.flags;
		error = io_uring_queue_init_params(settings->queue_depth, &u->ring, &params);
	}
	return error;
}

kvt_io_backend *kvt_uring_backend_new(
	const kvt_io_settings *settings, kvt_io_stats *stats, bool *refused, GError **error)
{
	uring_backend *u = g_new0(uring_backend, 1);
	unsigned flags = 0;
	int failed = set_up(u, settings, &flags);
	if (failed == 0) {
		u->base.wait_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		/* a ring that puts task work off does not wake those who poll its descriptor */
		failed = u->base.wait_fd < 0 ? -errno
					     : io_uring_register_eventfd(&u->ring, u->base.wait_fd);
		if (failed < 0)
			io_uring_queue_exit(&u->ring);
		if (failed < 0 && u->base.wait_fd >= 0)
			close(u->base.wait_fd);
	}
	if (failed < 0) {
		*refused = !settings->sqpoll && !settings->iopoll;
		kvt_error_failed(error, "io_uring%s%s: refused by the system (%s)",
			settings->sqpoll ? " with sqpoll" : "",
			settings->iopoll ? " with iopoll" : "", g_strerror(-failed));
		g_free(u);
		return NULL;
	}
	io_uring_cq_eventfd_toggle(&u->ring, false);
	u->base.ops = &uring_ops;
	u->base.stats = stats;
	u->iopoll = settings->iopoll;
	u->base.must_poll = settings->iopoll;
	u->task_run = flags & IORING_SETUP_TASKRUN_FLAG;
	struct rlimit files;
	unsigned n_slots = getrlimit(RLIMIT_NOFILE, &files) == 0
				   ? (unsigned)MIN(files.rlim_cur, KVT_IO_SLOTS)
				   : 1024;
	if (io_uring_register_files_sparse(&u->ring, n_slots) == 0)
		u->n_slots = n_slots;
	return &u->base;
}
