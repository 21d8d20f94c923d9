/* block_tier.c: states, pins and counters of pieces; what leaves is a policy's choice, or one of
 * its tenant's own. */
#include "sim/fleet/block_tier.h"

static void make_quotas(
	kvt_block_tier *tier, const kvt_block_tier_settings *settings, uint32_t most)
{
	const kvt_block_names *names = settings->names;
	tier->quotas = g_memdup2(settings->quotas, tier->n_tenants * sizeof(*tier->quotas));
	tier->tenant_policies = g_new0(kvt_policy *, tier->n_tenants);
	tier->tenant_start = g_new0(uint32_t, tier->n_tenants);
	for (uint32_t tenant = 0; tenant < tier->n_tenants; tenant++) {
		if (tier->quotas[tenant] == 0)
			continue;
		/* names that are shared may be charged to anyone */
		uint32_t scope = names->shared ? 0 : names->scope[tenant];
		uint32_t start = names->shared ? 0 : names->start[scope];
		uint32_t end = names->shared ? names->n_names : names->start[scope + 1];
		uint32_t n = MAX((end - start) * tier->n_kinds, 1);
		/* above his quota, too, while nobody else needs the room */
		tier->tenant_start[tenant] = start * tier->n_kinds;
		tier->tenant_policies[tenant] = kvt_policy_new(settings->policy, n, MIN(n, most));
	}
}

kvt_block_tier *kvt_block_tier_new(const kvt_block_tier_settings *settings)
{
	const kvt_block_names *names = settings->names;
	g_assert(names->sealed && settings->n_kinds > 0);
	g_assert((uint64_t)names->n_names * settings->n_kinds < UINT32_MAX / 2);
	kvt_block_tier *tier = g_new0(kvt_block_tier, 1);
	tier->name = g_strdup(settings->name);
	tier->capacity = settings->capacity;
	tier->n_kinds = settings->n_kinds;
	tier->n_pieces = names->n_names * settings->n_kinds;
	tier->n_tenants = names->n_tenants;
	uint64_t smallest = UINT64_MAX;
	for (uint32_t kind = 0; kind < settings->n_kinds; kind++) {
		g_assert(settings->piece_bytes[kind] > 0);
		tier->piece_bytes[kind] = settings->piece_bytes[kind];
		smallest = MIN(smallest, settings->piece_bytes[kind]);
	}
	uint32_t n = MAX(tier->n_pieces, 1);
	tier->counts = g_new0(kvt_block_tier_count, tier->n_tenants);
	tier->link = g_new(uint32_t, n);
	tier->state = g_new0(uint8_t, n);
	tier->pinned = g_new0(uint8_t, n);
	tier->pins = g_new0(uint16_t, n);
	tier->uses = settings->hides_pinned ? g_new0(uint8_t, n) : NULL;
	tier->owner = g_new0(uint16_t, n);
	if (settings->policy->needs_future) {
		tier->next_use = g_new(uint32_t, n);
		for (uint32_t piece = 0; piece < n; piece++)
			tier->next_use[piece] = UINT32_MAX;
	}
	uint32_t most = (uint32_t)CLAMP(settings->capacity / smallest, 1, n);
	tier->policy = kvt_policy_new(settings->policy, n, most);
	if (settings->quotas)
		make_quotas(tier, settings, most);
	return tier;
}

void kvt_block_tier_free(kvt_block_tier *tier)
{
	if (!tier)
		return;
	for (uint32_t tenant = 0; tier->quotas && tenant < tier->n_tenants; tenant++)
		if (tier->tenant_policies[tenant])
			tier->policy->ops->free(tier->tenant_policies[tenant]);
	tier->policy->ops->free(tier->policy);
	g_free(tier->name);
	g_free(tier->counts);
	g_free(tier->next_use);
	g_free(tier->link);
	g_free(tier->state);
	g_free(tier->pinned);
	g_free(tier->pins);
	g_free(tier->uses);
	g_free(tier->owner);
	g_free(tier->quotas);
	g_free(tier->tenant_policies);
	g_free(tier->tenant_start);
	g_free(tier);
}

static kvt_policy *policy_of(const kvt_block_tier *tier, uint32_t tenant)
{
	return tier->quotas ? tier->tenant_policies[tenant] : NULL;
}

void kvt_block_tier_announce(kvt_block_tier *tier, uint32_t tenant, uint32_t piece)
{
	if (!tier->policy->ops->announce)
		return;
	tier->policy->ops->announce(tier->policy, piece);
	kvt_policy *own = policy_of(tier, tenant);
	if (own)
		own->ops->announce(own, piece - tier->tenant_start[tenant]);
}

/* Of the tenant's own pieces. */
static uint32_t own_victim(kvt_block_tier *tier, uint32_t tenant)
{
	kvt_policy *own = tier->tenant_policies[tenant];
	uint32_t start = tier->tenant_start[tenant];
	uint32_t piece = own->ops->victim(own, tier->pinned + start);
	return piece == UINT32_MAX ? KVT_NO_PIECE : piece + start;
}

/* Of whoever is furthest above his quota and has a piece to give. */
static uint32_t other_victim(kvt_block_tier *tier, uint32_t tenant)
{
	uint64_t below = UINT64_MAX;
	for (;;) {
		uint64_t most = 0;
		uint32_t who = 0;
		for (uint32_t other = 0; other < tier->n_tenants; other++) {
			uint64_t quota = tier->quotas[other], bytes = tier->counts[other].bytes;
			uint64_t above = quota > 0 && bytes > quota ? bytes - quota : 0;
			if (other != tenant && above > most && above < below) {
				most = above;
				who = other;
			}
		}
		if (most == 0)
			return KVT_NO_PIECE;
		uint32_t piece = own_victim(tier, who);
		if (piece != KVT_NO_PIECE)
			return piece;
		below = most;
	}
}

uint32_t kvt_block_tier_victim(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes)
{
	uint32_t piece = KVT_NO_PIECE;
	if (tier->quotas) {
		uint64_t quota = tier->quotas[tenant];
		if (quota > 0 && tier->counts[tenant].bytes + bytes > quota)
			piece = own_victim(tier, tenant);
		if (piece == KVT_NO_PIECE)
			piece = other_victim(tier, tenant);
	}
	if (piece == KVT_NO_PIECE)
		piece = tier->policy->ops->victim(tier->policy, tier->pinned);
	g_assert(piece == UINT32_MAX ||
		 (tier->state[piece] == KVT_PIECE_THERE && !tier->pinned[piece]));
	return piece;
}

typedef enum change { ADMIT, TOUCH, REMOVE } change;

static void tell(kvt_policy *policy, uint32_t piece, change what, const uint32_t *next_use)
{
	if (what == REMOVE) {
		policy->ops->remove(policy, piece);
		return;
	}
	if (what == ADMIT)
		policy->ops->admit(policy, piece);
	else
		policy->ops->touch(policy, piece);
	if (next_use)
		policy->ops->next_use(
			policy, piece, *next_use == UINT32_MAX ? UINT64_MAX : *next_use);
}

static void tell_policies(kvt_block_tier *tier, uint32_t piece, change what)
{
	const uint32_t *next_use = tier->next_use ? &tier->next_use[piece] : NULL;
	tell(tier->policy, piece, what, next_use);
	uint32_t tenant = tier->owner[piece];
	kvt_policy *own = policy_of(tier, tenant);
	if (own)
		tell(own, piece - tier->tenant_start[tenant], what, next_use);
}

static void add_bytes(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes)
{
	kvt_block_tier_count *count = &tier->counts[tenant];
	tier->bytes += bytes;
	tier->peak_bytes = MAX(tier->peak_bytes, tier->bytes);
	count->bytes += bytes;
	count->peak_bytes = MAX(count->peak_bytes, count->bytes);
}

static void take_bytes(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes)
{
	g_assert(tier->counts[tenant].bytes >= bytes && tier->bytes >= bytes);
	tier->bytes -= bytes;
	tier->counts[tenant].bytes -= bytes;
}

void kvt_block_tier_enter(
	kvt_block_tier *tier, uint32_t tenant, uint32_t piece, kvt_piece_state state)
{
	uint64_t bytes = kvt_block_tier_piece_bytes(tier, piece);
	g_assert(tier->state[piece] == KVT_PIECE_ABSENT && kvt_block_tier_has_room(tier, bytes));
	tier->state[piece] = (uint8_t)state;
	tier->owner[piece] = (uint16_t)tenant;
	add_bytes(tier, tenant, bytes);
	tier->counts[tenant].pieces++;
	tier->counts[tenant].in_pieces++;
	tier->counts[tenant].in_bytes += bytes;
	if (tier->homes)
		kvt_tier_homes_enter(tier->homes, piece, bytes, tier->writer);
	/* what is arriving is not to be had yet, so no policy need pass over it */
	if (state == KVT_PIECE_ARRIVING)
		tier->held_bytes += bytes;
	else
		tell_policies(tier, piece, ADMIT);
}

static void leave(kvt_block_tier *tier, uint32_t piece)
{
	uint32_t tenant = tier->owner[piece];
	uint64_t bytes = kvt_block_tier_piece_bytes(tier, piece);
	tier->state[piece] = KVT_PIECE_ABSENT;
	take_bytes(tier, tenant, bytes);
	if (tier->homes)
		kvt_tier_homes_leave(tier->homes, piece, bytes);
	tier->counts[tenant].pieces--;
}

void kvt_block_tier_arrived(kvt_block_tier *tier, uint32_t piece, bool intact)
{
	g_assert(tier->state[piece] == KVT_PIECE_ARRIVING);
	tier->held_bytes -= kvt_block_tier_piece_bytes(tier, piece);
	if (intact) {
		tier->state[piece] = KVT_PIECE_THERE;
		tell_policies(tier, piece, ADMIT);
	} else {
		tier->counts[tier->owner[piece]].failed_pieces++;
		leave(tier, piece);
	}
}

void kvt_block_tier_remove(kvt_block_tier *tier, uint32_t piece, bool evicted)
{
	g_assert(tier->state[piece] == KVT_PIECE_THERE && !tier->pinned[piece]);
	if (evicted) {
		kvt_block_tier_count *count = &tier->counts[tier->owner[piece]];
		count->out_pieces++;
		count->out_bytes += kvt_block_tier_piece_bytes(tier, piece);
	}
	tell_policies(tier, piece, REMOVE);
	if (tier->uses)
		tier->uses[piece] = 0;
	leave(tier, piece);
}

static gboolean is_hidden(const kvt_block_tier *tier, uint32_t piece)
{
	return tier->uses && tier->pinned[piece];
}

void kvt_block_tier_touch(kvt_block_tier *tier, uint32_t piece)
{
	g_assert(tier->state[piece] == KVT_PIECE_THERE);
	if (!is_hidden(tier, piece))
		tell_policies(tier, piece, TOUCH);
}

void kvt_block_tier_renew(kvt_block_tier *tier, uint32_t piece)
{
	g_assert(tier->state[piece] == KVT_PIECE_THERE);
	void (*first_use)(kvt_policy *, uint32_t) = tier->policy->ops->first_use;
	if (!first_use || is_hidden(tier, piece))
		return;
	first_use(tier->policy, piece);
	uint32_t tenant = tier->owner[piece];
	kvt_policy *own = policy_of(tier, tenant);
	if (own)
		first_use(own, piece - tier->tenant_start[tenant]);
}

void kvt_block_tier_pin(kvt_block_tier *tier, uint32_t piece)
{
	g_assert(tier->state[piece] == KVT_PIECE_THERE && tier->pins[piece] < UINT16_MAX);
	if (tier->pins[piece]++ > 0)
		return;
	tier->pinned[piece] = 1;
	tier->held_bytes += kvt_block_tier_piece_bytes(tier, piece);
	if (tier->uses)
		tell_policies(tier, piece, REMOVE);
}

/* A piece that was hidden is back, with its uses. */
static void show(kvt_block_tier *tier, uint32_t piece)
{
	const kvt_policy_ops *ops = tier->policy->ops;
	tell_policies(tier, piece, ADMIT);
	if (tier->uses[piece] < KVT_BLOCK_USES_MAX)
		tier->uses[piece]++;
	/* to policies whose touch is no more than this, it is as recent as can be */
	if (ops->touch == ops->first_use)
		return;
	for (uint8_t use = 0; use < tier->uses[piece]; use++)
		tell_policies(tier, piece, TOUCH);
}

void kvt_block_tier_unpin(kvt_block_tier *tier, uint32_t piece)
{
	g_assert(tier->pins[piece] > 0);
	if (--tier->pins[piece] > 0)
		return;
	tier->pinned[piece] = 0;
	tier->held_bytes -= kvt_block_tier_piece_bytes(tier, piece);
	if (tier->uses)
		show(tier, piece);
}

void kvt_block_tier_reserve(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes)
{
	g_assert(kvt_block_tier_has_room(tier, bytes));
	add_bytes(tier, tenant, bytes);
	tier->held_bytes += bytes;
}

void kvt_block_tier_unreserve(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes)
{
	g_assert(tier->held_bytes >= bytes);
	take_bytes(tier, tenant, bytes);
	tier->held_bytes -= bytes;
}

void kvt_block_tier_check(const kvt_block_tier *tier)
{
	uint64_t bytes = 0, held = 0, pieces = 0, counted = 0, counted_pieces = 0;
	for (uint32_t piece = 0; piece < tier->n_pieces; piece++) {
		uint64_t size = kvt_block_tier_piece_bytes(tier, piece);
		g_assert(tier->pinned[piece] == (tier->pins[piece] > 0));
		g_assert(!tier->pinned[piece] || tier->state[piece] == KVT_PIECE_THERE);
		if (tier->state[piece] == KVT_PIECE_ABSENT)
			continue;
		pieces++;
		bytes += size;
		held += tier->pinned[piece] || tier->state[piece] == KVT_PIECE_ARRIVING ? size : 0;
	}
	for (uint32_t tenant = 0; tenant < tier->n_tenants; tenant++) {
		counted += tier->counts[tenant].bytes;
		counted_pieces += tier->counts[tenant].pieces;
	}
	uint64_t reserved = tier->bytes - bytes;
	g_assert(tier->bytes >= bytes && tier->bytes <= tier->capacity);
	g_assert(counted == tier->bytes && counted_pieces == pieces);
	g_assert(tier->held_bytes == held + reserved);
}
