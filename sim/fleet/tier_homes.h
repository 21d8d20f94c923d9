/*
 * tier_homes.h: in which node each piece of a pooled tier lies. Nodes put the same share each into
 * one cache; a piece goes where its hash says or where it is written, and to the next node with
 * room where that one's share is full. It evicts nothing and moves nothing.
 */
#ifndef KVT_TIER_HOMES_H
#define KVT_TIER_HOMES_H

#include <glib.h>
#include <stdint.h>

typedef enum kvt_tier_placement {
	KVT_PLACE_HASH,   /* jump consistent hash (Lamping and Veach 2014), with bounded shares */
	KVT_PLACE_WRITER, /* in the node of the replica that writes it */
} kvt_tier_placement;

#define KVT_NO_HOME UINT32_MAX

typedef struct kvt_tier_homes {
	unsigned n_nodes;
	kvt_tier_placement placement;
	uint64_t share; /* bytes, of each node */
	uint64_t *used; /* [n_nodes], bytes of pieces */
	uint16_t *home; /* [n_pieces]; of one that left, where it was */
} kvt_tier_homes;

kvt_tier_homes *kvt_tier_homes_new(
	unsigned n_nodes, kvt_tier_placement placement, uint64_t share, uint32_t n_pieces);
void kvt_tier_homes_free(kvt_tier_homes *homes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_tier_homes, kvt_tier_homes_free)

/* A piece gets a home; the tier has room for it. `writer` is a node. Where bytes without a name or
 * pieces of several sizes leave no node room for it, it lies in the emptiest one. */
void kvt_tier_homes_enter(kvt_tier_homes *homes, uint32_t piece, uint64_t bytes, unsigned writer);
void kvt_tier_homes_leave(kvt_tier_homes *homes, uint32_t piece, uint64_t bytes);

/* Where a key would lie if all nodes had room: of n nodes, n + 1 move 1 / (n + 1) of all keys. */
unsigned kvt_tier_homes_hash(uint64_t key, unsigned n_nodes);

#endif
