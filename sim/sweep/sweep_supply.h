/*
 * sweep_supply.h: the points that are still to be run, as ranges that threads take from, one point
 * at a time, and that are dealt to other ranks in parts.
 */
#ifndef KVT_SWEEP_SUPPLY_H
#define KVT_SWEEP_SUPPLY_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct kvt_sweep_range {
	uint64_t first, count;
} kvt_sweep_range;

typedef struct kvt_sweep_supply kvt_sweep_supply;

kvt_sweep_supply *kvt_sweep_supply_new(void);
void kvt_sweep_supply_free(kvt_sweep_supply *supply);

/* Adds points behind those that are there. */
void kvt_sweep_supply_add(kvt_sweep_supply *supply, kvt_sweep_range range);

/* Says that nothing will be added any more. `drop` forgets what is left, too. */
void kvt_sweep_supply_end(kvt_sweep_supply *supply, bool drop);

/* The next point; waits for one. False when there will be none. */
bool kvt_sweep_supply_take(kvt_sweep_supply *supply, uint64_t *point);

/* Cuts off the next range, of at most `most` points; count 0 when there is none. */
kvt_sweep_range kvt_sweep_supply_cut(kvt_sweep_supply *supply, uint64_t most);

/* Points that are there. */
uint64_t kvt_sweep_supply_left(kvt_sweep_supply *supply);

#endif
