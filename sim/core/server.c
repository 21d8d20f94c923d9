/*
 * server.c: a queue for each class in front of k servers. Jobs live in blocks that never move,
 * because the loop holds on to those being served.
 */
#include "sim/core/server.h"

#include <glib.h>

enum { BLOCK_JOBS = 256 };

typedef enum job_state { FREE, WAITING, SERVED } job_state;

typedef struct job {
	struct kvt_server *server;
	struct job *next, *previous; /* in its queue; next of the free ones too */
	kvt_callback done;
	void *arg;
	kvt_time submitted, service;
	kvt_event event; /* its end, once begun */
	uint32_t index, generation;
	uint8_t priority;
	uint8_t state;
} job;

typedef struct job_queue {
	job *head, *tail;
} job_queue;

struct kvt_server {
	kvt_loop *loop;
	char *name;
	unsigned servers;
	job_queue queues[KVT_PRIORITY_CLASSES];
	kvt_histogram *waited[KVT_PRIORITY_CLASSES];
	GPtrArray *blocks; /* of BLOCK_JOBS jobs each */
	job *free;
	kvt_server_stats stats;
	unsigned __int128 busy; /* ps until `updated`; 10,000 servers overflow 64 bits in 15 min */
	kvt_time updated;
};

kvt_server *kvt_server_new(kvt_loop *loop, const char *name, unsigned servers)
{
	g_assert(servers > 0);
	kvt_server *s = g_new0(kvt_server, 1);
	s->loop = loop;
	s->name = g_strdup(name);
	s->servers = servers;
	s->blocks = g_ptr_array_new_with_free_func(g_free);
	return s;
}

void kvt_server_free(kvt_server *s)
{
	if (s == NULL)
		return;
	for (unsigned i = 0; i < s->blocks->len * BLOCK_JOBS; i++) {
		job *j = (job *)s->blocks->pdata[i / BLOCK_JOBS] + i % BLOCK_JOBS;
		if (j->state == SERVED)
			kvt_loop_cancel(s->loop, j->event);
	}
	for (unsigned i = 0; i < KVT_PRIORITY_CLASSES; i++)
		g_free(s->waited[i]);
	g_ptr_array_free(s->blocks, TRUE);
	g_free(s->name);
	g_free(s);
}

static job *take_job(kvt_server *s)
{
	if (s->free == NULL) {
		uint32_t first = s->blocks->len * BLOCK_JOBS;
		job *block = g_new0(job, BLOCK_JOBS);
		for (unsigned i = BLOCK_JOBS; i-- > 0;) {
			block[i] = (job){ .server = s, .index = first + i, .generation = 1 };
			block[i].next = s->free;
			s->free = &block[i];
		}
		g_ptr_array_add(s->blocks, block);
	}
	job *j = s->free;
	s->free = j->next;
	return j;
}

static void release_job(kvt_server *s, job *j)
{
	if (++j->generation == 0)
		j->generation = 1;
	j->state = FREE;
	j->next = s->free;
	s->free = j;
}

static void enqueue(kvt_server *s, job *j)
{
	job_queue *q = &s->queues[j->priority];
	j->state = WAITING;
	j->next = NULL;
	j->previous = q->tail;
	if (q->tail != NULL)
		q->tail->next = j;
	else
		q->head = j;
	q->tail = j;
	s->stats.waiting++;
	s->stats.waiting_max = MAX(s->stats.waiting_max, s->stats.waiting);
}

static void dequeue(kvt_server *s, job *j)
{
	job_queue *q = &s->queues[j->priority];
	if (j->previous != NULL)
		j->previous->next = j->next;
	else
		q->head = j->next;
	if (j->next != NULL)
		j->next->previous = j->previous;
	else
		q->tail = j->previous;
	s->stats.waiting--;
}

static void account(kvt_server *s, kvt_time now)
{
	s->busy += (unsigned __int128)s->stats.serving * (uint64_t)(now - s->updated);
	s->updated = now;
}

static void on_served(void *arg);

static void begin_job(kvt_server *s, job *j, kvt_time now)
{
	kvt_histogram **waited = &s->waited[j->priority];
	if (*waited == NULL) {
		*waited = g_new(kvt_histogram, 1);
		kvt_histogram_init(*waited);
	}
	kvt_histogram_add(*waited, (uint64_t)(now - j->submitted));
	g_assert(j->service < KVT_TIME_NEVER - now);
	j->state = SERVED;
	j->event = kvt_loop_at(s->loop, now + j->service, on_served, j);
	account(s, now);
	s->stats.serving++;
}

static void on_served(void *arg)
{
	job *j = arg;
	kvt_server *s = j->server;
	kvt_time now = kvt_loop_now(s->loop);
	kvt_callback done = j->done;
	void *done_arg = j->arg;
	account(s, now);
	s->stats.serving--;
	s->stats.finished++;
	release_job(s, j);
	for (unsigned priority = 0; priority < KVT_PRIORITY_CLASSES; priority++) {
		job *next = s->queues[priority].head;
		if (next == NULL)
			continue;
		dequeue(s, next);
		begin_job(s, next, now);
		break;
	}
	if (done != NULL)
		done(done_arg);
}

kvt_job kvt_server_submit(
	kvt_server *s, kvt_time service, unsigned priority, kvt_callback done, void *arg)
{
	g_assert(service >= 0 && priority < KVT_PRIORITY_CLASSES);
	job *j = take_job(s);
	kvt_time now = kvt_loop_now(s->loop);
	j->submitted = now;
	j->service = service;
	j->priority = (uint8_t)priority;
	j->done = done;
	j->arg = arg;
	s->stats.submitted++;
	if (s->stats.serving < s->servers)
		begin_job(s, j, now);
	else
		enqueue(s, j);
	return (kvt_job)j->generation << 32 | j->index;
}

bool kvt_server_cancel(kvt_server *s, kvt_job id)
{
	uint32_t index = (uint32_t)id;
	if (index >= s->blocks->len * BLOCK_JOBS)
		return false;
	job *j = (job *)s->blocks->pdata[index / BLOCK_JOBS] + index % BLOCK_JOBS;
	if (j->state != WAITING || j->generation != (uint32_t)(id >> 32))
		return false;
	dequeue(s, j);
	release_job(s, j);
	s->stats.cancelled++;
	return true;
}

kvt_server_stats kvt_server_get_stats(const kvt_server *s)
{
	kvt_server_stats stats = s->stats;
	stats.name = s->name;
	stats.servers = s->servers;
	uint64_t since = (uint64_t)(kvt_loop_now(s->loop) - s->updated);
	stats.busy_seconds = (double)(s->busy + (unsigned __int128)stats.serving * since) * 1e-12;
	return stats;
}

const kvt_histogram *kvt_server_waiting(const kvt_server *s, unsigned priority)
{
	g_assert(priority < KVT_PRIORITY_CLASSES);
	return s->waited[priority];
}
