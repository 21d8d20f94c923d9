/* node_fixture.c: a storage node and its clients in one process. */
#include "tests/unit/node_fixture.h"

#include <errno.h>
#include <string.h>

#include "emu/loop/real_loop.h"
#include "emu/tier/uring_tier.h"
#include "tests/unit/store_fixture.h"

/* --- Hosts --- */

node_setup node_setup_default(void)
{
	node_setup setup = {
		.settings = {
			.address = "10.0.0.2",
			.pool_bytes = 16 * NODE_SLAB,
			.slab_bytes = NODE_SLAB,
			.numa_node = -1,
			.lease = 10 * KVT_SECOND,
			.ticket = 10 * KVT_SECOND,
			.patience = 10 * KVT_SECOND,
			.drain = 10 * KVT_SECOND,
			.smallest_page = 512,
			.helpers = 1,
			.n_tenants = 3,
		},
		.store = true,
		.store_capacity = 8 << 20,
		.store_segment = 1 << 20,
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(setup.tenants); i++) {
		kvt_node_tenant_settings *tenant = &setup.tenants[i];
		*tenant = (kvt_node_tenant_settings){ .number = i + 1,
			.capacity = 4 << 20,
			.pool = 16 * NODE_SLAB,
			.held = 16 * NODE_SLAB,
			.connections = 4,
			.requests = 64,
			.models = 2 };
		memset(tenant->key, (int)i + 1, sizeof(tenant->key));
	}
	return setup;
}

static kvt_tier *open_store(node_host *host)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf("[store]\npath = %s\ncapacity = %" G_GUINT64_FORMAT
						"B\nsegment = %" G_GUINT64_FORMAT "B\n",
		host->folder, host->setup.store_capacity, host->setup.store_segment);
	g_autoptr(kvt_config) config = kvt_config_parse("store", text, &error);
	g_assert_no_error(error);
	const kvt_tier_env env = { .loop = host->loop };
	kvt_tier *tier = kvt_tier_open_kind(
		&kvt_tier_store, &env, kvt_config_section(config, "store"), &error);
	g_assert_no_error(error);
	return tier;
}

/* The store's tiers, each in a tier of faults. */
static kvt_tier *faulty_tier(void *arg, uint64_t model)
{
	node_host *host = arg;
	const kvt_tier_env env = { .loop = host->loop, .seed = 1 };
	kvt_tier *tier = kvt_uring_tier_beside(host->tier, model);
	if (host->setup.wrap)
		tier = host->setup.wrap(host->setup.wrap_arg, tier);
	return kvt_fault_tier_new(&env, tier, &host->setup.faults);
}

static void release_faulty(void *arg, kvt_tier *tier)
{
	kvt_tier_close(tier);
}

static unsigned models(void *arg, uint64_t *numbers, unsigned max)
{
	kvt_node_store store = kvt_node_store_over(((node_host *)arg)->tier);
	return store.models(store.arg, numbers, max);
}

static void each(
	void *arg, uint64_t model, void (*run)(void *arg, const kvt_store_run *run), void *run_arg)
{
	kvt_node_store store = kvt_node_store_over(((node_host *)arg)->tier);
	store.each(store.arg, model, run, run_arg);
}

node_host *node_host_new(const node_setup *setup)
{
	g_autoptr(GError) error = NULL;
	node_host *host = g_new0(node_host, 1);
	host->setup = *setup;
	host->loop = kvt_real_loop_new(NULL);
	host->wire = memory_wire_new(host->loop);
	host->far = memory_fabric_new(host->wire, "10.0.0.2", NULL);
	host->near = memory_fabric_new(host->wire, "10.0.0.1", NULL);
	if (setup->store) {
		host->folder = setup->folder ? g_strdup(setup->folder) : store_folder_new();
		host->tier = open_store(host);
		host->store = kvt_node_store_over(host->tier);
		if (kvt_fault_settings_any(&setup->faults) || setup->wrap)
			host->store =
				(kvt_node_store){ faulty_tier, release_faulty, models, each, host };
		host->setup.settings.store = &host->store;
	}
	host->setup.settings.tenants = host->setup.tenants;
	host->node = kvt_node_new(host->loop, host->far, &host->setup.settings, &error);
	g_assert_no_error(error);
	host->address = "10.0.0.2";
	host->port = kvt_node_port(host->node);
	return host;
}

node_host *node_host_far(kvt_loop *loop, kvt_fabric *near, const char *address, uint16_t port)
{
	node_host *host = g_new0(node_host, 1);
	host->loop = loop;
	host->near = near;
	host->address = address;
	host->port = port;
	return host;
}

static void on_drained(void *arg)
{
	node_host *host = arg;
	host->drained = true;
	kvt_loop_stop(host->loop);
}

void node_host_free(node_host *host)
{
	if (host->node) {
		kvt_node_drain(host->node, on_drained, host);
		node_host_until(host, &host->drained);
		kvt_node_free(host->node);
	}
	kvt_tier_close(host->tier);
	host->near->ops->free(host->near);
	if (host->wire) {
		host->far->ops->free(host->far);
		memory_wire_free(host->wire);
	}
	kvt_loop_free(host->loop);
	if (host->folder && !host->setup.folder)
		store_folder_free(g_steal_pointer(&host->folder));
	g_free(host->folder);
	g_free(host);
}

static void on_time(void *arg)
{
	kvt_loop_stop(((node_host *)arg)->loop);
}

void node_host_until(node_host *host, const bool *flag)
{
	kvt_time end = kvt_loop_now(host->loop) + 20 * KVT_SECOND;
	kvt_event event = kvt_loop_at(host->loop, end, on_time, host);
	while (!*flag) {
		g_assert_cmpint(kvt_loop_now(host->loop), <, end);
		kvt_loop_run(host->loop);
	}
	kvt_loop_cancel(host->loop, event);
}

void node_host_run(node_host *host, kvt_time time)
{
	kvt_time end = kvt_loop_now(host->loop) + time;
	kvt_event event = kvt_loop_at(host->loop, end, on_time, host);
	while (kvt_loop_now(host->loop) < end)
		kvt_loop_run(host->loop);
	kvt_loop_cancel(host->loop, event);
}

kvt_node_tenant_state node_host_tenant(const node_host *host, uint32_t number)
{
	return kvt_node_tenant_get(host->node, number - 1);
}

uint64_t node_host_errors(const node_host *host, uint32_t number, const char *cause)
{
	kvt_node_tenant_state state = node_host_tenant(host, number);
	for (unsigned i = 0; i < KVT_NODE_CAUSES; i++)
		if (g_str_equal(kvt_node_cause_names[i], cause))
			return state.counts.errors[i];
	g_assert_not_reached();
}

/* --- Clients --- */

static void on_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
	node_client *client = arg;
	g_assert_cmpint(kvt_remote_welcome_decode(welcome, bytes, &client->welcome), ==, 0);
	client->up = client->ended = true;
	kvt_loop_stop(client->host->loop);
}

static void on_message(
	void *arg, kvt_connection *connection, int queue, const void *bytes, size_t length)
{
	node_client *client = arg;
	kvt_remote_reader *reader = g_new(kvt_remote_reader, 1);
	kvt_remote_record record;
	kvt_remote_reader_init(reader, bytes, length);
	int status;
	while ((status = kvt_remote_next(reader, &record)) == 1) {
		node_answer *answer = g_new0(node_answer, 1);
		g_assert_cmpint(record.type, >=, KVT_REMOTE_FETCHED);
		answer->record = record;
		if (record.pieces)
			memcpy(answer->pieces, record.pieces, record.n * sizeof(*record.pieces));
		if (record.runs)
			memcpy(answer->runs, record.runs, record.n * sizeof(*record.runs));
		if (record.checksums)
			memcpy(answer->checksums, record.checksums, 8 * record.n_checksums);
		g_queue_push_tail(&client->answers, answer);
	}
	g_assert_cmpint(status, ==, 0);
	g_free(reader);
	client->answered = true;
	kvt_loop_stop(client->host->loop);
}

static void on_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	node_client *client = arg;
	uint16_t version;
	client->down = client->ended = client->answered = true;
	client->status = status;
	client->refusal = reason ? kvt_remote_refusal_decode(reason, bytes, &version) : 0;
	kvt_loop_stop(client->host->loop);
}

static const kvt_connection_handlers handlers = { on_up, on_message, on_down };

node_client *node_client_hello(node_host *host, const void *hello, size_t bytes)
{
	const kvt_fabric_ops *ops = host->near->ops;
	const kvt_connection_settings settings = { .queues = 1 };
	node_client *client = g_new0(node_client, 1);
	client->host = host;
	g_queue_init(&client->answers);
	client->domain = ops->domain_new(host->near, NULL);
	client->memory = g_malloc0(NODE_MEMORY);
	g_assert_cmpint(ops->region_open(client->domain, client->memory, NODE_MEMORY,
				KVT_FABRIC_REMOTE_WRITE, &client->region),
		==, 0);
	client->connection = ops->connect(host->near, client->domain, host->address, host->port,
		&settings, hello, bytes, &handlers, client, NULL);
	g_assert_nonnull(client->connection);
	node_host_until(host, &client->ended);
	return client;
}

node_client *node_client_new(node_host *host, uint32_t tenant, uint64_t model)
{
	uint8_t bytes[KVT_FABRIC_HELLO];
	kvt_remote_hello hello = {
		.version = KVT_REMOTE_VERSION, .tenant = tenant, .model = model
	};
	memset(hello.key, (int)tenant, sizeof(hello.key));
	node_client *client =
		node_client_hello(host, bytes, kvt_remote_hello_encode(&hello, bytes));
	client->tenant = tenant;
	return client;
}

void node_client_free(node_client *client)
{
	node_host *host = client->host;
	const kvt_fabric_ops *ops = host->near->ops;
	if (!client->down) {
		unsigned before =
			host->node ? node_host_tenant(host, client->tenant).connections : 0;
		ops->disconnect(client->connection);
		node_host_until(host, &client->down);
		while (host->node && node_host_tenant(host, client->tenant).connections >= before)
			node_host_run(host, KVT_MICROSECOND);
	}
	ops->connection_free(client->connection);
	ops->region_close(&client->region);
	ops->domain_free(client->domain);
	g_queue_clear_full(&client->answers, g_free);
	g_free(client->memory);
	g_free(client);
}

void node_client_say(node_client *client, const void *bytes, size_t length)
{
	kvt_transfer message = {
		.op = KVT_TRANSFER_MESSAGE, .memory = (void *)bytes, .length = length
	};
	client->host->near->ops->submit(client->connection, &message);
}

uint64_t node_client_send(node_client *client, kvt_remote_record record)
{
	uint8_t bytes[KVT_REMOTE_MESSAGE];
	record.id = ++client->next_id;
	node_client_say(client, bytes, kvt_remote_encode(&record, bytes));
	return record.id;
}

node_answer *node_client_wait(node_client *client)
{
	client->answered = !g_queue_is_empty(&client->answers);
	client->answered |= client->down;
	node_host_until(client->host, &client->answered);
	return g_queue_pop_head(&client->answers);
}

node_answer *node_client_ask(node_client *client, kvt_remote_record record)
{
	uint64_t id = node_client_send(client, record);
	node_answer *answer = node_client_wait(client);
	g_assert_true(answer && answer->record.id == id);
	return answer;
}

int node_client_status(node_client *client, kvt_remote_record record)
{
	node_client_send(client, record);
	g_autofree node_answer *answer = node_client_wait(client);
	return answer ? answer->record.status : -ECONNRESET;
}

/* --- Transfers --- */

typedef struct waiting {
	kvt_transfer transfer;
	node_host *host;
	bool done;
} waiting;

static void on_done(kvt_transfer *transfer)
{
	waiting *w = transfer->arg;
	w->done = true;
	kvt_loop_stop(w->host->loop);
}

static int move(node_client *client, kvt_transfer_op op, uint64_t offset, uint64_t address,
	uint32_t key, uint64_t length)
{
	waiting w = { .host = client->host,
		.transfer = { .op = op,
			.memory = client->memory + offset,
			.region = &client->region,
			.length = length,
			.remote_address = address,
			.remote_key = key,
			.done = on_done,
			.arg = &w } };
	g_assert_cmpuint(offset + length, <=, NODE_MEMORY);
	client->host->near->ops->submit(client->connection, &w.transfer);
	node_host_until(client->host, &w.done);
	return w.transfer.status;
}

int node_client_read(
	node_client *client, uint64_t offset, uint64_t address, uint32_t key, uint64_t length)
{
	return move(client, KVT_TRANSFER_READ, offset, address, key, length);
}

int node_client_write(
	node_client *client, uint64_t offset, uint64_t address, uint32_t key, uint64_t length)
{
	return move(client, KVT_TRANSFER_WRITE, offset, address, key, length);
}

/* --- Pages --- */

kvt_extent node_pages(uint64_t first, uint64_t n)
{
	return (kvt_extent){ 5, 6, first, n, NODE_PAGE };
}

/* Each word of a page says which it is. */
static uint64_t word(kvt_extent pages, uint64_t page, uint64_t at, uint8_t seed)
{
	return ((page * 512 + at) * UINT64_C(0x9e3779b97f4a7c15) + pages.context) ^
	       ((uint64_t)pages.layer << 32) ^ seed;
}

void node_pages_make(uint8_t *memory, kvt_extent pages, uint8_t seed)
{
	for (uint64_t p = 0; p < pages.n_pages; p++)
		for (uint64_t i = 0; i < pages.page_bytes / 8; i++) {
			uint64_t value = word(pages, pages.first_page + p, i, seed);
			memcpy(memory + p * pages.page_bytes + 8 * i, &value, 8);
		}
}

bool node_pages_are(const uint8_t *memory, kvt_extent pages, uint8_t seed)
{
	for (uint64_t p = 0; p < pages.n_pages; p++)
		for (uint64_t i = 0; i < pages.page_bytes / 8; i++) {
			uint64_t value = word(pages, pages.first_page + p, i, seed);
			if (memcmp(memory + p * pages.page_bytes + 8 * i, &value, 8) != 0)
				return false;
		}
	return true;
}

node_answer *node_client_lease(node_client *client, kvt_extent pages)
{
	node_answer *answer = node_client_ask(
		client, (kvt_remote_record){ .type = KVT_REMOTE_FETCH, .run = pages });
	g_assert_cmpint(answer->record.status, ==, 0);
	g_assert_cmpuint(answer->record.n, ==, 1);
	return answer;
}

int node_client_commit(node_client *client, const node_answer *room, kvt_extent pages)
{
	uint64_t checksums[KVT_REMOTE_PAGES];
	kvt_store_checksums(client->memory, pages.page_bytes, pages.n_pages, checksums);
	return node_client_status(client, (kvt_remote_record){ .type = KVT_REMOTE_COMMIT,
						  .ticket = room->record.ticket,
						  .n_checksums = (uint32_t)pages.n_pages,
						  .checksums = checksums });
}

int node_client_put(node_client *client, kvt_extent pages, uint8_t seed)
{
	g_autofree node_answer *room = node_client_ask(
		client, (kvt_remote_record){ .type = KVT_REMOTE_RESERVE, .run = pages });
	uint64_t offset = 0;
	if (room->record.status != 0)
		return room->record.status;
	node_pages_make(client->memory, pages, seed);
	for (uint32_t i = 0; i < room->record.n; i++) {
		const kvt_remote_piece *piece = &room->pieces[i];
		uint64_t length = piece->n_pages * pages.page_bytes;
		int status = node_client_write(client, offset, piece->address, piece->key, length);
		if (status != 0)
			return status;
		offset += length;
	}
	g_assert_cmpuint(offset, ==, kvt_extent_bytes(&pages));
	return node_client_commit(client, room, pages);
}

int node_client_get(node_client *client, kvt_extent pages, uint8_t seed, bool direct)
{
	uint64_t bytes = kvt_extent_bytes(&pages), leases[KVT_REMOTE_PIECES], offset = 0;
	uint32_t n_leases = 0;
	memset(client->memory, 0, bytes);
	g_autofree node_answer *answer =
		node_client_ask(client, (kvt_remote_record){ .type = KVT_REMOTE_FETCH,
						.run = pages,
						.address = direct ? client->region.address : 0,
						.key = direct ? client->region.key : 0 });
	if (answer->record.status != 0)
		return answer->record.status;
	for (uint32_t i = 0; i < answer->record.n; i++) {
		const kvt_remote_piece *piece = &answer->pieces[i];
		uint64_t length = piece->n_pages * pages.page_bytes;
		g_assert_true(direct || piece->lease != 0);
		if (piece->lease != 0) {
			int status = node_client_read(
				client, offset, piece->address, piece->key, length);
			if (status != 0)
				return status;
			leases[n_leases++] = piece->lease;
		}
		offset += length;
	}
	g_assert_cmpuint(offset, ==, bytes);
	g_assert_cmpuint(answer->record.n_checksums, ==, pages.n_pages);
	for (uint64_t i = 0; i < pages.n_pages; i++)
		if (kvt_store_checksum(client->memory + i * pages.page_bytes, pages.page_bytes) !=
			answer->checksums[i])
			return -EBADMSG;
	if (n_leases > 0)
		node_client_send(client,
			(kvt_remote_record){
				.type = KVT_REMOTE_RELEASE, .n = n_leases, .leases = leases });
	return node_pages_are(client->memory, pages, seed) ? 0 : -EBADMSG;
}
