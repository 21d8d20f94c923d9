/* plan_runner.c: jobs as the points of a pool that goes on; results by number, then by job. */
#include "sim/plan/plan_runner.h"

#include <string.h>

#include "sim/sweep/sweep_pool.h"
#include "sim/sweep/sweep_record.h"

struct kvt_plan_runner {
	const kvt_plan_settings *settings;
	kvt_sweep_work work;
	kvt_sweep_supply *supply;
	kvt_sweep_pool *pool;
	GMutex lock;        /* of results, which grow while threads read jobs */
	GPtrArray *results; /* of kvt_plan_result, by number */
	GHashTable *known;  /* text of a job -> number + 1 */
	unsigned screened;
};

static void result_free(gpointer arg)
{
	kvt_plan_result *result = arg;
	g_free(result->error);
	g_free(result);
}

static bool run_point(void *arg, uint64_t point, kvt_sweep_metrics *metrics, GError **error)
{
	kvt_plan_runner *r = arg;
	g_mutex_lock(&r->lock);
	const kvt_plan_result *result = g_ptr_array_index(r->results, point);
	g_mutex_unlock(&r->lock);
	kvt_plan_figures figures;
	if (!kvt_plan_point_run(r->settings, &result->job, &figures, error))
		return false;
	/* by place: nobody else reads them */
	const double *values = (const double *)&figures;
	for (unsigned i = 0; i < KVT_PLAN_FIGURES; i++)
		kvt_sweep_metrics_add(metrics, "", values[i]);
	return true;
}

kvt_plan_runner *kvt_plan_runner_new(
	const kvt_plan_settings *settings, unsigned threads, GError **error)
{
	kvt_plan_runner *r = g_new0(kvt_plan_runner, 1);
	r->settings = settings;
	g_mutex_init(&r->lock);
	r->results = g_ptr_array_new_with_free_func(result_free);
	r->known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	r->supply = kvt_sweep_supply_new();
	r->work = (kvt_sweep_work){ .run = run_point, .arg = r };
	r->pool = kvt_sweep_pool_new(&r->work, r->supply, threads, 0, error);
	if (r->pool)
		return r;
	kvt_plan_runner_free(r);
	return NULL;
}

void kvt_plan_runner_free(kvt_plan_runner *r)
{
	if (!r)
		return;
	kvt_sweep_supply_end(r->supply, true);
	kvt_sweep_pool_free(r->pool);
	kvt_sweep_supply_free(r->supply);
	g_hash_table_unref(r->known);
	g_ptr_array_unref(r->results);
	g_mutex_clear(&r->lock);
	g_free(r);
}

static char *job_text(const kvt_plan_job *job)
{
	return g_strdup_printf("%u %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %d %g %s", job->shape,
		job->replicas, job->requests, job->raise, job->raise < 0 ? 1 : job->factor,
		job->change ? job->change : "");
}

/* The number of the job, which is a new one when it has not been run. */
static unsigned number_of(kvt_plan_runner *r, const kvt_plan_job *job)
{
	char *text = job_text(job);
	unsigned known = GPOINTER_TO_UINT(g_hash_table_lookup(r->known, text));
	if (known > 0) {
		g_free(text);
		return known - 1;
	}
	kvt_plan_result *result = g_new0(kvt_plan_result, 1);
	result->job = *job;
	g_mutex_lock(&r->lock);
	g_ptr_array_add(r->results, result);
	unsigned number = r->results->len - 1;
	g_mutex_unlock(&r->lock);
	g_hash_table_insert(r->known, text, GUINT_TO_POINTER(number + 1));
	r->screened += job->requests > 0;
	return number;
}

static void take_frame(kvt_plan_runner *r, const kvt_sweep_frame *frame, uint64_t *left)
{
	if (frame->kind != KVT_SWEEP_FRAME_DONE && frame->kind != KVT_SWEEP_FRAME_FAILED)
		return;
	kvt_plan_result *result = g_ptr_array_index(r->results, frame->point);
	result->ran = frame->kind == KVT_SWEEP_FRAME_DONE;
	if (result->ran) {
		g_assert(frame->n_values == KVT_PLAN_FIGURES);
		memcpy(&result->figures, frame->values, sizeof(result->figures));
	} else {
		result->error = g_strndup(frame->text, frame->text_bytes);
	}
	--*left;
}

void kvt_plan_runner_run(
	kvt_plan_runner *r, const kvt_plan_job *jobs, unsigned n, kvt_plan_result *results)
{
	g_autofree unsigned *numbers = g_new(unsigned, MAX(n, 1));
	unsigned first = r->results->len;
	for (unsigned i = 0; i < n; i++)
		numbers[i] = number_of(r, &jobs[i]);
	uint64_t left = r->results->len - first;
	kvt_sweep_supply_add(r->supply, (kvt_sweep_range){ first, left });
	while (left > 0) {
		g_autoptr(GByteArray) frames = kvt_sweep_pool_take(r->pool, G_USEC_PER_SEC);
		kvt_sweep_frame frame;
		for (uint64_t at = 0; frames && at < frames->len; at += frame.bytes) {
			bool whole =
				kvt_sweep_frame_read(frames->data + at, frames->len - at, &frame);
			g_assert(whole);
			take_frame(r, &frame, &left);
		}
	}
	for (unsigned i = 0; i < n; i++)
		results[i] = *(kvt_plan_result *)g_ptr_array_index(r->results, numbers[i]);
}

unsigned kvt_plan_runner_count(const kvt_plan_runner *r)
{
	return r->results->len - r->screened;
}

unsigned kvt_plan_runner_screened(const kvt_plan_runner *r)
{
	return r->screened;
}
