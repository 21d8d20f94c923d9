/* sweep_serve.c: a rank other than 0: its threads, what it asks for, what it sends back. */
#include <math.h>
#include <string.h>

#include "sim/sweep/sweep_messages.h"
#include "sim/sweep/sweep_run.h"

enum {
	POLL = 1000,              /* us between two looks for a message */
	OUTBOX_BYTES = 256 << 10, /* results are sent when there are as many, */
	OUTBOX_AGE = 100 * 1000,  /* or when the first is so old, us */
	WANTED_MOST = 1 << 16,    /* points a request */
};

/* Of work that is asked for at once. */
static const double REQUEST_SECONDS = 0.2;

typedef struct server {
	kvt_sweep_ranks *ranks;
	kvt_sweep_supply *supply;
	kvt_sweep_pool *pool;
	unsigned threads;
	GByteArray *outbox;
	int64_t oldest; /* in the outbox */
	bool asked, ended;
} server;

/* Points that this rank's threads take REQUEST_SECONDS for. */
static uint32_t wanted(const server *s)
{
	double mean = kvt_sweep_pool_mean(s->pool);
	double each = mean > 0 ? REQUEST_SECONDS / mean : 2;
	return (uint32_t)CLAMP(ceil(each) * s->threads, s->threads, WANTED_MOST);
}

static gboolean send(server *s, kvt_sweep_message_kind kind, uint32_t points, GError **error)
{
	g_autoptr(GByteArray) message = kvt_sweep_message_new(kind, points);
	if (s->outbox->len > 0)
		g_byte_array_append(message, s->outbox->data, s->outbox->len);
	g_byte_array_set_size(s->outbox, 0);
	s->asked |= points > 0;
	return kvt_sweep_ranks_send(s->ranks, 0, message, error);
}

static void take_message(server *s, const GByteArray *message)
{
	const void *body;
	size_t size;
	const kvt_sweep_message_head *head = kvt_sweep_message_read(message, &body, &size);
	if (head->kind == KVT_SWEEP_STOP) {
		s->ended = true;
		kvt_sweep_supply_end(s->supply, true);
		return;
	}
	s->asked = false;
	const kvt_sweep_range *ranges = body;
	for (size_t i = 0; i < size / sizeof *ranges; i++)
		kvt_sweep_supply_add(s->supply, ranges[i]);
	if (size == 0) {
		s->ended = true;
		kvt_sweep_supply_end(s->supply, false);
	}
}

static gboolean answer(server *s, GError **error)
{
	uint32_t points = wanted(s);
	bool low = !s->ended && !s->asked && kvt_sweep_supply_left(s->supply) <= points / 2;
	bool due = s->outbox->len > 0 && (s->outbox->len > OUTBOX_BYTES ||
						 g_get_monotonic_time() - s->oldest > OUTBOX_AGE);
	return !(low || due) || send(s, KVT_SWEEP_RESULTS, low ? points : 0, error);
}

static gboolean serve(server *s, GError **error)
{
	while (!s->ended || !kvt_sweep_pool_ended(s->pool)) {
		GError *failed = NULL;
		int from;
		g_autoptr(GByteArray) message = kvt_sweep_ranks_receive(s->ranks, &from, &failed);
		if (failed) {
			g_propagate_error(error, failed);
			return FALSE;
		}
		if (message)
			take_message(s, message);
		g_autoptr(GByteArray) frames = kvt_sweep_pool_take(s->pool, POLL);
		if (frames) {
			if (s->outbox->len == 0)
				s->oldest = g_get_monotonic_time();
			g_byte_array_append(s->outbox, frames->data, frames->len);
		}
		if (!answer(s, error))
			return FALSE;
	}
	return (s->outbox->len == 0 || send(s, KVT_SWEEP_RESULTS, 0, error)) &&
	       send(s, KVT_SWEEP_ENDED, 0, error);
}

gboolean kvt_sweep_serve(kvt_sweep *sweep, kvt_sweep_ranks *ranks, unsigned threads, GError **error)
{
	server s = { .ranks = ranks, .threads = threads };
	s.supply = kvt_sweep_supply_new();
	s.outbox = g_byte_array_new();
	s.pool = kvt_sweep_pool_new(
		&sweep->work, s.supply, threads, (unsigned)ranks->rank * threads, error);
	gboolean good = s.pool != NULL;
	if (good) {
		g_byte_array_append(
			s.outbox, (const guint8 *)sweep->identity, (guint)strlen(sweep->identity));
		good = send(&s, KVT_SWEEP_HELLO, wanted(&s), error) && serve(&s, error);
		kvt_sweep_supply_end(s.supply, true);
		kvt_sweep_pool_free(s.pool);
	}
	kvt_sweep_supply_free(s.supply);
	g_byte_array_unref(s.outbox);
	return good;
}

void kvt_sweep_refuse(kvt_sweep_ranks *ranks, const char *reason)
{
	bool first = ranks->rank == 0;
	g_autoptr(GByteArray) message =
		kvt_sweep_message_new(first ? KVT_SWEEP_STOP : KVT_SWEEP_REFUSED, 0);
	g_byte_array_append(message, (const guint8 *)reason, (guint)strlen(reason));
	for (int to = first ? 1 : 0; to < (first ? ranks->size : 1); to++)
		kvt_sweep_ranks_send(ranks, to, message, NULL);
}
