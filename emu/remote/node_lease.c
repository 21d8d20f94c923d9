/*
 * node_lease.c: what clients may touch in the pool and until when: leases, which they read under,
 * tickets, which they write under, and the keys of slabs. A key dies before its slab's memory is
 * anybody else's.
 */
#include "emu/remote/node_internal.h"

/* Leases of a tenant at most: what they cost in memory. */
#define LEASES_MOST 65536u

/* --- Keys --- */

int kvt_node_slab_opened(void *arg, kvt_slab *slab)
{
	kvt_node *node = arg;
	const kvt_fabric_ops *ops = node->fabric->ops;
	node_tenant *tenant = kvt_node_tenant_find(node, slab->tenant);
	node_slab *state = g_new0(node_slab, 1);
	uint64_t bytes = node->settings.slab_bytes;
	int status = ops->region_open(
		tenant->domain, slab->memory, bytes, KVT_FABRIC_REMOTE_READ, &state->read);
	if (status == 0 && slab->use == KVT_SLAB_WRITTEN) {
		status = ops->region_open(tenant->domain, slab->memory, bytes,
			KVT_FABRIC_REMOTE_WRITE, &state->write);
		state->writable = status == 0;
		if (status != 0)
			ops->region_close(&state->read);
	}
	if (status != 0) {
		node->region_errors++;
		g_free(state);
		return status;
	}
	slab->state = state;
	return 0;
}

/* When nobody is to write to it any more, nobody can. */
static void check_writable(kvt_node *node, kvt_slab *slab)
{
	node_slab *state = slab->state;
	if (!state->writable || slab->filling || state->tickets > 0)
		return;
	node->fabric->ops->region_close(&state->write);
	state->writable = false;
}

void kvt_node_unwrite(kvt_node *node, kvt_slab *slab)
{
	((node_slab *)slab->state)->tickets--;
	check_writable(node, slab);
}

void kvt_node_slab_sealed(void *arg, kvt_slab *slab)
{
	check_writable(arg, slab);
}

void kvt_node_slab_closed(void *arg, kvt_slab *slab)
{
	kvt_node *node = arg;
	node_slab *state = slab->state;
	if (state->writable)
		node->fabric->ops->region_close(&state->write);
	node->fabric->ops->region_close(&state->read);
	g_free(state);
	slab->state = NULL;
}

/* --- Leases --- */

node_lease *kvt_node_lease(node_session *session, kvt_slab *slab)
{
	kvt_node *node = session->node;
	node_tenant *tenant = session->tenant;
	uint64_t held = kvt_slab_pool_held(node->pool, tenant->settings.number);
	if (tenant->leases >= LEASES_MOST ||
		held * node->settings.slab_bytes > tenant->settings.held)
		return NULL;
	node_lease *lease = g_new0(node_lease, 1);
	lease->id = ++node->next_lease;
	lease->session = session;
	lease->slab = slab;
	lease->end = kvt_loop_now(node->loop) + node->settings.lease;
	kvt_slab_hold(node->pool, slab);
	lease->earlier = node->newest_lease;
	*(node->newest_lease ? &node->newest_lease->later : &node->oldest_lease) = lease;
	node->newest_lease = lease;
	lease->next = session->leases;
	if (lease->next)
		lease->next->previous = lease;
	session->leases = lease;
	g_hash_table_insert(node->leases, &lease->id, lease);
	session->n_leases++;
	tenant->leases++;
	tenant->counts.leases++;
	kvt_node_set_timer(node);
	return lease;
}

void kvt_node_lease_end(node_lease *lease)
{
	node_session *session = lease->session;
	kvt_node *node = session->node;
	*(lease->earlier ? &lease->earlier->later : &node->oldest_lease) = lease->later;
	*(lease->later ? &lease->later->earlier : &node->newest_lease) = lease->earlier;
	*(lease->previous ? &lease->previous->next : &session->leases) = lease->next;
	if (lease->next)
		lease->next->previous = lease->previous;
	g_hash_table_remove(node->leases, &lease->id);
	session->n_leases--;
	session->tenant->leases--;
	kvt_slab_drop(node->pool, lease->slab);
	g_free(lease);
	if (!node->oldest_lease)
		kvt_node_set_timer(node);
	kvt_node_room(node);
	kvt_node_check_drain(node);
}

/* --- Tickets --- */

node_ticket *kvt_node_ticket(node_request *request, GPtrArray *blocks)
{
	node_session *session = request->session;
	kvt_node *node = session->node;
	node_ticket *ticket = g_new0(node_ticket, 1);
	ticket->id = ++node->next_ticket;
	ticket->session = session;
	ticket->run = request->run;
	ticket->priority = request->priority;
	ticket->blocks = blocks;
	ticket->end = kvt_loop_now(node->loop) + node->settings.ticket;
	ticket->earlier = node->newest_ticket;
	*(node->newest_ticket ? &node->newest_ticket->later : &node->oldest_ticket) = ticket;
	node->newest_ticket = ticket;
	ticket->next = session->tickets;
	if (ticket->next)
		ticket->next->previous = ticket;
	session->tickets = ticket;
	g_hash_table_insert(node->tickets, &ticket->id, ticket);
	session->requests++;
	session->tenant->requests++;
	session->tenant->tickets++;
	session->tenant->counts.tickets++;
	session->tenant->reserved += request->bytes;
	kvt_node_set_timer(node);
	return ticket;
}

/* The timer is not for those that are committing: they end when the store says. */
static void unlist_ticket(kvt_node *node, node_ticket *ticket)
{
	*(ticket->earlier ? &ticket->earlier->later : &node->oldest_ticket) = ticket->later;
	*(ticket->later ? &ticket->later->earlier : &node->newest_ticket) = ticket->earlier;
}

void kvt_node_ticket_end(node_ticket *ticket)
{
	node_session *session = ticket->session;
	kvt_node *node = session->node;
	unlist_ticket(node, ticket);
	*(ticket->previous ? &ticket->previous->next : &session->tickets) = ticket->next;
	if (ticket->next)
		ticket->next->previous = ticket->previous;
	g_hash_table_remove(node->tickets, &ticket->id);
	kvt_page_map_release(
		session->model->pages, session->tenant->settings.number, &ticket->run.pages);
	session->tenant->reserved -= kvt_extent_bytes(&ticket->run.pages);
	session->tenant->requests--;
	session->tenant->tickets--;
	session->requests--;
	for (guint i = 0; i < ticket->blocks->len; i++) {
		kvt_slab *slab = ((kvt_slab_block *)g_ptr_array_index(ticket->blocks, i))->slab;
		kvt_node_unwrite(node, slab);
		kvt_slab_drop(node->pool, slab);
	}
	g_ptr_array_unref(ticket->blocks);
	g_free(ticket);
	if (!node->oldest_ticket)
		kvt_node_set_timer(node);
	kvt_node_room(node);
	kvt_node_check_drain(node);
}

/* --- Time --- */

static void expire(void *arg)
{
	kvt_node *node = arg;
	kvt_time now = kvt_loop_now(node->loop);
	node->timer = 0;
	while (node->oldest_lease && node->oldest_lease->end <= now) {
		node->oldest_lease->session->tenant->counts.expired_leases++;
		kvt_node_lease_end(node->oldest_lease);
	}
	node_ticket *next;
	for (node_ticket *ticket = node->oldest_ticket; ticket && ticket->end <= now;
		ticket = next) {
		next = ticket->later;
		if (ticket->committing)
			continue;
		ticket->session->tenant->counts.expired_tickets++;
		kvt_node_ticket_end(ticket);
	}
	kvt_node_set_timer(node);
}

void kvt_node_set_timer(kvt_node *node)
{
	const node_ticket *ticket = node->oldest_ticket;
	while (ticket && ticket->committing)
		ticket = ticket->later;
	kvt_time lease = node->oldest_lease ? node->oldest_lease->end : KVT_TIME_NEVER;
	kvt_time first = MIN(lease, ticket ? ticket->end : KVT_TIME_NEVER);
	/* one that is too early finds nothing, and sets the next */
	if (node->timer != 0 && node->timer_at <= first && first != KVT_TIME_NEVER)
		return;
	kvt_loop_cancel(node->loop, node->timer);
	node->timer = kvt_loop_at(node->loop, first, expire, node);
	node->timer_at = first;
}
