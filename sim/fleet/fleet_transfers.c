/* fleet_transfers.c: a wait for the first byte, then a flow; drives slow down while they do both.
 */
#include "sim/fleet/fleet_transfers.h"

#include <math.h>

enum { READS, WRITES };

typedef struct transfer {
	kvt_fleet_transfers *owner;
	kvt_fleet_transfer_spec spec;
	const kvt_fleet_route *route;
	kvt_flow flow;   /* 0: waits for the first byte */
	kvt_time begins; /* the flow */
	double copies;   /* commands or copies */
	uint32_t generation, next_free;
} transfer;

/* What an array of drives is doing. */
typedef struct array_use {
	unsigned n[2]; /* reads, writes */
} array_use;

struct kvt_fleet_transfers {
	kvt_loop *loop;
	kvt_network *network;
	kvt_fleet_links *links;
	GPtrArray *all; /* transfer; slots stay where they are */
	uint32_t first_free;
	unsigned under_way;
	array_use *arrays;
	kvt_link_shares *shares; /* NULL: all are alike */
	const double *slower;    /* [links], or NULL */
	uint64_t moved[KVT_FLEET_TIERS_MAX + 1][KVT_FLEET_TIERS_MAX + 1];
};

kvt_fleet_transfers *kvt_fleet_transfers_new(
	kvt_loop *loop, kvt_network *network, kvt_fleet_links *links)
{
	kvt_fleet_transfers *t = g_new0(kvt_fleet_transfers, 1);
	t->loop = loop;
	t->network = network;
	t->links = links;
	t->all = g_ptr_array_new_with_free_func(g_free);
	t->first_free = UINT32_MAX;
	t->arrays = g_new0(array_use, kvt_fleet_links_n_arrays(links));
	return t;
}

void kvt_fleet_transfers_free(kvt_fleet_transfers *t)
{
	if (!t)
		return;
	g_ptr_array_unref(t->all);
	g_free(t->arrays);
	g_free(t);
}

static transfer *take(kvt_fleet_transfers *t, uint32_t *index)
{
	if (t->first_free != UINT32_MAX) {
		*index = t->first_free;
		transfer *slot = g_ptr_array_index(t->all, *index);
		t->first_free = slot->next_free;
		return slot;
	}
	transfer *slot = g_new0(transfer, 1);
	*index = t->all->len;
	slot->next_free = *index;
	g_ptr_array_add(t->all, slot);
	return slot;
}

static void count_use(kvt_fleet_transfers *t, unsigned index, unsigned what, int change)
{
	if (index == KVT_NO_ARRAY)
		return;
	array_use *use = &t->arrays[index];
	bool was_mixed = use->n[READS] > 0 && use->n[WRITES] > 0;
	use->n[what] += (unsigned)change;
	bool is_mixed = use->n[READS] > 0 && use->n[WRITES] > 0;
	const kvt_fleet_array *array = kvt_fleet_links_array(t->links, index);
	if (is_mixed != was_mixed)
		kvt_network_set_rate(t->network, array->link,
			array->rate * (is_mixed ? array->mixed_efficiency : 1));
}

static void count(const transfer *slot, int change)
{
	count_use(slot->owner, slot->route->reads, READS, change);
	count_use(slot->owner, slot->route->writes, WRITES, change);
	slot->owner->under_way += (unsigned)change;
}

static void finish(void *arg)
{
	transfer *slot = arg;
	kvt_fleet_transfers *t = slot->owner;
	count(slot, -1);
	if (t->shares)
		kvt_link_shares_remove(t->shares, slot->spec.tenant, slot->flow, slot->spec.bytes);
	t->moved[slot->spec.from.level][slot->spec.to.level] += slot->spec.bytes;
	kvt_callback done = slot->spec.done;
	void *done_arg = slot->spec.arg;
	uint32_t index = slot->next_free;
	slot->generation++;
	slot->flow = 0;
	slot->next_free = t->first_free;
	t->first_free = index;
	if (done)
		done(done_arg);
}

static void set_path(const transfer *slot, kvt_flow_spec *flow)
{
	const kvt_path_load load = { .bytes = (double)slot->spec.bytes,
		.device_ios = slot->copies,
		.copy_seconds = slot->copies * slot->route->copy_seconds };
	kvt_path_set_flow(&slot->route->path, &load, flow);
}

static void start_flow(void *arg)
{
	transfer *slot = arg;
	kvt_flow_spec flow = { .bytes = slot->spec.bytes,
		.priority = slot->spec.priority,
		.weight = slot->spec.weight,
		.reserved_rate = slot->spec.reserved_rate,
		.done = finish,
		.arg = slot };
	if (flow.bytes > 0)
		set_path(slot, &flow);
	kvt_link_shares *shares = slot->owner->shares;
	if (shares)
		flow.priority = kvt_link_shares_class(shares, slot->spec.tenant);
	slot->flow = kvt_network_start(slot->owner->network, &flow);
	if (shares)
		kvt_link_shares_add(shares, slot->spec.tenant, slot->flow, &flow);
}

void kvt_fleet_transfers_share(kvt_fleet_transfers *t, kvt_link_shares *shares)
{
	t->shares = shares;
}

kvt_fleet_transfer kvt_fleet_transfers_start(
	kvt_fleet_transfers *t, const kvt_fleet_transfer_spec *spec)
{
	uint32_t index;
	transfer *slot = take(t, &index);
	slot->owner = t;
	slot->spec = *spec;
	slot->route = kvt_fleet_links_route(t->links, spec->from, spec->to);
	slot->copies = ceil((double)spec->bytes / (double)slot->route->io_bytes);
	slot->flow = 0;
	slot->begins = kvt_loop_now(t->loop) + slot->route->latency;
	slot->next_free = index;
	count(slot, 1);
	kvt_loop_at(t->loop, slot->begins, start_flow, slot);
	return (kvt_fleet_transfer)slot->generation << 32 | (index + 1);
}

/* Seconds for the bytes on idle links, or on such as are so much slower. */
static kvt_time alone(const transfer *slot, const double *slower)
{
	kvt_flow_spec flow = { 0 };
	if (slot->spec.bytes == 0)
		return 0;
	set_path(slot, &flow);
	double seconds = 0;
	for (unsigned i = 0; i < slot->route->path.n_hops; i++)
		seconds = MAX(seconds,
			(double)slot->spec.bytes * flow.cost[i] / slot->route->path.hops[i].rate *
				(slower ? slower[slot->route->path.hops[i].link] : 1));
	return kvt_time_from_seconds(seconds);
}

kvt_time kvt_fleet_transfers_left(kvt_fleet_transfers *t, kvt_fleet_transfer id)
{
	uint32_t index = (uint32_t)id - 1;
	if (id == 0)
		return 0;
	transfer *slot = g_ptr_array_index(t->all, index);
	if (slot->generation != id >> 32)
		return 0;
	if (slot->flow == 0)
		return MAX(slot->begins - kvt_loop_now(t->loop), 0) + alone(slot, NULL);
	double rate = kvt_network_flow_rate(t->network, slot->flow);
	uint64_t left = kvt_network_flow_left(t->network, slot->flow);
	if (left == 0)
		return 0;
	return rate > 0 ? kvt_time_for_bytes(left, rate) : KVT_TIME_NEVER;
}

kvt_time kvt_fleet_transfers_alone(
	kvt_fleet_transfers *t, kvt_fleet_place from, kvt_fleet_place to, uint64_t bytes)
{
	transfer slot = { .spec = { .from = from, .to = to, .bytes = bytes } };
	slot.route = kvt_fleet_links_route(t->links, from, to);
	slot.copies = ceil((double)bytes / (double)slot.route->io_bytes);
	return slot.route->latency + alone(&slot, t->slower);
}

void kvt_fleet_transfers_set_slower(kvt_fleet_transfers *t, const double *slower)
{
	t->slower = slower;
}

unsigned kvt_fleet_transfers_under_way(const kvt_fleet_transfers *t)
{
	return t->under_way;
}

uint64_t kvt_fleet_transfers_moved(const kvt_fleet_transfers *t, unsigned from, unsigned to)
{
	return t->moved[from][to];
}
