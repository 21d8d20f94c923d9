/*
 * page_damage.h: pages of a host tier that go, or change, behind its back. Not a test itself.
 */
#ifndef PAGE_DAMAGE_H
#define PAGE_DAMAGE_H

#include <stdbool.h>

#include "sim/tier/tier.h"

/* Discards the page, all of whose bytes are said, or changes a bit of it. `tier` is a pinned
 * tier's, the page tenant 0's. */
void page_damage(kvt_tier *tier, const kvt_extent *page, bool drop);

#endif
