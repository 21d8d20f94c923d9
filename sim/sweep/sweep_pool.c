/* sweep_pool.c: the loop of a worker thread. */
#include "sim/sweep/sweep_pool.h"

#include "sim/sweep/sweep_record.h"

struct kvt_sweep_pool {
	const kvt_sweep_work *work;
	kvt_sweep_supply *supply;
	unsigned first_worker;
	gint next_worker;
	GPtrArray *threads;

	GMutex lock;
	GCond arrived;
	GByteArray *results; /* since they were taken last */
	unsigned running;
	uint64_t points;
	double seconds;
};

/* Frames of names that this thread has put out before need not be repeated. */
typedef struct worker {
	kvt_sweep_pool *pool;
	uint32_t number;
	kvt_sweep_metrics metrics;
	GByteArray *frames;
	GHashTable *names;
} worker;

static void append_names(worker *w)
{
	const GString *names = w->metrics.names;
	uint64_t id = kvt_sweep_names_id(names->str, names->len);
	if (g_hash_table_contains(w->names, &id))
		return;
	g_hash_table_add(w->names, g_memdup2(&id, sizeof id));
	kvt_sweep_append_text(w->frames, KVT_SWEEP_FRAME_NAMES, names->str, names->len);
}

static bool run_work(
	const kvt_sweep_work *work, uint64_t point, kvt_sweep_metrics *metrics, GError **error)
{
	if (work->run)
		return work->run(work->arg, point, metrics, error);
	kvt_config *config = kvt_config_copy(work->config);
	kvt_sweep_plan_apply(work->plan, point, config);
	return work->kind->run(work->shared, config, work->models, metrics, error);
}

static void run_point(worker *w, uint64_t point)
{
	g_autoptr(GError) error = NULL;
	int64_t start = g_get_monotonic_time();
	kvt_sweep_metrics_reset(&w->metrics);
	bool good = run_work(w->pool->work, point, &w->metrics, &error);
	double seconds = (double)(g_get_monotonic_time() - start) * 1e-6;
	if (good) {
		append_names(w);
		kvt_sweep_append_done(w->frames, point, seconds, w->number, &w->metrics);
	} else {
		kvt_sweep_append_failed(w->frames, point, seconds, w->number, error->message);
	}

	kvt_sweep_pool *pool = w->pool;
	g_mutex_lock(&pool->lock);
	g_byte_array_append(pool->results, w->frames->data, w->frames->len);
	pool->points++;
	pool->seconds += seconds;
	g_cond_signal(&pool->arrived);
	g_mutex_unlock(&pool->lock);
	g_byte_array_set_size(w->frames, 0);
}

static gpointer work_thread(gpointer arg)
{
	kvt_sweep_pool *pool = arg;
	worker w = { .pool = pool,
		.number = pool->first_worker + (uint32_t)g_atomic_int_add(&pool->next_worker, 1),
		.frames = g_byte_array_new(),
		.names = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL) };
	kvt_sweep_metrics_init(&w.metrics);
	for (uint64_t point; kvt_sweep_supply_take(pool->supply, &point);)
		run_point(&w, point);
	kvt_sweep_metrics_clear(&w.metrics);
	g_hash_table_destroy(w.names);
	g_byte_array_unref(w.frames);
	g_mutex_lock(&pool->lock);
	pool->running--;
	g_cond_signal(&pool->arrived);
	g_mutex_unlock(&pool->lock);
	return NULL;
}

kvt_sweep_pool *kvt_sweep_pool_new(const kvt_sweep_work *work, kvt_sweep_supply *supply,
	unsigned threads, unsigned first_worker, GError **error)
{
	kvt_sweep_pool *pool = g_new0(kvt_sweep_pool, 1);
	pool->work = work;
	pool->supply = supply;
	pool->first_worker = first_worker;
	pool->threads = g_ptr_array_new();
	pool->results = g_byte_array_new();
	g_mutex_init(&pool->lock);
	g_cond_init(&pool->arrived);
	for (unsigned i = 0; i < threads; i++) {
		g_mutex_lock(&pool->lock);
		pool->running++;
		g_mutex_unlock(&pool->lock);
		/* with fewer threads than asked for it goes on; with none it cannot */
		GThread *thread =
			g_thread_try_new("sweep", work_thread, pool, i == 0 ? error : NULL);
		if (thread) {
			g_ptr_array_add(pool->threads, thread);
			continue;
		}
		g_mutex_lock(&pool->lock);
		pool->running--;
		g_mutex_unlock(&pool->lock);
		break;
	}
	if (pool->threads->len > 0)
		return pool;
	kvt_sweep_pool_free(pool);
	return NULL;
}

GByteArray *kvt_sweep_pool_take(kvt_sweep_pool *pool, int64_t microseconds)
{
	const int64_t end = g_get_monotonic_time() + microseconds;
	GByteArray *taken = NULL;
	g_mutex_lock(&pool->lock);
	while (pool->results->len == 0 && pool->running > 0)
		if (!g_cond_wait_until(&pool->arrived, &pool->lock, end))
			break;
	if (pool->results->len > 0) {
		taken = pool->results;
		pool->results = g_byte_array_new();
	}
	g_mutex_unlock(&pool->lock);
	return taken;
}

bool kvt_sweep_pool_ended(kvt_sweep_pool *pool)
{
	g_mutex_lock(&pool->lock);
	bool ended = pool->running == 0 && pool->results->len == 0;
	g_mutex_unlock(&pool->lock);
	return ended;
}

double kvt_sweep_pool_mean(kvt_sweep_pool *pool)
{
	g_mutex_lock(&pool->lock);
	double mean = pool->points > 0 ? pool->seconds / (double)pool->points : 0;
	g_mutex_unlock(&pool->lock);
	return mean;
}

void kvt_sweep_pool_free(kvt_sweep_pool *pool)
{
	if (!pool)
		return;
	for (guint i = 0; i < pool->threads->len; i++)
		g_thread_join(g_ptr_array_index(pool->threads, i));
	g_ptr_array_unref(pool->threads);
	g_byte_array_unref(pool->results);
	g_cond_clear(&pool->arrived);
	g_mutex_clear(&pool->lock);
	g_free(pool);
}
