/*
 * page_map.h: which pages a tier holds, as runs. Long contexts are stored in long runs, so ten
 * million tokens cost a few entries, not millions. It knows no capacity and no I/Os in flight:
 * those are page_store.h's.
 *
 * All pages of one layer of one context have the same size. The map knows it as long as it holds a
 * page of the layer or the layer is claimed. Extents are valid ones (tier.h).
 */
#ifndef KVT_PAGE_MAP_H
#define KVT_PAGE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/tier/tier.h"

typedef struct kvt_page_map kvt_page_map;

kvt_page_map *kvt_page_map_new(void);
void kvt_page_map_free(kvt_page_map *map);

/* Fixes the layer's page size until it is released; false, and nothing claimed, when it has
 * another one already. Claims add up. */
bool kvt_page_map_claim(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent);
void kvt_page_map_release(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent);

/* Adds the run; pages that are there already stay. The layer must not have another page size.
 * Returns the bytes that were added. */
uint64_t kvt_page_map_add(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent);

/* Removes what is there of the run, whatever page size the extent says; returns the bytes that
 * were removed. */
uint64_t kvt_page_map_remove(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent);

/* Pages of the run that are there; none when they have another size than the extent says. */
uint64_t kvt_page_map_count(const kvt_page_map *map, uint32_t tenant, const kvt_extent *extent);

/* Runs that hold the pages of the extent's layer: what they cost in memory. */
unsigned kvt_page_map_n_runs(const kvt_page_map *map, uint32_t tenant, const kvt_extent *extent);

#endif
