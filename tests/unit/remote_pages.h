/* remote_pages.h: runs of pages whose bytes tell whose they are, which page, and which version. */
#ifndef REMOTE_PAGES_H
#define REMOTE_PAGES_H

#include "sim/tier/tier.h"

/* What page of a run has, of the version that was written. */
void remote_fill(uint32_t tenant, const kvt_extent *run, unsigned version, uint8_t *memory);
bool remote_is(uint32_t tenant, const kvt_extent *run, unsigned version, const uint8_t *memory);

#endif
