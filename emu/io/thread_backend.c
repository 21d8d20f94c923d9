/*
 * thread_backend.c: commands of the engine by a few threads with preadv, pwritev and fdatasync, for
 * systems that refuse io_uring. The order is that of preparation, as far as threads keep it.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "emu/io/io_backend.h"
#include "sim/base/error.h"

typedef struct command_list {
	kvt_io_command *first, *last;
} command_list;

typedef struct thread_backend {
	kvt_io_backend base;
	command_list prepared, reaped; /* the engine's thread's */
	/* Not GLib's lock, which the thread sanitizer does not know. */
	pthread_mutex_t lock;
	pthread_cond_t work;
	command_list waiting, completed;
	bool stopping;
	pthread_t *threads;
	unsigned n_threads;
} thread_backend;

static void add(command_list *list, kvt_io_command *command)
{
	command->next = NULL;
	if (list->first)
		list->last->next = command;
	else
		list->first = command;
	list->last = command;
}

static kvt_io_command *take(command_list *list)
{
	kvt_io_command *command = list->first;
	if (command)
		list->first = command->next;
	return command;
}

static int carry_out(const kvt_io_command *c)
{
	ssize_t n;
	if (c->op == KVT_RAW_READ)
		n = preadv(c->fd, c->vectors, (int)c->n_vectors, (off_t)c->offset);
	else if (c->op == KVT_RAW_WRITE)
		n = pwritev(c->fd, c->vectors, (int)c->n_vectors, (off_t)c->offset);
	else
		n = fdatasync(c->fd);
	return n < 0 ? -errno : (int)n;
}

static void *work(void *arg)
{
	thread_backend *t = arg;
	const uint64_t one = 1;
	pthread_mutex_lock(&t->lock);
	for (;;) {
		kvt_io_command *command = take(&t->waiting);
		if (!command && t->stopping)
			break;
		if (!command) {
			pthread_cond_wait(&t->work, &t->lock);
			continue;
		}
		pthread_mutex_unlock(&t->lock);
		command->result = carry_out(command);
		pthread_mutex_lock(&t->lock);
		bool first = !t->completed.first;
		add(&t->completed, command);
		if (first && write(t->base.wait_fd, &one, sizeof(one)) < 0)
			g_assert(errno == EAGAIN);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static void thread_prepare(kvt_io_backend *base, kvt_io_command *command)
{
	add(&((thread_backend *)base)->prepared, command);
}

static bool thread_flush(kvt_io_backend *base)
{
	thread_backend *t = (thread_backend *)base;
	kvt_io_command *command;
	unsigned n = 0;
	if (!t->prepared.first)
		return true;
	pthread_mutex_lock(&t->lock);
	for (; (command = take(&t->prepared)); n++)
		add(&t->waiting, command);
	pthread_mutex_unlock(&t->lock);
	for (; n > 0; n--)
		pthread_cond_signal(&t->work);
	base->stats->calls++;
	return true;
}

static kvt_io_command *thread_reap(kvt_io_backend *base)
{
	thread_backend *t = (thread_backend *)base;
	uint64_t count;
	if (!t->reaped.first) {
		pthread_mutex_lock(&t->lock);
		t->reaped = t->completed;
		t->completed = (command_list){ 0 };
		if (t->reaped.first && read(base->wait_fd, &count, sizeof(count)) < 0)
			g_assert(errno == EAGAIN || errno == EINTR);
		pthread_mutex_unlock(&t->lock);
	}
	return take(&t->reaped);
}

static void thread_wait(kvt_io_backend *base, int wake_fd, int64_t ns)
{
	struct pollfd fds[] = { { .fd = base->wait_fd, .events = POLLIN },
		{ .fd = wake_fd, .events = POLLIN } };
	struct timespec timeout = { ns / 1000000000, ns % 1000000000 };
	thread_flush(base);
	ppoll(fds, wake_fd >= 0 ? 2 : 1, ns < 0 ? NULL : &timeout, NULL);
}

static void thread_cancel(kvt_io_backend *base, kvt_io_command *command)
{
	thread_backend *t = (thread_backend *)base;
	const uint64_t one = 1;
	pthread_mutex_lock(&t->lock);
	kvt_io_command *previous = NULL, *at = t->waiting.first;
	while (at && at != command) {
		previous = at;
		at = at->next;
	}
	if (at) {
		if (previous)
			previous->next = at->next;
		else
			t->waiting.first = at->next;
		if (t->waiting.last == at)
			t->waiting.last = previous;
		at->result = -ECANCELED;
		bool first = !t->completed.first;
		add(&t->completed, at);
		if (first && write(base->wait_fd, &one, sizeof(one)) < 0)
			g_assert(errno == EAGAIN);
	}
	pthread_mutex_unlock(&t->lock);
}

static int thread_register_memory(kvt_io_backend *base, void *memory, uint64_t bytes)
{
	return -EOPNOTSUPP;
}

static void thread_unregister_memory(kvt_io_backend *base, void *memory)
{
}

static int thread_register_file(kvt_io_backend *base, int slot, int fd)
{
	return fd < 0 ? 0 : -EOPNOTSUPP;
}

static void thread_free(kvt_io_backend *base)
{
	thread_backend *t = (thread_backend *)base;
	pthread_mutex_lock(&t->lock);
	t->stopping = true;
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->lock);
	for (unsigned i = 0; i < t->n_threads; i++)
		pthread_join(t->threads[i], NULL);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
	close(base->wait_fd);
	g_free(base->notice);
	g_free(t->threads);
	g_free(t);
}

static const kvt_io_backend_ops thread_ops = {
	.prepare = thread_prepare,
	.flush = thread_flush,
	.reap = thread_reap,
	.wait = thread_wait,
	.cancel = thread_cancel,
	.register_memory = thread_register_memory,
	.unregister_memory = thread_unregister_memory,
	.register_file = thread_register_file,
	.free = thread_free,
};

kvt_io_backend *kvt_thread_backend_new(
	const kvt_io_settings *settings, kvt_io_stats *stats, GError **error)
{
	int wait_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wait_fd < 0) {
		kvt_error_failed(error, "eventfd: %s", g_strerror(errno));
		return NULL;
	}
	thread_backend *t = g_new0(thread_backend, 1);
	t->base.ops = &thread_ops;
	t->base.stats = stats;
	t->base.wait_fd = wait_fd;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	t->threads = g_new0(pthread_t, settings->threads);
	for (; t->n_threads < settings->threads; t->n_threads++) {
		int failed = pthread_create(&t->threads[t->n_threads], NULL, work, t);
		if (failed != 0) {
			kvt_error_failed(error, "thread %u of %u: %s", t->n_threads + 1,
				settings->threads, g_strerror(failed));
			thread_free(&t->base);
			return NULL;
		}
	}
	return &t->base;
}
