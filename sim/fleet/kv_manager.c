/* kv_manager.c: blocks of one replica's HBM: who holds them, what is kept when nobody does, and
 * what is evicted. */
#include "sim/fleet/kv_manager.h"

#include "sim/base/error.h"
#include "sim/fleet/kv_internal.h"

kvt_kv_manager *kvt_kv_manager_new(const kvt_kv_settings *settings, GError **error)
{
	g_assert(settings->n_tiers <= KVT_KV_TIERS_MAX);
	kvt_block_allocator *allocator =
		kvt_block_allocator_new(settings->shape, settings->hbm_bytes, error);
	if (!allocator)
		return NULL;
	kvt_kv_manager *manager = g_new0(kvt_kv_manager, 1);
	manager->allocator = allocator;
	manager->shape = &allocator->shape;
	manager->names = settings->names;
	manager->n_kinds = settings->shape->n_kinds;
	manager->n_tiers = settings->n_tiers;
	manager->node = settings->node;
	manager->write_through = settings->write_through;
	kvt_block_tier_settings hbm = kvt_block_tier_settings_of(settings->shape, "hbm",
		settings->policy, settings->hbm_bytes, settings->names, settings->hbm_quotas);
	hbm.hides_pinned = TRUE;
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		manager->windowed |= manager->shape->kinds[kind].attention != KVT_ATTENTION_GLOBAL;
		hbm.piece_bytes[kind] = kvt_block_shape_piece_bytes(manager->shape, kind);
	}
	manager->hbm = kvt_block_tier_new(&hbm);
	uint32_t n_pieces = manager->hbm->n_pieces;
	for (uint32_t i = 0; i < settings->n_tiers; i++) {
		manager->tiers[i] = settings->tiers[i];
		g_assert(settings->tiers[i]->n_pieces == n_pieces);
	}
	manager->map = g_new(uint32_t, MAX(n_pieces, 1));
	for (uint32_t piece = 0; piece < n_pieces; piece++)
		manager->map[piece] = KVT_NO_BLOCK;
	manager->free_sequence = manager->free_move = UINT32_MAX;
	manager->counts = g_new0(kvt_kv_count, manager->names->n_tenants);
	return manager;
}

void kvt_kv_manager_free(kvt_kv_manager *manager)
{
	if (!manager)
		return;
	kvt_block_allocator_free(manager->allocator);
	kvt_block_tier_free(manager->hbm);
	g_free(manager->map);
	g_free(manager->sequences);
	g_free(manager->moves);
	g_free(manager->missing);
	g_free(manager->counts);
	g_free(manager);
}

static uint32_t pages_of(const kvt_kv_manager *manager, uint32_t block)
{
	return kvt_block_pages(manager->allocator, kvt_kv_block(manager, block)->tokens);
}

void kvt_kv_hold(kvt_kv_manager *manager, uint32_t piece)
{
	uint32_t block = manager->map[piece];
	if (kvt_kv_block(manager, block)->references == 0 &&
		kvt_block_tier_has(manager->hbm, piece)) {
		kvt_block_tier_pin(manager->hbm, piece);
		manager->kept_pages[kvt_kv_piece_kind(manager, piece)] -= pages_of(manager, block);
	}
	kvt_block_hold(manager->allocator, block);
}

void kvt_kv_settle(kvt_kv_manager *manager, uint32_t tenant, uint32_t piece)
{
	uint32_t index = manager->map[piece];
	const kvt_block *block = kvt_kv_block(manager, index);
	unsigned kind = kvt_kv_piece_kind(manager, piece);
	g_assert(block->references == 0);
	/* a load writes into it: it is settled when that ends */
	if (block->state == KVT_KV_LOADING)
		return;
	if (block->state == KVT_KV_EMPTY || block->tokens < manager->shape->block_tokens) {
		manager->map[piece] = KVT_NO_BLOCK;
		kvt_block_free(manager->allocator, kind, index);
		return;
	}
	manager->kept_pages[kind] += pages_of(manager, index);
	if (kvt_block_tier_has(manager->hbm, piece)) {
		kvt_block_tier_unpin(manager->hbm, piece);
	} else {
		kvt_block_tier_announce(manager->hbm, tenant, piece);
		kvt_block_tier_enter(manager->hbm, tenant, piece, KVT_PIECE_THERE);
	}
}

void kvt_kv_release(kvt_kv_manager *manager, uint32_t tenant, uint32_t piece)
{
	if (kvt_block_release(manager->allocator, manager->map[piece]))
		kvt_kv_settle(manager, tenant, piece);
}

static bool is_below(const kvt_kv_manager *manager, uint32_t piece)
{
	for (uint32_t i = 0; i < manager->n_tiers; i++)
		if (kvt_block_tier_state(manager->tiers[i], piece) != KVT_PIECE_ABSENT)
			return true;
	return false;
}

static void evict(kvt_kv_call *call, uint32_t piece)
{
	kvt_kv_manager *manager = call->manager;
	unsigned kind = kvt_kv_piece_kind(manager, piece);
	uint32_t block = manager->map[piece], tenant = manager->hbm->owner[piece];
	kvt_block_tier_remove(manager->hbm, piece, true);
	/* what was copied when its sequence ended costs nothing now, wherever it has fallen to */
	if (!manager->write_through || !is_below(manager, piece))
		kvt_kv_fall(call, KVT_KV_HBM, piece, tenant);
	manager->kept_pages[kind] -= pages_of(manager, block);
	manager->map[piece] = KVT_NO_BLOCK;
	kvt_block_free(manager->allocator, kind, block);
}

gboolean kvt_kv_make_room(kvt_kv_call *call, unsigned kind, uint32_t n_pages)
{
	kvt_kv_manager *manager = call->manager;
	while (kvt_block_available(manager->allocator, kind) < n_pages) {
		uint32_t victim = kvt_block_tier_victim(manager->hbm, call->tenant,
			kvt_block_shape_piece_bytes(manager->shape, kind));
		if (victim == KVT_NO_PIECE)
			return FALSE;
		evict(call, victim);
	}
	return TRUE;
}

uint32_t kvt_kv_allocate(
	kvt_kv_call *call, kvt_kv_sequence *sequence, unsigned kind, uint32_t tokens)
{
	kvt_block_allocator *allocator = call->manager->allocator;
	if (!kvt_kv_make_room(call, kind, kvt_block_pages(allocator, tokens)))
		return KVT_NO_BLOCK;
	return kvt_block_allocate(allocator, kind, tokens, &sequence->owner);
}

gboolean kvt_kv_fits(const kvt_kv_manager *manager, uint64_t tokens, uint64_t step_tokens)
{
	const kvt_block_shape *shape = manager->shape;
	const kvt_large_pages *pages = manager->allocator->pages;
	uint64_t n_large = 0, per_block = shape->block_tokens / shape->page_tokens;
	for (unsigned kind = 0; kind < shape->n_kinds; kind++) {
		uint64_t n = (tokens + shape->page_tokens - 1) / shape->page_tokens;
		uint64_t spare = 0;
		if (shape->kinds[kind].attention != KVT_ATTENTION_GLOBAL) {
			/* parts of blocks at both ends, and of large pages */
			uint64_t held = shape->kinds[kind].window + step_tokens;
			n = MIN(n, (held / shape->block_tokens + 2) * per_block);
			spare = 2;
		}
		n_large += (n + pages->per_large[kind] - 1) / pages->per_large[kind] + spare;
	}
	return n_large <= pages->n_large;
}

const kvt_block_allocator *kvt_kv_allocator(const kvt_kv_manager *manager)
{
	return manager->allocator;
}

const kvt_block_tier *kvt_kv_hbm(const kvt_kv_manager *manager)
{
	return manager->hbm;
}

const kvt_kv_count *kvt_kv_counts(const kvt_kv_manager *manager, uint32_t tenant)
{
	g_assert(tenant < manager->names->n_tenants);
	return &manager->counts[tenant];
}

void kvt_kv_close_levels(kvt_kv_manager *manager, uint32_t levels)
{
	manager->closed = levels;
}
