/*
 * fuzz_node.c: any client of a storage node. An input is a list of acts of eight bytes each:
 * requests with likely and unlikely numbers, transfers with keys that were told, changed or
 * guessed, and any bytes as a message. Whatever it does, the node lives, another tenant's pages are
 * what they were, and nothing is held for the client once it has gone.
 */
#include <errno.h>
#include <string.h>

#include "tests/unit/node_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ACT = 8, ACTS_MAX = 100, CONNECTIONS_MAX = 8 };

typedef struct play {
	node_host *host;
	node_client *client;
	unsigned connections;
	kvt_remote_piece piece; /* that an answer told of last */
	uint64_t ticket, cursor;
	kvt_extent written;
} play;

static void take_answers(play *p)
{
	node_answer *answer;
	while ((answer = g_queue_pop_head(&p->client->answers))) {
		const kvt_remote_record *r = &answer->record;
		g_assert(r->status <= 0);
		if (r->n > 0 && (r->type == KVT_REMOTE_FETCHED || r->type == KVT_REMOTE_RESERVED))
			p->piece = answer->pieces[0];
		if (r->type == KVT_REMOTE_RESERVED && r->status == 0)
			p->ticket = r->ticket;
		if (r->type == KVT_REMOTE_LISTED)
			p->cursor = r->cursor;
		g_free(answer);
	}
}

static kvt_extent run_of(const uint8_t *act)
{
	static const uint64_t sizes[] = { NODE_PAGE, NODE_PAGE, 512, 100, NODE_SLAB, NODE_SLAB + 1,
		(uint64_t)1 << 40, 8 };
	kvt_extent run = { act[1] % 3, act[1] / 128, act[2], 1 + act[3] % 20,
		sizes[act[4] % G_N_ELEMENTS(sizes)] };
	if (act[3] >= 250)
		run.n_pages = KVT_REMOTE_PAGES;
	if (act[2] >= 250)
		run.first_page = UINT64_MAX - KVT_REMOTE_PAGES - act[2];
	return run;
}

static void request(play *p, const uint8_t *act)
{
	uint64_t numbers[KVT_REMOTE_LEASES];
	kvt_remote_record r = { .run = run_of(act), .priority = act[5] % KVT_PRIORITY_CLASSES };
	unsigned told = act[6] % 4; /* how much of what was told is used */
	r.type = (kvt_remote_type)(KVT_REMOTE_FETCH + act[0] % 7);
	if (r.type != KVT_REMOTE_FETCH && r.type != KVT_REMOTE_RESERVE)
		r.priority = 0;
	if (!kvt_extent_valid(&r.run))
		return;
	if (r.type == KVT_REMOTE_FETCH && told > 0) {
		r.address = p->client->region.address + (told == 2 ? NODE_MEMORY - 1 : 0);
		r.key = p->client->region.key + (told == 3);
	}
	r.ticket = told == 0 ? act[7] : p->ticket;
	r.cursor = told == 0 ? act[7] : p->cursor;
	for (unsigned i = 0; i < KVT_REMOTE_LEASES; i++)
		numbers[i] = told == 0 ? act[7] + i : p->piece.lease;
	if (r.type == KVT_REMOTE_RELEASE) {
		r.n = 1 + act[3] % 200;
		r.leases = numbers;
	}
	if (r.type == KVT_REMOTE_COMMIT) {
		r.n_checksums = (uint32_t)(told == 3 ? 1u + act[3] : p->written.n_pages);
		r.n_checksums = MAX(r.n_checksums, 1);
		if (told != 2)
			kvt_store_checksums(p->client->memory, NODE_PAGE,
				MIN(r.n_checksums, NODE_MEMORY / NODE_PAGE), numbers);
		r.checksums = numbers;
	}
	if (r.type == KVT_REMOTE_RESERVE)
		p->written = r.run;
	node_client_send(p->client, r);
}

/* Reads or writes the node's memory with what was told, or near it. */
static void transfer(play *p, const uint8_t *act)
{
	uint64_t address = p->piece.address + (act[2] % 4 == 0 ? (uint64_t)act[3] << 10 : 0);
	uint32_t key = p->piece.key + (act[4] % 4 == 0 ? act[5] : 0);
	uint64_t length = 1 + (uint64_t)act[6] * 300;
	if (act[1] % 2)
		node_client_read(p->client, NODE_MEMORY / 2, address, key, length);
	else
		node_client_write(p->client, 0, address, key, length);
}

static void act_once(play *p, const uint8_t *act, const uint8_t *rest, size_t left)
{
	if (p->client->down) {
		node_client_free(p->client);
		p->client = node_client_new(p->host, 1, NODE_MODEL + act[1] % 2);
		p->connections++;
		/* a second of the old ones may still count */
		if (p->client->down)
			return;
	}
	switch (act[0] % 16) {
	case 7:
		node_client_say(p->client, rest, MIN(left, KVT_REMOTE_MESSAGE));
		break;
	case 8:
	case 9:
		transfer(p, act);
		break;
	case 10:
		node_pages_make(p->client->memory, node_pages(act[1], 16), act[2]);
		break;
	case 11:
		node_host_run(p->host, act[1] * 10 * KVT_MICROSECOND);
		break;
	default:
		request(p, act);
		break;
	}
	if (act[7] % 2)
		node_host_run(p->host, 50 * KVT_MICROSECOND);
	take_answers(p);
}

static int put(node_client *client)
{
	return node_client_put(client, node_pages(0, 16), 3);
}

static int get_direct(node_client *client)
{
	return node_client_get(client, node_pages(0, 16), 3, true);
}

static int get_leased(node_client *client)
{
	return node_client_get(client, node_pages(0, 16), 3, false);
}

/* On a busy machine a ticket or a lease may run out before it is used, which cuts the connection.
 */
static void succeed(node_client **client, int (*act)(node_client *client))
{
	node_host *host = (*client)->host;
	for (unsigned i = 0; act(*client) != 0; i++) {
		g_assert(i < 1000);
		if ((*client)->down) {
			node_client_free(*client);
			*client = node_client_new(host, 2, NODE_MODEL);
			g_assert(!(*client)->down);
		}
	}
}

static void check_end(node_host *host, node_client **sound)
{
	kvt_node_tenant_state state = node_host_tenant(host, 1);
	for (unsigned i = 0; i < 1000 && state.requests + state.connections > 0; i++) {
		node_host_run(host, i * 10 * KVT_MICROSECOND);
		state = node_host_tenant(host, 1);
	}
	g_assert(state.requests + state.leases + state.tickets + state.connections == 0);
	g_assert(state.reserved == 0 && state.held_bytes == 0);
	g_assert(state.used <= state.capacity);
	succeed(sound, get_direct);
	succeed(sound, get_leased);
	g_autofree char *metrics = kvt_node_metrics(host->node);
	g_assert(g_utf8_validate(metrics, -1, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	node_setup setup = node_setup_default();
	setup.store = data[0] % 4 == 1;
	setup.settings.helpers = data[0] / 4 % 2;
	setup.settings.pool_bytes = 6 * NODE_SLAB;
	setup.settings.patience = KVT_MILLISECOND;
	setup.settings.lease = (1 + data[0] / 64) * KVT_MILLISECOND;
	setup.settings.ticket = 5 * KVT_MILLISECOND;
	setup.tenants[0].held = 3 * NODE_SLAB;
	setup.tenants[0].pool = 4 * NODE_SLAB;
	setup.tenants[0].requests = 16;
	play p = { .host = node_host_new(&setup), .written = node_pages(0, 1) };
	node_client *sound = node_client_new(p.host, 2, NODE_MODEL);
	succeed(&sound, put);
	p.client = node_client_new(p.host, 1, NODE_MODEL);
	for (size_t i = 1; i + ACT <= size && i < ACT * ACTS_MAX; i += ACT)
		if (p.connections < CONNECTIONS_MAX)
			act_once(&p, data + i, data + i + ACT, size - i - ACT);
	node_client_free(p.client);
	check_end(p.host, &sound);
	node_client_free(sound);
	node_host_free(p.host);
	return 0;
}
