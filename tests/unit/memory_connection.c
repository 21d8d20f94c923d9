/* memory_connection.c: transfers of the fabric within a process: classes, queues, credits, the way
 * there and back, and how connections end. */
#include <errno.h>
#include <string.h>

#include "tests/unit/memory_fabric_internal.h"

/* Transfers of higher classes that one of a lower class waits for at most. */
enum { PATIENCE = 16 };

static void pump(kvt_connection *connection);

static void init_leg(memory_leg *leg, memory_queue *queue)
{
	g_queue_init(&leg->flights);
	leg->queue = queue;
}

kvt_connection *memory_connection_new(memory_host *host, kvt_fabric_domain *domain,
	const kvt_connection_settings *settings, const kvt_connection_handlers *handlers, void *arg)
{
	kvt_connection *c = g_new0(kvt_connection, 1);
	c->host = host;
	c->domain = domain;
	c->handlers = *handlers;
	c->arg = arg;
	c->settings = settings ? *settings : (kvt_connection_settings){ 0 };
	kvt_connection_settings *s = &c->settings;
	s->queues = s->queues ? s->queues : 1;
	s->depth = s->depth ? s->depth : 64;
	s->messages = s->messages ? s->messages : 32;
	s->message_bytes = s->message_bytes ? s->message_bytes : 16 << 10;
	s->retries = s->retries ? s->retries : 6;
	s->timeout = s->timeout ? s->timeout : KVT_SECOND;
	s->connect_timeout = s->connect_timeout ? s->connect_timeout : 5 * KVT_SECOND;
	g_assert(s->queues <= KVT_FABRIC_QUEUES && s->retries <= 6);
	for (unsigned i = 0; i < KVT_FABRIC_QUEUES; i++) {
		c->queues[i].connection = c;
		init_leg(&c->queues[i].there, &c->queues[i]);
		init_leg(&c->queues[i].back, &c->queues[i]);
	}
	for (unsigned i = 0; i < KVT_PRIORITY_CLASSES; i++)
		g_queue_init(&c->classes[i]);
	domain->connections++;
	g_ptr_array_add(host->connections, c);
	g_ptr_array_add(host->wire->connections, c);
	return c;
}

/* --- Up --- */

static void rise(void *arg)
{
	kvt_connection *c = arg;
	if (memory_host_hold(c->host, rise, c))
		return;
	if (c->state == CONNECTION_OPENING && !c->freed) {
		c->state = CONNECTION_UP;
		kvt_loop_cancel(c->host->wire->loop, c->deadline);
		for (unsigned i = 0; i < c->settings.queues; i++)
			c->queues[i].credit = c->peer->settings.messages;
		c->handlers.up(c->arg, c, c->heard ? c->said : NULL, c->said_bytes);
		pump(c);
	}
}

void memory_connection_rise(kvt_connection *c, kvt_time when)
{
	kvt_loop_at(c->host->wire->loop, when, rise, c);
}

/* --- Down --- */

static void drop_flight(memory_flight *flight)
{
	if (flight->region)
		flight->region->under_way--;
	g_free(flight->message);
	g_free(flight);
}

/* Its end has come. */
static void finish_flight(memory_flight *flight, int status)
{
	kvt_transfer *transfer = flight->transfer;
	bool waited = transfer != &flight->own;
	transfer->status = status;
	drop_flight(flight);
	if (waited)
		transfer->done(transfer);
}

static memory_flight *next_left(kvt_connection *c)
{
	for (unsigned i = 0; i < c->settings.queues; i++) {
		memory_queue *q = &c->queues[i];
		memory_flight *flight = g_queue_pop_head(&q->back.flights);
		flight = flight ? flight : g_queue_pop_head(&q->there.flights);
		if (flight)
			return flight;
	}
	for (unsigned i = 0; i < KVT_PRIORITY_CLASSES; i++)
		if (!g_queue_is_empty(&c->classes[i]))
			return g_queue_pop_head(&c->classes[i]);
	return NULL;
}

static void finish_end(void *arg)
{
	kvt_connection *c = arg;
	memory_flight *flight;
	if (memory_host_hold(c->host, finish_end, c))
		return;
	/* what done submits comes to the classes, and ends here too */
	while (!c->freed && (flight = next_left(c))) {
		int status = flight->status                                        ? flight->status
			     : c->end_status == -ETIMEDOUT && flight->attempts > 0 ? -ETIMEDOUT
										   : -ECONNRESET;
		finish_flight(flight, status);
	}
	if (!c->freed) {
		c->state = CONNECTION_DOWN;
		c->handlers.down(
			c->arg, c, c->end_status, c->heard ? c->said : NULL, c->said_bytes);
	}
}

static void stop_events(kvt_connection *c)
{
	kvt_loop *loop = c->host->wire->loop;
	kvt_loop_cancel(loop, c->pump);
	kvt_loop_cancel(loop, c->deadline);
	for (unsigned i = 0; i < KVT_FABRIC_QUEUES; i++) {
		kvt_loop_cancel(loop, c->queues[i].there.event);
		kvt_loop_cancel(loop, c->queues[i].back.event);
	}
}

void memory_connection_end(kvt_connection *c, int status)
{
	if (c->state >= CONNECTION_ENDING || c->freed)
		return;
	if (c->state == CONNECTION_UP || status != -ECONNREFUSED) {
		/* a welcome is no reason */
		c->heard = false;
		c->said_bytes = 0;
	}
	c->state = CONNECTION_ENDING;
	c->end_status = status;
	stop_events(c);
	kvt_loop_at(c->host->wire->loop, 0, finish_end, c);
}

static void end_told(void *arg)
{
	kvt_connection *c = arg;
	memory_connection_end(c, c->end_status);
}

void memory_connection_part(kvt_connection *c, int status, int peer_status)
{
	kvt_connection *peer = c->peer;
	memory_wire *wire = c->host->wire;
	if (c->state >= CONNECTION_ENDING)
		return;
	memory_connection_end(c, status);
	if (!peer || peer->state >= CONNECTION_ENDING || memory_hosts_cut(c->host, peer->host))
		return;
	peer->end_status = peer_status;
	kvt_loop_after(wire->loop, wire->delay, end_told, peer);
}

void memory_connection_free(kvt_connection *c)
{
	memory_flight *flight;
	g_assert(!c->freed);
	if (!c->host->killed)
		memory_connection_part(c, 0, 0);
	stop_events(c);
	while ((flight = next_left(c)))
		drop_flight(flight);
	c->state = CONNECTION_DOWN;
	c->freed = true;
	c->domain->connections--;
	g_ptr_array_remove(c->host->connections, c);
}

/* --- Messages --- */

typedef struct delivery {
	kvt_connection *connection, *from;
	unsigned queue;
	size_t length;
	uint8_t bytes[];
} delivery;

static void credit_back(void *arg)
{
	delivery *d = arg;
	kvt_connection *from = d->from;
	if (from->state == CONNECTION_UP && !from->freed) {
		from->queues[d->queue].credit++;
		pump(from);
	}
	g_hash_table_remove(from->host->wire->deliveries, d);
}

static void deliver(void *arg)
{
	delivery *d = arg;
	kvt_connection *c = d->connection;
	memory_wire *wire = c->host->wire;
	if (memory_host_hold(c->host, deliver, d))
		return;
	if (c->state == CONNECTION_UP && !c->freed)
		c->handlers.message(c->arg, c, (int)d->queue, d->bytes, d->length);
	kvt_loop_after(wire->loop, wire->delay, credit_back, d);
}

/* --- One way and the other --- */

static bool allowed(const memory_region *region, const kvt_connection *peer, kvt_transfer_op op)
{
	if (!region || region->domain != peer->domain)
		return false;
	kvt_fabric_access access = region->access;
	return access == KVT_FABRIC_REMOTE_BOTH ||
	       access ==
		       (op == KVT_TRANSFER_READ ? KVT_FABRIC_REMOTE_READ : KVT_FABRIC_REMOTE_WRITE);
}

static void turn_bit(memory_wire *wire, uint8_t *bytes, uint64_t length)
{
	if (wire->flip_every == 0 || --wire->until_flip > 0)
		return;
	wire->until_flip = wire->flip_every;
	uint64_t at = (++wire->counts.flipped * UINT64_C(0x9e3779b97f4a7c15) >> 20) % length;
	bytes[at] ^= (uint8_t)(1u << (wire->counts.flipped % 8));
}

/* It has come to the peer: 0, or why the peer's device would not. */
static int arrive(memory_queue *q, memory_flight *flight)
{
	kvt_connection *c = q->connection, *peer = c->peer;
	kvt_transfer *t = flight->transfer;
	memory_wire *wire = c->host->wire;
	if (t->op == KVT_TRANSFER_MESSAGE) {
		delivery *d = g_malloc(sizeof(delivery) + t->length);
		*d = (delivery){ .connection = peer,
			.from = c,
			.queue = (unsigned)(q - c->queues),
			.length = t->length };
		if (t->length > 0)
			memcpy(d->bytes, flight->message ? flight->message : t->memory, t->length);
		wire->counts.messages++;
		g_hash_table_add(wire->deliveries, d);
		kvt_loop_at(wire->loop, 0, deliver, d);
		return 0;
	}
	memory_region *region =
		memory_region_find(wire, t->remote_key, t->remote_address, t->length);
	if (!allowed(region, peer, t->op)) {
		wire->counts.denied++;
		return -EACCES;
	}
	uint8_t *there = region->memory + (t->remote_address - region->address);
	if (t->op == KVT_TRANSFER_READ) {
		memcpy(t->memory, there, t->length);
		turn_bit(wire, t->memory, t->length);
		wire->counts.reads++;
		wire->counts.read_bytes += t->length;
	} else {
		memcpy(there, t->memory, t->length);
		turn_bit(wire, there, t->length);
		wire->counts.writes++;
		wire->counts.written_bytes += t->length;
	}
	return 0;
}

static void go(void *arg);

void memory_leg_arm(memory_leg *leg)
{
	kvt_loop *loop = leg->queue->connection->host->wire->loop;
	const memory_flight *first = g_queue_peek_head(&leg->flights);
	kvt_loop_cancel(loop, leg->event);
	leg->event = first ? kvt_loop_at(loop, first->due, go, leg) : 0;
}

/* Nothing came through: again later, or no more. */
static void lose(memory_leg *leg, memory_flight *flight)
{
	kvt_connection *c = leg->queue->connection;
	c->host->wire->counts.lost++;
	if (++flight->attempts > c->settings.retries) {
		memory_connection_part(c, -ETIMEDOUT, -ECONNRESET);
		return;
	}
	flight->due = kvt_loop_now(c->host->wire->loop) + c->settings.timeout;
	memory_leg_arm(leg);
}

static void end_flight(memory_queue *q, memory_flight *flight)
{
	kvt_connection *c = q->connection;
	int status = flight->status;
	if (status != 0) {
		/* first, so that what it submits is refused as well */
		g_queue_push_head(&q->back.flights, flight);
		memory_connection_part(c, -ECONNRESET, -ECONNRESET);
		return;
	}
	finish_flight(flight, 0);
}

/* A leg's first flight is due. */
static void go(void *arg)
{
	memory_leg *leg = arg;
	memory_queue *q = leg->queue;
	kvt_connection *c = q->connection;
	memory_wire *wire = c->host->wire;
	leg->event = 0;
	if (c->host->killed || (leg == &q->back && c->host->stopped))
		return; /* armed again when it goes on */
	memory_flight *flight = g_queue_peek_head(&leg->flights);
	if (!flight || c->state != CONNECTION_UP)
		return;
	bool gone = !c->peer || c->peer->freed || c->peer->host->killed ||
		    c->peer->state >= CONNECTION_ENDING;
	if (memory_hosts_cut(c->host, c->peer ? c->peer->host : c->host) ||
		(gone && leg == &q->there)) {
		lose(leg, flight);
		return;
	}
	g_queue_pop_head(&leg->flights);
	if (leg == &q->there) {
		flight->attempts = 0;
		flight->status = arrive(q, flight);
		flight->due = kvt_loop_now(wire->loop) + wire->delay;
		g_queue_push_tail(&q->back.flights, flight);
		if (g_queue_get_length(&q->back.flights) == 1)
			memory_leg_arm(&q->back);
	} else {
		end_flight(q, flight);
	}
	if (!c->freed && c->state == CONNECTION_UP) {
		if (!g_queue_is_empty(&leg->flights) && leg->event == 0)
			memory_leg_arm(leg);
		pump(c);
	}
}

/* --- Classes and queues --- */

static unsigned under_way(const memory_queue *q)
{
	return q->there.flights.length + q->back.flights.length;
}

static bool has_room(const kvt_connection *c, const memory_queue *q, const kvt_transfer *t)
{
	return under_way(q) < c->settings.depth && (t->op != KVT_TRANSFER_MESSAGE || q->credit > 0);
}

static memory_queue *find_queue(kvt_connection *c, const kvt_transfer *t)
{
	if (t->queue != KVT_ANY_QUEUE)
		return has_room(c, &c->queues[t->queue], t) ? &c->queues[t->queue] : NULL;
	for (unsigned i = 0; i < c->settings.queues; i++) {
		memory_queue *q = &c->queues[(c->turn + i) % c->settings.queues];
		if (has_room(c, q, t)) {
			c->turn = (unsigned)(q - c->queues) + 1;
			return q;
		}
	}
	return NULL;
}

/* The first of a class that may go now: not before others of its queue that may not. */
static GList *find_ready(kvt_connection *c, GQueue *class, memory_queue **queue)
{
	bool blocked[KVT_FABRIC_QUEUES] = { false };
	unsigned room = 0;
	for (unsigned i = 0; i < c->settings.queues; i++)
		room += c->settings.depth - under_way(&c->queues[i]);
	for (GList *link = room > 0 ? class->head : NULL; link; link = link->next) {
		const kvt_transfer *t = ((memory_flight *)link->data)->transfer;
		if (t->queue != KVT_ANY_QUEUE && blocked[t->queue])
			continue;
		*queue = find_queue(c, t);
		if (*queue)
			return link;
		if (t->queue != KVT_ANY_QUEUE)
			blocked[t->queue] = true;
	}
	return NULL;
}

/* The next of all: of the first class that has one, or of one that was passed over too often. */
static GList *find_next(kvt_connection *c, unsigned *class, memory_queue **queue)
{
	GList *found = NULL;
	for (unsigned i = 0; i < KVT_PRIORITY_CLASSES; i++) {
		memory_queue *q;
		GList *link =
			found && c->waited[i] < PATIENCE ? NULL : find_ready(c, &c->classes[i], &q);
		if (!link)
			continue;
		found = link;
		*class = i;
		*queue = q;
	}
	return found;
}

static void pump(kvt_connection *c)
{
	memory_wire *wire = c->host->wire;
	memory_queue *q = NULL;
	unsigned class = 0;
	GList *link;
	while (c->state == CONNECTION_UP && (link = find_next(c, &class, &q))) {
		memory_flight *flight = link->data;
		g_queue_delete_link(&c->classes[class], link);
		c->waited[class] = 0;
		for (unsigned i = class + 1; i < KVT_PRIORITY_CLASSES; i++)
			c->waited[i] += !g_queue_is_empty(&c->classes[i]);
		q->credit -= flight->transfer->op == KVT_TRANSFER_MESSAGE;
		flight->due = MAX(q->last, kvt_loop_now(wire->loop) + wire->delay);
		q->last = flight->due;
		g_queue_push_tail(&q->there.flights, flight);
		if (g_queue_get_length(&q->there.flights) == 1)
			memory_leg_arm(&q->there);
	}
}

static void pump_later(void *arg)
{
	kvt_connection *c = arg;
	c->pump = 0;
	pump(c);
}

static void finish_refused(void *arg)
{
	kvt_transfer *transfer = arg;
	transfer->status = -ECONNRESET;
	transfer->done(transfer);
}

static void check_transfer(const kvt_connection *c, const kvt_transfer *t)
{
	g_assert(t->priority < KVT_PRIORITY_CLASSES);
	g_assert(t->queue == KVT_ANY_QUEUE ||
		 (t->queue >= 0 && (unsigned)t->queue < c->settings.queues));
	if (t->op == KVT_TRANSFER_MESSAGE) {
		g_assert(t->length <= c->settings.message_bytes);
		return;
	}
	g_assert(t->done && t->length > 0 && t->region);
	const memory_region *region = t->region->handle;
	g_assert(region && region->domain == c->domain);
	g_assert((uint8_t *)t->memory >= region->memory &&
		 (uint8_t *)t->memory + t->length <= region->memory + region->bytes);
}

void memory_submit(kvt_connection *c, kvt_transfer *t)
{
	kvt_loop *loop = c->host->wire->loop;
	g_assert(!c->freed);
	check_transfer(c, t);
	if (c->state == CONNECTION_DOWN) {
		if (t->done)
			kvt_loop_at(loop, 0, finish_refused, t);
		return;
	}
	memory_flight *flight = g_new0(memory_flight, 1);
	flight->own = *t;
	flight->transfer = t->done ? t : &flight->own;
	if (t->op == KVT_TRANSFER_MESSAGE) {
		/* of one that is waited for, the memory is looked at when it goes, no sooner */
		if (!t->done)
			flight->message = g_memdup2(t->memory, t->length);
		flight->own.memory = NULL;
	} else {
		flight->region = t->region->handle;
		flight->region->under_way++;
	}
	g_queue_push_tail(&c->classes[t->priority], flight);
	if (c->pump == 0 && c->state == CONNECTION_UP)
		c->pump = kvt_loop_at(loop, 0, pump_later, c);
}

void memory_commit(kvt_connection *c)
{
	pump(c);
}
