/*
 * page_map.h: which pages a tier holds, as runs. Long contexts are stored in long runs, so ten
 * million tokens cost a few entries, not millions.
 */
#ifndef KVT_PAGE_MAP_H
#define KVT_PAGE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/tier/tier.h"

typedef struct kvt_page_map kvt_page_map;

kvt_page_map *kvt_page_map_new(void);
void kvt_page_map_free(kvt_page_map *map);

/* Adds the run; pages that are there already stay. Returns the bytes that were added. */
uint64_t kvt_page_map_add(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent);

/* Removes what is there of the run; returns the bytes that were removed. */
uint64_t kvt_page_map_remove(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent);

/* Pages of the run that are there. */
uint64_t kvt_page_map_count(const kvt_page_map *map, uint32_t tenant, const kvt_extent *extent);

#endif
