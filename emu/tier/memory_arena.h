/*
 * memory_arena.h: one mapping of memory that a tier keeps pages in, pinned, of huge pages or bound
 * to a NUMA node where that is asked for and allowed; and which ranges of it are free. It knows no
 * pages.
 */
#ifndef KVT_MEMORY_ARENA_H
#define KVT_MEMORY_ARENA_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct kvt_arena kvt_arena;

typedef enum kvt_huge_pages {
	KVT_HUGE_NO,
	KVT_HUGE_TRANSPARENT, /* madvise: as the kernel finds them */
	KVT_HUGE_RESERVED,    /* of those set aside (vm.nr_hugepages), or an error */
} kvt_huge_pages;

/* "no", "transparent", "reserved", NULL. */
extern const char *const kvt_huge_page_names[];

/* `node` < 0: anywhere. What is refused is an error, since figures would be of something else. */
kvt_arena *kvt_arena_new(
	uint64_t bytes, kvt_huge_pages huge, bool pinned, int node, GError **error);
void kvt_arena_free(kvt_arena *arena);

uint8_t *kvt_arena_base(const kvt_arena *arena);
uint64_t kvt_arena_bytes(const kvt_arena *arena); /* as asked for, or a little more */

/* Takes the first free range, of as many units as it has and at most n: sets the offset and returns
 * how many; 0: there is none of even one unit. */
uint64_t kvt_arena_take(kvt_arena *arena, uint64_t unit, uint64_t n, uint64_t *offset);
void kvt_arena_give(kvt_arena *arena, uint64_t offset, uint64_t bytes);

#endif
