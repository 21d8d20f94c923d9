/* cpu_pool.c: threads that wait for a job and take its tasks by number. */
#include "emu/device/cpu_pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "sim/base/error.h"

/* Of threads with processors of their own, ns: longer than what lies between two calls of most
 * layers. An idle processor takes some 0.1 ms to wake and is slow for a while. */
enum { SPIN = 2000000 };

typedef struct pool_thread {
	kvt_cpu_pool *pool;
	unsigned index;
	pthread_t thread;
} pool_thread;

struct kvt_cpu_pool {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	kvt_cpu_job job;
	bool running, ending, stopping; /* ending: all tasks are over, finish was not called yet */
	unsigned begun;                 /* jobs; written with the lock held */
	int64_t spin;        /* how long a thread looks for the next one before it sleeps, ns */
	unsigned next, done; /* tasks that were taken, that are over */
	int64_t began;
	unsigned n_threads;
	pool_thread *threads;
};

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Takes tasks until there are none; called and returns with the lock held. */
static void work(kvt_cpu_pool *pool, unsigned thread)
{
	kvt_cpu_job job = pool->job;
	while (pool->next < job.n_tasks) {
		unsigned index = pool->next++;
		pthread_mutex_unlock(&pool->lock);
		job.task(job.arg, index, thread);
		pthread_mutex_lock(&pool->lock);
		pool->done++;
	}
	/* the thread that ends the last task ends the job, once */
	if (!pool->running || pool->ending || pool->done < job.n_tasks)
		return;
	pool->ending = true;
	pthread_mutex_unlock(&pool->lock);
	if (job.end)
		job.end(job.arg);
	int64_t nanoseconds = now_ns() - pool->began;
	pthread_mutex_lock(&pool->lock);
	pool->running = false;
	pthread_mutex_unlock(&pool->lock);
	job.finish(job.arg, nanoseconds);
	pthread_mutex_lock(&pool->lock);
}

/* Looks for a job without sleeping, a while; called and returns with the lock held. False: none. */
static bool spin(kvt_cpu_pool *pool)
{
	unsigned seen = pool->begun;
	int64_t end = now_ns() + pool->spin;
	if (pool->spin == 0)
		return false;
	pthread_mutex_unlock(&pool->lock);
	while (__atomic_load_n(&pool->begun, __ATOMIC_ACQUIRE) == seen && now_ns() < end)
		g_thread_yield();
	pthread_mutex_lock(&pool->lock);
	return pool->begun != seen || pool->stopping;
}

static void *run_thread(void *arg)
{
	pool_thread *self = arg;
	kvt_cpu_pool *pool = self->pool;
	pthread_mutex_lock(&pool->lock);
	while (!pool->stopping || pool->running) {
		if (pool->running && (pool->next < pool->job.n_tasks || pool->job.n_tasks == 0))
			work(pool, self->index);
		else if (!spin(pool))
			pthread_cond_wait(&pool->wake, &pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

kvt_cpu_pool *kvt_cpu_pool_new(unsigned threads, GError **error)
{
	kvt_cpu_pool *pool = g_new0(kvt_cpu_pool, 1);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wake, NULL);
	pool->threads = g_new0(pool_thread, threads);
	for (unsigned i = 0; i < threads; i++) {
		pool_thread *self = &pool->threads[i];
		*self = (pool_thread){ .pool = pool, .index = i };
		int failed = pthread_create(&self->thread, NULL, run_thread, self);
		if (failed != 0) {
			kvt_error_failed(
				error, "a thread could not be made: %s", g_strerror(failed));
			kvt_cpu_pool_free(pool);
			return NULL;
		}
		pool->n_threads++;
	}
	return pool;
}

void kvt_cpu_pool_free(kvt_cpu_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->n_threads; i++)
		pthread_join(pool->threads[i].thread, NULL);
	pthread_cond_destroy(&pool->wake);
	pthread_mutex_destroy(&pool->lock);
	g_free(pool->threads);
	g_free(pool);
}

void kvt_cpu_pool_place(kvt_cpu_pool *pool, const kvt_cores *cores)
{
	pthread_mutex_lock(&pool->lock);
	pool->spin = cores->placed ? SPIN : 0;
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->n_threads; i++)
		kvt_cores_place_compute(cores, pool->threads[i].thread);
}

void kvt_cpu_pool_begin(kvt_cpu_pool *pool, const kvt_cpu_job *job)
{
	pthread_mutex_lock(&pool->lock);
	g_assert(!pool->running && !pool->stopping);
	pool->job = *job;
	pool->next = pool->done = 0;
	pool->ending = false;
	pool->began = now_ns();
	pool->running = true;
	__atomic_store_n(&pool->begun, pool->begun + 1, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
}
