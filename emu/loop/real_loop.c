/*
 * real_loop.c: batches of due callbacks, looks at sources and posts between them, and sleep in
 * ppoll when nothing is due. The order of events is sim/core/event_queue.c's.
 */
#include "emu/loop/real_loop.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "sim/core/event_queue.h"

enum { SOURCES_MAX = 16 };

typedef struct posted_call {
	kvt_callback callback;
	void *arg;
} posted_call;

typedef struct real_loop {
	kvt_loop base;
	bool running, stopped;
	uint64_t holds;
	int64_t start_ns;
	kvt_time spin;
	kvt_event_queue queue;
	kvt_real_source *sources;
	unsigned n_sources;
	kvt_real_loop_stats stats;
	int wake_fd;
	/* Posts are appended to one array under the lock and run from the other. Not GLib's lock,
	 * which the thread sanitizer does not know. */
	pthread_mutex_t lock;
	GArray *posted, *taken;
	atomic_bool any_posted; /* set and cleared under the lock */
} real_loop;

static int64_t clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static kvt_time now_of(const real_loop *loop)
{
	return (clock_ns() - loop->start_ns) * KVT_NANOSECOND;
}

static kvt_time real_now(kvt_loop *base)
{
	return now_of((real_loop *)base);
}

static kvt_event real_at(kvt_loop *base, kvt_time when, kvt_callback callback, void *arg)
{
	real_loop *loop = (real_loop *)base;
	if (when == KVT_TIME_NEVER)
		return 0;
	kvt_time now = now_of(loop);
	return kvt_event_queue_push(&loop->queue, MAX(when, now), callback, arg);
}

static bool real_cancel(kvt_loop *base, kvt_event event)
{
	return kvt_event_queue_cancel(&((real_loop *)base)->queue, event);
}

/* Schedules what was posted; returns how many. */
static unsigned take_posts(real_loop *loop)
{
	if (!atomic_load_explicit(&loop->any_posted, memory_order_acquire))
		return 0;
	pthread_mutex_lock(&loop->lock);
	GArray *posts = loop->posted;
	loop->posted = loop->taken;
	loop->taken = posts;
	uint64_t count;
	/* read under the lock, so that no wake-up for what comes next is swallowed */
	if (posts->len > 0 && read(loop->wake_fd, &count, sizeof(count)) < 0)
		g_assert(errno == EAGAIN || errno == EINTR);
	atomic_store_explicit(&loop->any_posted, false, memory_order_relaxed);
	pthread_mutex_unlock(&loop->lock);
	kvt_time now = now_of(loop);
	for (guint i = 0; i < posts->len; i++) {
		const posted_call *call = &g_array_index(posts, posted_call, i);
		real_at(&loop->base, now, call->callback, call->arg);
	}
	unsigned n = posts->len;
	g_array_set_size(posts, 0);
	return n;
}

static unsigned poll_sources(real_loop *loop)
{
	unsigned n = take_posts(loop);
	for (kvt_real_source *source = loop->sources; source; source = source->next)
		n += source->poll(source->arg);
	return n;
}

/* Runs what is due now; returns how many callbacks. */
static uint64_t run_batch(real_loop *loop)
{
	kvt_time when, due;
	uint64_t n = 0;
	if (!kvt_event_queue_next(&loop->queue, &when))
		return 0;
	due = now_of(loop);
	while (!loop->stopped && kvt_event_queue_next(&loop->queue, &when) && when <= due) {
		kvt_callback callback;
		void *arg;
		if (!kvt_event_queue_pop(&loop->queue, &callback, &arg))
			break;
		kvt_histogram_add(&loop->stats.lateness, (uint64_t)(due - when));
		callback(arg);
		n++;
	}
	loop->stats.callbacks += n;
	loop->stats.batches += n > 0;
	return n;
}

static void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

static bool must_poll(const real_loop *loop)
{
	for (const kvt_real_source *source = loop->sources; source; source = source->next)
		if (source->must_poll)
			return true;
	return false;
}

/* Polls until something is there, `until`, or the loop has spun for its time; false: go to sleep.
 */
static bool spin(real_loop *loop, kvt_time until)
{
	if (loop->spin <= 0)
		return false;
	kvt_time begin = now_of(loop), now = begin;
	kvt_time end = begin < KVT_TIME_NEVER - loop->spin ? begin + loop->spin : KVT_TIME_NEVER;
	bool found = until <= end;
	for (end = MIN(end, until); now < end; now = now_of(loop)) {
		if (poll_sources(loop) > 0) {
			found = true;
			break;
		}
		relax();
	}
	loop->stats.spinning += now_of(loop) - begin;
	return found;
}

/* The one source with something under way, when there is just one. */
static kvt_real_source *only_busy(const real_loop *loop)
{
	kvt_real_source *busy = NULL;
	for (kvt_real_source *source = loop->sources; source; source = source->next) {
		if (source->idle)
			continue;
		if (busy)
			return NULL;
		busy = source;
	}
	return busy;
}

/* Waits for descriptors, of which ns nanoseconds at most (< 0: without end). */
static void sleep_on_all(real_loop *loop, int64_t ns)
{
	struct pollfd fds[SOURCES_MAX + 1] = { { .fd = loop->wake_fd, .events = POLLIN } };
	struct timespec timeout = { ns / 1000000000, ns % 1000000000 };
	nfds_t n = 1;
	for (const kvt_real_source *source = loop->sources; source; source = source->next) {
		if (source->arm && source->arm(source->arg))
			return;
		fds[n++] = (struct pollfd){ .fd = source->wait_fd, .events = POLLIN };
	}
	int error = ppoll(fds, n, ns < 0 ? NULL : &timeout, NULL);
	g_assert(error >= 0 || errno == EINTR);
	n = 1;
	for (kvt_real_source *source = loop->sources; error > 0 && source; source = source->next)
		source->readable |= fds[n++].revents != 0;
}

/* Sleeps until `until`, a post, or a source that has something. */
static void sleep_until(real_loop *loop, kvt_time until)
{
	kvt_time begin = now_of(loop);
	kvt_time wait = until > begin ? until - begin : 0;
	int64_t ns = wait / KVT_NANOSECOND + (wait % KVT_NANOSECOND > 0);
	ns = until == KVT_TIME_NEVER ? -1 : ns;
	kvt_real_source *source = only_busy(loop);
	if (source && source->wait)
		source->wait(source->arg, loop->wake_fd, ns);
	else
		sleep_on_all(loop, ns);
	loop->stats.sleeps++;
	loop->stats.asleep += now_of(loop) - begin;
}

/* Waits for the next event, known or not; false when none can come. */
static bool wait_for_event(real_loop *loop)
{
	kvt_time when = KVT_TIME_NEVER;
	bool timer = kvt_event_queue_next(&loop->queue, &when);
	if (!timer && loop->holds == 0)
		return false;
	if (when <= now_of(loop) || must_poll(loop) || spin(loop, when))
		return true;
	/* what is left before the timer is spun */
	sleep_until(loop, timer ? when - loop->spin : KVT_TIME_NEVER);
	return true;
}

static uint64_t real_run(kvt_loop *base)
{
	real_loop *loop = (real_loop *)base;
	g_assert(!loop->running);
	loop->running = true;
	loop->stopped = false;
	/* the system may end a sleep up to 50 us late, unless asked not to */
	int slack = prctl(PR_GET_TIMERSLACK);
	prctl(PR_SET_TIMERSLACK, 1ul);
	uint64_t n_run = 0;
	for (;;) {
		unsigned found = poll_sources(loop);
		uint64_t n = run_batch(loop);
		n_run += n;
		if (loop->stopped || (n == 0 && found == 0 && !wait_for_event(loop)))
			break;
	}
	if (slack > 0)
		prctl(PR_SET_TIMERSLACK, (unsigned long)slack);
	loop->running = false;
	return n_run;
}

static void real_stop(kvt_loop *base)
{
	((real_loop *)base)->stopped = true;
}

static void real_free(kvt_loop *base)
{
	real_loop *loop = (real_loop *)base;
	g_assert(!loop->running);
	kvt_event_queue_clear(&loop->queue);
	close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	g_array_unref(loop->posted);
	g_array_unref(loop->taken);
	g_free(loop);
}

static const kvt_loop_ops real_ops = {
	.now = real_now,
	.at = real_at,
	.cancel = real_cancel,
	.run = real_run,
	.stop = real_stop,
	.free = real_free,
};

kvt_loop *kvt_real_loop_new(const kvt_real_loop_settings *settings)
{
	int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake_fd < 0)
		return NULL;
	real_loop *loop = g_new0(real_loop, 1);
	loop->base.ops = &real_ops;
	loop->wake_fd = wake_fd;
	loop->spin = settings ? settings->spin : 0;
	loop->start_ns = clock_ns();
	pthread_mutex_init(&loop->lock, NULL);
	loop->posted = g_array_new(FALSE, FALSE, sizeof(posted_call));
	loop->taken = g_array_new(FALSE, FALSE, sizeof(posted_call));
	kvt_event_queue_init(&loop->queue);
	kvt_histogram_init(&loop->stats.lateness);
	return &loop->base;
}

void kvt_real_loop_add_source(kvt_loop *base, kvt_real_source *source)
{
	real_loop *loop = (real_loop *)base;
	g_assert(base->ops == &real_ops && loop->n_sources < SOURCES_MAX);
	source->next = loop->sources;
	loop->sources = source;
	loop->n_sources++;
}

void kvt_real_loop_remove_source(kvt_loop *base, kvt_real_source *source)
{
	real_loop *loop = (real_loop *)base;
	kvt_real_source **link = &loop->sources;
	while (*link != source)
		link = &(*link)->next;
	*link = source->next;
	loop->n_sources--;
}

void kvt_real_loop_hold(kvt_loop *base)
{
	((real_loop *)base)->holds++;
}

void kvt_real_loop_release(kvt_loop *base)
{
	real_loop *loop = (real_loop *)base;
	g_assert(loop->holds > 0);
	loop->holds--;
}

void kvt_real_loop_post(kvt_loop *base, kvt_callback callback, void *arg)
{
	real_loop *loop = (real_loop *)base;
	posted_call call = { callback, arg };
	const uint64_t one = 1;
	pthread_mutex_lock(&loop->lock);
	bool first = loop->posted->len == 0;
	g_array_append_val(loop->posted, call);
	atomic_store_explicit(&loop->any_posted, true, memory_order_release);
	/* under the lock: afterwards the loop may be gone */
	if (first && write(loop->wake_fd, &one, sizeof(one)) < 0)
		g_assert(errno == EAGAIN);
	pthread_mutex_unlock(&loop->lock);
}

void kvt_real_loop_get_stats(const kvt_loop *base, kvt_real_loop_stats *stats)
{
	*stats = ((const real_loop *)base)->stats;
}
