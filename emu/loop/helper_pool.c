/* helper_pool.c: a queue of tasks under a lock, threads that take from it, posts to the loop. */
#include "emu/loop/helper_pool.h"

#include <pthread.h>
#include <stdbool.h>

#include "emu/loop/real_loop.h"
#include "sim/base/error.h"

struct kvt_helper_pool {
	kvt_loop *loop;
	pthread_t *threads;
	unsigned n_threads;
	/* Not GLib's lock, which the thread sanitizer does not know. */
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	kvt_helper_task *first, *last; /* not begun */
	bool stopping;
};

static void end_task(void *arg)
{
	kvt_helper_task *task = arg;
	kvt_real_loop_release(task->pool->loop);
	task->done(task);
}

static void work_on_loop(void *arg)
{
	kvt_helper_task *task = arg;
	task->work(task);
	end_task(task);
}

static void *help(void *arg)
{
	kvt_helper_pool *pool = arg;
	pthread_mutex_lock(&pool->lock);
	while (!pool->stopping) {
		kvt_helper_task *task = pool->first;
		if (!task) {
			pthread_cond_wait(&pool->wanted, &pool->lock);
			continue;
		}
		pool->first = task->next;
		pthread_mutex_unlock(&pool->lock);
		task->work(task);
		kvt_real_loop_post(pool->loop, end_task, task);
		pthread_mutex_lock(&pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

kvt_helper_pool *kvt_helper_pool_new(kvt_loop *loop, unsigned threads, GError **error)
{
	kvt_helper_pool *pool = g_new0(kvt_helper_pool, 1);
	pool->loop = loop;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wanted, NULL);
	pool->threads = g_new0(pthread_t, threads);
	for (; pool->n_threads < threads; pool->n_threads++) {
		int failed = pthread_create(&pool->threads[pool->n_threads], NULL, help, pool);
		if (failed != 0) {
			kvt_error_failed(error, "helper thread %u of %u: %s", pool->n_threads + 1,
				threads, g_strerror(failed));
			kvt_helper_pool_free(pool);
			return NULL;
		}
	}
	return pool;
}

void kvt_helper_pool_free(kvt_helper_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->wanted);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->n_threads; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->wanted);
	pthread_mutex_destroy(&pool->lock);
	g_free(pool->threads);
	g_free(pool);
}

void kvt_helper_pool_run(kvt_helper_pool *pool, kvt_helper_task *task)
{
	if (pool->n_threads > 0) {
		kvt_helper_pool_submit(pool, task);
		return;
	}
	task->work(task);
	task->done(task);
}

void kvt_helper_pool_submit(kvt_helper_pool *pool, kvt_helper_task *task)
{
	task->pool = pool;
	task->next = NULL;
	kvt_real_loop_hold(pool->loop);
	if (pool->n_threads == 0) {
		kvt_loop_at(pool->loop, 0, work_on_loop, task);
		return;
	}
	pthread_mutex_lock(&pool->lock);
	if (pool->first)
		pool->last->next = task;
	else
		pool->first = task;
	pool->last = task;
	pthread_cond_signal(&pool->wanted);
	pthread_mutex_unlock(&pool->lock);
}
