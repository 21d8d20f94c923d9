/*
 * key_quarantine.h: which keys of memory were in use a short time ago, so that none of them is
 * given out again while a peer may still hold it. It registers nothing.
 */
#ifndef KVT_KEY_QUARANTINE_H
#define KVT_KEY_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/base/sim_time.h"

typedef struct kvt_key_quarantine kvt_key_quarantine;

/* Keys stay for `period`, the last `most` of them. */
kvt_key_quarantine *kvt_key_quarantine_new(kvt_time period, unsigned most);
void kvt_key_quarantine_free(kvt_key_quarantine *quarantine);

/* The key went out of use now; times never go back. */
void kvt_key_quarantine_add(kvt_key_quarantine *quarantine, uint32_t key, kvt_time now);
bool kvt_key_quarantine_has(kvt_key_quarantine *quarantine, uint32_t key, kvt_time now);

#endif
