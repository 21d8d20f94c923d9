/* remote_probe.c: a client of a storage node that counts. What figures mean is not decided here. */
#include "emu/calibrate/remote_probe.h"

#include <errno.h>
#include <string.h>

#include "emu/calibrate/calibrate_load.h"
#include "emu/tier/memory_arena.h"
#include "emu/loop/real_loop.h"
#include "emu/store/store.h"
#include "sim/base/error.h"

enum {
	MEMORY = 64 << 20, /* where bytes go and come from */
	LARGEST = 4 << 20, /* of an op, no more than the node takes in a request */
	PAGE = 64 << 10,   /* of what is stored */
	PIECES = 8,        /* that an op may move in */
};
/* No longer, s, nor than half a lease: then the key may open nothing. */
static const double LONGEST = 5;
static const kvt_time PATIENCE = 10 * KVT_SECOND;

typedef struct lane {
	kvt_remote_probe *probe;
	kvt_transfer transfers[PIECES];
	unsigned pending;
	kvt_time submitted;
	uint64_t lease; /* of the last answer; 0: none */
} lane;

struct kvt_remote_probe {
	kvt_loop *loop;
	kvt_fabric *fabric;
	kvt_fabric_domain *domain;
	kvt_connection *connection;
	kvt_arena *arena;
	kvt_fabric_region region;
	bool up, down;
	int status; /* of the end, or the first that failed */
	char *reason;
	kvt_remote_welcome welcome;
	kvt_remote_reader reader;
	uint64_t next_id;
	/* an answer that is waited for */
	uint64_t wanted;
	bool answered;
	kvt_remote_record answer;
	kvt_remote_piece pieces[KVT_REMOTE_PIECES];
	/* the pages, and where they or the room for others lie now */
	kvt_extent run;
	kvt_remote_piece places[PIECES];
	unsigned n_places;
	/* a load */
	const kvt_probe_load *load;
	kvt_meter meter;
	lane *lanes;
	unsigned in_flight;
	uint64_t at;
};

/* --- Messages --- */

static void say(kvt_remote_probe *p, const kvt_remote_record *records, unsigned n)
{
	uint8_t bytes[KVT_REMOTE_MESSAGE];
	size_t length = 0;
	for (unsigned i = 0; i < n; i++)
		length += kvt_remote_encode(&records[i], bytes + length);
	kvt_transfer message = {
		.op = KVT_TRANSFER_MESSAGE, .queue = 0, .memory = bytes, .length = length
	};
	p->fabric->ops->submit(p->connection, &message);
}

static void fetched(kvt_remote_probe *p, const kvt_remote_record *record);

static void on_message(
	void *arg, kvt_connection *connection, int queue, const void *bytes, size_t length)
{
	kvt_remote_probe *p = arg;
	kvt_remote_record record;
	kvt_remote_reader_init(&p->reader, bytes, length);
	while (kvt_remote_next(&p->reader, &record) == 1) {
		if (record.id != p->wanted) {
			fetched(p, &record);
			continue;
		}
		p->answered = true;
		p->answer = record;
		if (record.pieces)
			memcpy(p->pieces, record.pieces, record.n * sizeof(*p->pieces));
		kvt_loop_stop(p->loop);
	}
}

static void on_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
	kvt_remote_probe *p = arg;
	p->up = true;
	p->status = kvt_remote_welcome_decode(welcome, bytes, &p->welcome);
	kvt_loop_stop(p->loop);
}

static void on_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	kvt_remote_probe *p = arg;
	uint16_t version = 0;
	kvt_remote_refusal refusal = kvt_remote_refusal_decode(reason, bytes, &version);
	p->down = true;
	p->status = status != 0 ? status : -ECONNRESET;
	p->reason = refusal ? kvt_remote_refusal_text(refusal, version)
			    : g_strdup(g_strerror(-p->status));
	kvt_loop_stop(p->loop);
}

static const kvt_connection_handlers handlers = {
	.up = on_up, .message = on_message, .down = on_down
};

static void give_up(void *arg)
{
	kvt_loop_stop(((kvt_remote_probe *)arg)->loop);
}

/* Runs the loop until something stops it, or has not for too long. */
static void wait(kvt_remote_probe *p)
{
	kvt_event end = kvt_loop_after(p->loop, PATIENCE, give_up, p);
	kvt_real_loop_hold(p->loop);
	kvt_loop_run(p->loop);
	kvt_real_loop_release(p->loop);
	kvt_loop_cancel(p->loop, end);
}

static gboolean fail(const kvt_remote_probe *p, const char *doing, int status, GError **error)
{
	if (p->down)
		return kvt_error_failed(
			error, "the node's connection ended while %s: %s", doing, p->reason);
	return kvt_error_failed(error, "the node failed while %s: %s", doing, g_strerror(-status));
}

/* Asks, and waits for the answer. */
static gboolean ask(
	kvt_remote_probe *p, const char *doing, kvt_remote_record record, GError **error)
{
	record.id = p->wanted = ++p->next_id;
	p->answered = false;
	if (!p->down) {
		say(p, &record, 1);
		wait(p);
	}
	p->wanted = 0;
	if (!p->answered)
		return fail(p, doing, -ETIMEDOUT, error);
	return p->answer.status == 0 || fail(p, doing, p->answer.status, error);
}

/* --- One thing after the other --- */

static void moved(kvt_transfer *transfer)
{
	kvt_remote_probe *p = transfer->arg;
	if (transfer->status != 0 && p->status == 0)
		p->status = transfer->status;
	if (--p->in_flight == 0)
		kvt_loop_stop(p->loop);
}

/* Where the answer says that the run's pages, or the room for them, lie. */
static void keep_places(kvt_remote_probe *p)
{
	p->n_places = MIN(p->answer.n, (uint32_t)PIECES);
	memcpy(p->places, p->pieces, p->n_places * sizeof(*p->places));
}

/* Cuts [0, size) of the places into transfers; how many. */
static unsigned set_transfers(kvt_remote_probe *p, kvt_transfer *transfers, kvt_transfer_op op,
	uint8_t *memory, uint64_t size, void (*done)(kvt_transfer *), void *arg)
{
	unsigned n = 0;
	for (; size > 0 && n < p->n_places; n++) {
		uint64_t length = MIN(size, (uint64_t)p->places[n].n_pages * PAGE);
		transfers[n] = (kvt_transfer){ .op = op,
			.queue = KVT_ANY_QUEUE,
			.memory = memory,
			.region = &p->region,
			.length = length,
			.remote_address = p->places[n].address,
			.remote_key = p->places[n].key,
			.done = done,
			.arg = arg };
		memory += length;
		size -= length;
	}
	return n;
}

static gboolean reserve(
	kvt_remote_probe *p, const kvt_extent *run, uint64_t *ticket, GError **error)
{
	const kvt_remote_record record = { .type = KVT_REMOTE_RESERVE, .run = *run };
	if (!ask(p, "room is reserved", record, error))
		return FALSE;
	*ticket = p->answer.ticket;
	keep_places(p);
	return TRUE;
}

/* The pages that are read. */
static gboolean store(kvt_remote_probe *p, GError **error)
{
	kvt_transfer transfers[PIECES];
	uint64_t checksums[LARGEST / PAGE], ticket;
	if (!reserve(p, &p->run, &ticket, error))
		return FALSE;
	p->in_flight = set_transfers(p, transfers, KVT_TRANSFER_WRITE, p->region.memory,
		kvt_extent_bytes(&p->run), moved, p);
	for (unsigned i = 0, n = p->in_flight; i < n; i++)
		p->fabric->ops->submit(p->connection, &transfers[i]);
	kvt_loop_run(p->loop);
	if (p->status != 0)
		return fail(p, "pages are written", p->status, error);
	kvt_store_checksums(p->region.memory, PAGE, p->run.n_pages, checksums);
	const kvt_remote_record record = { .type = KVT_REMOTE_COMMIT,
		.ticket = ticket,
		.n_checksums = (uint32_t)p->run.n_pages,
		.checksums = checksums };
	return ask(p, "pages are stored", record, error);
}

static gboolean lease(kvt_remote_probe *p, uint64_t *id, GError **error)
{
	const kvt_remote_record record = { .type = KVT_REMOTE_FETCH, .run = p->run };
	if (!ask(p, "pages are leased", record, error))
		return FALSE;
	keep_places(p);
	for (unsigned i = 0; i < p->n_places; i++)
		id[i] = p->places[i].lease;
	return TRUE;
}

/* --- A load --- */

static void submit(lane *l);

static void finished(lane *l)
{
	kvt_remote_probe *p = l->probe;
	p->in_flight--;
	p->meter.stopping |= p->status != 0;
	if (kvt_meter_count(&p->meter, kvt_loop_now(p->loop), l->submitted))
		submit(l);
	else if (p->in_flight == 0)
		kvt_loop_stop(p->loop);
}

static void transferred(kvt_transfer *transfer)
{
	lane *l = transfer->arg;
	if (transfer->status != 0 && l->probe->status == 0)
		l->probe->status = transfer->status;
	if (--l->pending == 0)
		finished(l);
}

/* An answer to a lane's FETCH: its id says which. */
static void fetched(kvt_remote_probe *p, const kvt_remote_record *record)
{
	if (!p->load || record->type != KVT_REMOTE_FETCHED || record->id > p->load->depth)
		return;
	lane *l = &p->lanes[record->id - 1];
	if (record->status != 0 && p->status == 0)
		p->status = record->status;
	l->lease = record->n > 0 ? record->pieces[0].lease : 0;
	finished(l);
}

/* The lease before it goes back with the question. */
static void submit_fetch(lane *l)
{
	kvt_remote_probe *p = l->probe;
	kvt_remote_record records[2] = {
		{ .type = KVT_REMOTE_RELEASE, .n = 1, .leases = &l->lease },
		{ .type = KVT_REMOTE_FETCH, .id = (uint64_t)(l - p->lanes) + 1, .run = p->run }
	};
	records[1].run.n_pages = CLAMP(p->load->size / PAGE, 1, p->run.n_pages);
	if (l->lease != 0)
		say(p, records, 2);
	else
		say(p, &records[1], 1);
}

static void submit(lane *l)
{
	kvt_remote_probe *p = l->probe;
	const kvt_probe_load *load = p->load;
	l->submitted = kvt_loop_now(p->loop);
	p->in_flight++;
	if (load->op == KVT_PROBE_FETCH) {
		submit_fetch(l);
		return;
	}
	/* to memory that was least lately used, as KV goes where no cache has been */
	if (p->at + load->size > MEMORY)
		p->at = 0;
	kvt_transfer_op op = load->op == KVT_PROBE_READ ? KVT_TRANSFER_READ : KVT_TRANSFER_WRITE;
	l->pending = set_transfers(
		p, l->transfers, op, p->region.memory + p->at, load->size, transferred, l);
	p->at += load->size;
	for (unsigned i = 0, n = l->pending; i < n; i++)
		p->fabric->ops->submit(p->connection, &l->transfers[i]);
}

static void drive(kvt_remote_probe *p, kvt_load_result *result, kvt_histogram *latencies)
{
	const kvt_probe_load *load = p->load;
	p->meter = (kvt_meter){ .depth = load->depth,
		.least = load->least,
		.seconds = load->seconds,
		.longest = MIN(LONGEST, p->welcome.lease_ms * 0.5e-3),
		.latencies = latencies };
	kvt_meter_begin(&p->meter, p->loop);
	for (unsigned i = 0; i < load->depth; i++) {
		p->lanes[i].probe = p;
		submit(&p->lanes[i]);
	}
	kvt_real_loop_hold(p->loop);
	kvt_loop_run(p->loop);
	kvt_real_loop_release(p->loop);
	kvt_meter_end(&p->meter, p->loop, load->size, result);
}

/* Where the load moves bytes from or to; back it goes with end_load. */
static gboolean begin_load(
	kvt_remote_probe *p, kvt_extent *room, uint64_t *ticket, uint64_t *leases, GError **error)
{
	*ticket = 0;
	if (p->load->op == KVT_PROBE_READ)
		return lease(p, leases, error);
	room->first_page += room->n_pages;
	return p->load->op == KVT_PROBE_FETCH || reserve(p, room, ticket, error);
}

static void end_load(kvt_remote_probe *p, uint64_t ticket, uint64_t *leases)
{
	const kvt_remote_record abandon = { .type = KVT_REMOTE_ABORT, .ticket = ticket };
	kvt_remote_record release = {
		.type = KVT_REMOTE_RELEASE, .n = p->n_places, .leases = leases
	};
	if (p->load->op == KVT_PROBE_WRITE)
		say(p, &abandon, 1);
	if (p->load->op == KVT_PROBE_READ)
		say(p, &release, 1);
	release.n = 1;
	for (unsigned i = 0; i < p->load->depth; i++) {
		release.leases = &p->lanes[i].lease;
		if (p->lanes[i].lease != 0)
			say(p, &release, 1);
	}
}

bool kvt_remote_probe_run(kvt_remote_probe *p, const kvt_probe_load *load, kvt_load_result *result,
	kvt_histogram *latencies, GError **error)
{
	uint64_t ticket, leases[PIECES];
	kvt_extent room = p->run;
	g_assert(load->depth > 0 && load->size > 0 && load->size <= kvt_extent_bytes(&p->run));
	p->load = load;
	p->status = p->down ? p->status : 0;
	p->lanes = g_new0(lane, load->depth);
	bool good = begin_load(p, &room, &ticket, leases, error);
	if (good) {
		drive(p, result, latencies);
		good = p->status == 0 || fail(p, "it was measured", p->status, error);
		if (!p->down)
			end_load(p, ticket, leases);
	}
	g_clear_pointer(&p->lanes, g_free);
	p->load = NULL;
	if (good && p->meter.counted == 0)
		return kvt_error_failed(error,
			"too few transfers of %" G_GUINT64_FORMAT
			" bytes ended while a lease lasts",
			load->size);
	return good;
}

/* --- Opening --- */

static gboolean connect(
	kvt_remote_probe *p, const kvt_remote_probe_settings *settings, GError **error)
{
	static const char model[] = "kvtier calibrate";
	uint8_t bytes[KVT_FABRIC_HELLO];
	kvt_remote_hello hello = { .version = KVT_REMOTE_VERSION,
		.tenant = settings->tenant.number,
		.model = kvt_store_checksum(model, strlen(model)) };
	memcpy(hello.key, settings->tenant.key, sizeof(hello.key));
	kvt_connection_settings connection = settings->connection;
	connection.message_bytes = KVT_REMOTE_MESSAGE;
	size_t length = kvt_remote_hello_encode(&hello, bytes);
	p->connection = p->fabric->ops->connect(p->fabric, p->domain, settings->address,
		settings->port, &connection, bytes, length, &handlers, p, error);
	if (!p->connection)
		return FALSE;
	wait(p);
	if (p->up && !p->down && p->status == 0)
		return TRUE;
	return kvt_error_failed(error, "node %s:%u: not connected: %s", settings->address,
		settings->port, p->reason ? p->reason : "it does not answer");
}

static gboolean prepare(kvt_remote_probe *p, GError **error)
{
	p->domain = p->fabric->ops->domain_new(p->fabric, error);
	if (!p->domain)
		return FALSE;
	p->arena = kvt_arena_new(MEMORY, KVT_HUGE_TRANSPARENT, false, -1, error);
	if (!p->arena)
		return FALSE;
	uint8_t *memory = kvt_arena_base(p->arena);
	kvt_load_fill(memory, MEMORY);
	int status = p->fabric->ops->region_open(
		p->domain, memory, MEMORY, KVT_FABRIC_LOCAL, &p->region);
	if (status == 0)
		return TRUE;
	p->region = (kvt_fabric_region){ 0 };
	return kvt_error_failed(error, "%d MiB of memory cannot be registered: %s", MEMORY >> 20,
		g_strerror(-status));
}

kvt_remote_probe *kvt_remote_probe_new(kvt_loop *loop, kvt_fabric *fabric,
	const kvt_remote_probe_settings *settings, GError **error)
{
	kvt_remote_probe *p = g_new0(kvt_remote_probe, 1);
	p->loop = loop;
	p->fabric = fabric;
	/* ids of lanes are smaller */
	p->next_id = UINT32_MAX;
	if (prepare(p, error) && connect(p, settings, error)) {
		uint64_t most = MIN(p->welcome.request_bytes, (uint64_t)LARGEST);
		p->run = (kvt_extent){ .n_pages = MAX(most / PAGE, 1), .page_bytes = PAGE };
		if (store(p, error))
			return p;
	}
	kvt_remote_probe_free(p);
	return NULL;
}

void kvt_remote_probe_free(kvt_remote_probe *p)
{
	if (!p)
		return;
	if (p->up && !p->down && p->run.n_pages > 0) {
		const kvt_remote_record record = { .type = KVT_REMOTE_DISCARD, .run = p->run };
		ask(p, "pages are discarded", record, NULL);
	}
	const kvt_fabric_ops *ops = p->fabric->ops;
	if (p->connection && !p->down) {
		ops->disconnect(p->connection);
		wait(p);
	}
	if (p->connection)
		ops->connection_free(p->connection);
	if (p->region.memory)
		ops->region_close(&p->region);
	if (p->domain)
		ops->domain_free(p->domain);
	kvt_arena_free(p->arena);
	g_free(p->reason);
	g_free(p);
}

uint64_t kvt_remote_probe_largest(const kvt_remote_probe *p)
{
	return kvt_extent_bytes(&p->run);
}

uint64_t kvt_remote_probe_memory(const kvt_remote_probe *p)
{
	return MEMORY;
}
