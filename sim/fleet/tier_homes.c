/* tier_homes.c: a node for each piece of a pooled tier. */
#include "sim/fleet/tier_homes.h"

kvt_tier_homes *kvt_tier_homes_new(
	unsigned n_nodes, kvt_tier_placement placement, uint64_t share, uint32_t n_pieces)
{
	g_assert(n_nodes > 0 && n_nodes <= UINT16_MAX);
	kvt_tier_homes *homes = g_new0(kvt_tier_homes, 1);
	homes->n_nodes = n_nodes;
	homes->placement = placement;
	homes->share = share;
	homes->used = g_new0(uint64_t, n_nodes);
	homes->home = g_new0(uint16_t, MAX(n_pieces, 1));
	return homes;
}

void kvt_tier_homes_free(kvt_tier_homes *homes)
{
	if (!homes)
		return;
	g_free(homes->used);
	g_free(homes->home);
	g_free(homes);
}

unsigned kvt_tier_homes_hash(uint64_t key, unsigned n_nodes)
{
	/* neighbouring numbers are not to begin with neighbouring states */
	key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9u;
	key = (key ^ key >> 27) * 0x94d049bb133111ebu;
	key ^= key >> 31;
	uint64_t at = 0, next = 0;
	while (next < n_nodes) {
		at = next;
		key = key * 2862933555777941757u + 1;
		next = (uint64_t)((double)(at + 1) * (0x1p31 / (double)((key >> 33) + 1)));
	}
	return (unsigned)at;
}

void kvt_tier_homes_enter(kvt_tier_homes *homes, uint32_t piece, uint64_t bytes, unsigned writer)
{
	unsigned first = homes->placement == KVT_PLACE_WRITER
				 ? writer
				 : kvt_tier_homes_hash(piece, homes->n_nodes);
	unsigned chosen = first;
	for (unsigned i = 0; i < homes->n_nodes; i++) {
		unsigned node = (first + i) % homes->n_nodes;
		if (homes->used[node] + bytes <= homes->share) {
			chosen = node;
			break;
		}
		if (homes->used[node] < homes->used[chosen])
			chosen = node;
	}
	homes->used[chosen] += bytes;
	homes->home[piece] = (uint16_t)chosen;
}

void kvt_tier_homes_leave(kvt_tier_homes *homes, uint32_t piece, uint64_t bytes)
{
	uint64_t *used = &homes->used[homes->home[piece]];
	g_assert(*used >= bytes);
	*used -= bytes;
}
