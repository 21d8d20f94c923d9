/*
 * store_power.h: a disk whose power can be cut. It passes a page store's calls to the system and
 * writes them down; then it makes folders as they could be found after a cut at any point of that
 * log: what was synced is there, of the rest some is missing, torn at 512-byte sectors, and in any
 * order. Not a test itself.
 */
#ifndef STORE_POWER_H
#define STORE_POWER_H

#include <glib.h>

#include "emu/store/store_io.h"
#include "sim/base/rng.h"

typedef struct store_power store_power;

store_power *store_power_new(void);
void store_power_free(store_power *power);

/* The calls to give a store. The log begins with a folder that is empty, or with one file in it
 * that stands for a device. */
const kvt_store_io *store_power_io(store_power *power);

/* Calls in the log so far. */
unsigned store_power_length(const store_power *power);

/* Fills the folder (which is empty) with what a cut after the first `n` calls may leave. */
void store_power_cut(const store_power *power, unsigned n, kvt_rng *rng, const char *path);

#endif
