/*
 * remote_link.c: a tenant's connection to its node: opened, told what there is, lost and sought
 * again after a pause; and what the node is to forget.
 */
#include <errno.h>
#include <string.h>

#include "emu/remote/remote_tier_internal.h"

const char *const kvt_remote_loss_names[KVT_REMOTE_LOSSES] = { "refused", "unreachable", "reset",
	"timed out", "silent", "denied", "protocol" };

remote_link *kvt_remote_link_new(remote_tier *tier, uint32_t local, const kvt_remote_tenant *tenant)
{
	remote_link *link = g_new0(remote_link, 1);
	link->tier = tier;
	link->tenant = *tenant;
	link->local = local;
	link->pause = tier->settings.pause;
	link->slots = g_ptr_array_new();
	link->free_slots = g_array_new(FALSE, FALSE, sizeof(unsigned));
	link->doomed = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
	link->layers = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	link->releases = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	return link;
}

static void clear_layers(remote_link *link)
{
	GHashTableIter iter;
	gpointer layer;
	kvt_remote_grants_clear(link);
	g_hash_table_iter_init(&iter, link->layers);
	while (g_hash_table_iter_next(&iter, &layer, NULL))
		kvt_store_spans_clear(&((remote_layer *)layer)->grants);
	g_hash_table_remove_all(link->layers);
}

static void stop_events(remote_link *link)
{
	kvt_loop_cancel(link->tier->loop, link->timer);
	kvt_loop_cancel(link->tier->loop, link->flush);
	kvt_loop_cancel(link->tier->loop, link->retry);
	link->timer = link->flush = link->retry = 0;
	for (unsigned i = 0; i < KVT_FABRIC_QUEUES; i++)
		link->messages[i].length = 0;
}

/* --- Discards --- */

typedef struct discard_request {
	remote_request request;
	kvt_extent run;
} discard_request;

static void discarded(remote_request *request, const kvt_remote_record *record, int status)
{
	discard_request *d = request->arg;
	/* what could not be done is done when the node is there again */
	if (status != 0)
		g_array_append_val(request->link->doomed, d->run);
	g_free(d);
}

static void send_discard(remote_link *link, const kvt_extent *run)
{
	if (link->state != REMOTE_UP && link->state != REMOTE_LISTING) {
		g_array_append_val(link->doomed, *run);
		return;
	}
	discard_request *d = g_new0(discard_request, 1);
	kvt_remote_record record = { .type = KVT_REMOTE_DISCARD, .run = *run };
	d->run = *run;
	d->request.answered = discarded;
	d->request.arg = d;
	kvt_remote_ask(link, REMOTE_IN_ORDER, &d->request, &record);
}

void kvt_remote_link_free(remote_link *link)
{
	stop_events(link);
	if (link->connection)
		link->tier->fabric->ops->connection_free(link->connection);
	link->state = REMOTE_DOWN;
	for (remote_request *request = link->oldest, *next; request; request = next) {
		next = request->later;
		if (request->answered == discarded)
			g_free(request->arg);
	}
	clear_layers(link);
	for (unsigned i = 0; i < KVT_FABRIC_QUEUES; i++)
		g_free(link->messages[i].bytes);
	g_hash_table_unref(link->layers);
	g_ptr_array_unref(link->slots);
	g_array_unref(link->free_slots);
	g_array_unref(link->doomed);
	g_array_unref(link->releases);
	g_queue_clear(&link->deferred);
	g_free(link->reason);
	g_free(link);
}

/* A write in flight that replaces pages of the run, and which of its extents does. */
static remote_io *find_write(const remote_link *link, const kvt_extent *run, unsigned *which)
{
	const remote_tier *tier = link->tier;
	for (guint i = 0; i < tier->ios->len; i++) {
		remote_io *io = g_ptr_array_index(tier->ios, i);
		if (!io->in_use || io->link != link || io->io->op != KVT_IO_WRITE)
			continue;
		for (*which = 0; *which < io->io->n_extents; (*which)++)
			if (kvt_extent_overlaps(&io->io->extents[*which], run))
				return io;
	}
	return NULL;
}

void kvt_remote_link_discard(remote_link *link, const kvt_extent *run)
{
	unsigned which;
	if (link->state == REMOTE_NEW || run->n_pages == 0)
		return;
	remote_io *write = find_write(link, run, &which);
	if (!write) {
		send_discard(link, run);
		return;
	}
	/* the write may be at the node already: its pages are not to go with those before them */
	const kvt_extent *other = &write->io->extents[which];
	uint64_t end = run->first_page + run->n_pages,
		 other_end = other->first_page + other->n_pages;
	kvt_extent before = *run, within = *run, behind = *run;
	within.first_page = MAX(run->first_page, other->first_page);
	within.n_pages = MIN(end, other_end) - within.first_page;
	g_array_append_val(write->skipped, within);
	before.n_pages = within.first_page - run->first_page;
	behind.first_page = within.first_page + within.n_pages;
	behind.n_pages = end - behind.first_page;
	kvt_remote_link_discard(link, &before);
	kvt_remote_link_discard(link, &behind);
}

/* --- Up --- */

/* What was known is as the node says now. */
static void forget_all(remote_link *link)
{
	GHashTableIter iter;
	gpointer layer;
	g_hash_table_iter_init(&iter, link->layers);
	while (g_hash_table_iter_next(&iter, &layer, NULL))
		kvt_page_store_discard(
			link->tier->pages, link->local, &((remote_layer *)layer)->all);
	clear_layers(link);
	link->dropped = 0;
}

static void ask_list(remote_link *link, uint64_t cursor);

static void come_up(remote_link *link)
{
	remote_tier *tier = link->tier;
	link->state = REMOTE_UP;
	link->was_up = true;
	link->pause = tier->settings.pause;
	tier->counts.connects++;
	remote_io *io = link->waiting, *next;
	link->waiting = link->last_waiting = NULL;
	for (; io; io = next) {
		next = io->next;
		kvt_remote_begin(io);
	}
	if (tier->opening)
		kvt_loop_stop(tier->loop);
}

static void listed(remote_request *request, const kvt_remote_record *record, int status)
{
	remote_link *link = request->link;
	remote_tier *tier = link->tier;
	if (!record)
		return;
	if (status != 0) {
		kvt_remote_link_lose(link, KVT_REMOTE_LOSS_REFUSED);
		return;
	}
	for (uint32_t i = 0; i < record->n; i++) {
		const kvt_extent *run = &record->runs[i];
		kvt_remote_layer(link, run);
		if (!kvt_page_store_preload(tier->pages, link->local, run))
			link->dropped += run->n_pages;
	}
	if (record->cursor != 0)
		ask_list(link, record->cursor);
	else
		come_up(link);
}

static void ask_list(remote_link *link, uint64_t cursor)
{
	kvt_remote_record record = { .type = KVT_REMOTE_LIST, .cursor = cursor };
	link->listing.answered = listed;
	kvt_remote_ask(link, REMOTE_IN_ORDER, &link->listing, &record);
}

static void on_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
	remote_link *link = arg;
	remote_tier *tier = link->tier;
	if (kvt_remote_welcome_decode(welcome, bytes, &link->welcome) != 0) {
		kvt_remote_link_lose(link, KVT_REMOTE_LOSS_PROTOCOL);
		return;
	}
	if (!tier->pages)
		kvt_remote_tier_make_books(tier, link->welcome.capacity);
	link->state = REMOTE_LISTING;
	link->queues = tier->fabric->ops->queues(connection);
	forget_all(link);
	GArray *doomed = link->doomed;
	link->doomed = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
	for (guint i = 0; i < doomed->len; i++)
		send_discard(link, &g_array_index(doomed, kvt_extent, i));
	g_array_unref(doomed);
	ask_list(link, 0);
	kvt_remote_flush(link);
}

static void on_message(
	void *arg, kvt_connection *connection, int queue, const void *bytes, size_t length)
{
	kvt_remote_on_message(arg, bytes, length);
}

/* --- Down --- */

static kvt_remote_loss loss_of(const remote_link *link, int status)
{
	bool opening = link->state == REMOTE_CONNECTING;
	if (link->lost)
		return link->loss;
	switch (status) {
	case -ECONNREFUSED:
		return KVT_REMOTE_LOSS_REFUSED;
	case -ENETUNREACH:
	case -EHOSTUNREACH:
		return KVT_REMOTE_LOSS_UNREACHABLE;
	case -ETIMEDOUT:
		return opening ? KVT_REMOTE_LOSS_UNREACHABLE : KVT_REMOTE_LOSS_TIMED_OUT;
	default:
		return KVT_REMOTE_LOSS_RESET;
	}
}

static char *describe(const remote_link *link, int status, const void *reason, size_t bytes)
{
	static const char *const texts[KVT_REMOTE_LOSSES] = {
		[KVT_REMOTE_LOSS_REFUSED] = "nobody listens there",
		[KVT_REMOTE_LOSS_UNREACHABLE] = "it cannot be reached",
		[KVT_REMOTE_LOSS_RESET] = "the node closed the connection or has gone",
		[KVT_REMOTE_LOSS_TIMED_OUT] = "its device does not answer",
		[KVT_REMOTE_LOSS_SILENT] = "its process does not answer",
		[KVT_REMOTE_LOSS_DENIED] =
			"memory that had been leased could not be read or written",
		[KVT_REMOTE_LOSS_PROTOCOL] = "what it says is not the protocol",
	};
	uint16_t version;
	if (status == -ECONNREFUSED && bytes > 0) {
		kvt_remote_refusal refusal = kvt_remote_refusal_decode(reason, bytes, &version);
		return kvt_remote_refusal_text(refusal, version);
	}
	return g_strdup(texts[link->loss]);
}

/* There is no connection: the next one is sought after a pause, which grows. */
static void rest(remote_link *link)
{
	remote_tier *tier = link->tier;
	link->state = REMOTE_DOWN;
	link->lost = false;
	link->retry_at = kvt_loop_now(tier->loop) + link->pause;
	link->pause = MIN(2 * link->pause, tier->settings.longest_pause);
	tier->counts.losses[link->loss]++;
	if (tier->opening)
		kvt_loop_stop(tier->loop);
}

static void fail_ios(remote_link *link)
{
	remote_tier *tier = link->tier;
	remote_io *io = link->waiting, *next;
	for (guint i = 0; i < tier->ios->len; i++) {
		remote_io *other = g_ptr_array_index(tier->ios, i);
		if (other->in_use && other->link == link)
			kvt_remote_fail(other, -EIO,
				other->begun ? KVT_REMOTE_FAILURE_LOST : KVT_REMOTE_FAILURE_DOWN);
	}
	link->waiting = link->last_waiting = NULL;
	kvt_remote_fail_requests(link);
	kvt_remote_fail_deferred(link);
	for (; io; io = next) {
		next = io->next;
		kvt_remote_finish(io);
	}
	kvt_remote_pump(tier);
}

static void on_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	remote_link *link = arg;
	link->loss = loss_of(link, status);
	g_free(link->reason);
	link->reason = describe(link, status, reason, bytes);
	link->tier->fabric->ops->connection_free(connection);
	link->connection = NULL;
	stop_events(link);
	rest(link);
	kvt_remote_grants_clear(link);
	fail_ios(link);
}

void kvt_remote_link_lose(remote_link *link, kvt_remote_loss loss)
{
	if (link->state >= REMOTE_ENDING || link->state == REMOTE_NEW)
		return;
	link->loss = loss;
	link->lost = true;
	link->state = REMOTE_ENDING;
	link->tier->fabric->ops->disconnect(link->connection);
}

void kvt_remote_link_wake(remote_link *link)
{
	static const kvt_connection_handlers handlers = { on_up, on_message, on_down };
	remote_tier *tier = link->tier;
	bool due = link->state == REMOTE_DOWN && kvt_loop_now(tier->loop) >= link->retry_at;
	if (link->state != REMOTE_NEW && !due)
		return;
	uint8_t bytes[KVT_FABRIC_HELLO];
	kvt_remote_hello hello = {
		.version = KVT_REMOTE_VERSION, .tenant = link->tenant.number, .model = tier->model
	};
	memcpy(hello.key, link->tenant.key, sizeof(hello.key));
	g_autoptr(GError) error = NULL;
	link->state = REMOTE_CONNECTING;
	link->connection = tier->fabric->ops->connect(tier->fabric, tier->domain, tier->address,
		tier->settings.port, &tier->settings.connection, bytes,
		kvt_remote_hello_encode(&hello, bytes), &handlers, link, &error);
	if (link->connection)
		return;
	g_free(link->reason);
	link->reason = g_strdup(error->message);
	link->loss = KVT_REMOTE_LOSS_UNREACHABLE;
	rest(link);
}
