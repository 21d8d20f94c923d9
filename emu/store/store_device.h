/*
 * store_device.h: the files of a page store on a block device, or on a file of fixed length that
 * stands for one: the calls of store_io.h, with names kept in a table and segments at places of
 * their own. It makes and finds places; what lies there is as in a directory's files. For the page
 * store alone.
 *
 * | offset           | what                                                             |
 * |------------------|------------------------------------------------------------------|
 * | 0                | superblock, its copy, mark                                       |
 * | 16 KiB           | the table of an even sequence, twice; the odd one's, twice       |
 * | behind them      | two halves for the journal, of which the table names one         |
 * | next MiB         | places of segment_bytes each                                     |
 */
#ifndef KVT_STORE_DEVICE_H
#define KVT_STORE_DEVICE_H

#include <glib.h>
#include <stdbool.h>

#include "emu/store/store.h"

/* Names of files, in a directory and here; a segment's is kvt_store_segment_name's. */
#define KVT_STORE_FILE "kvtier.store"
#define KVT_STORE_JOURNAL "journal"
#define KVT_STORE_SEGMENT_SUFFIX ".segment"

/* Most places of one device: its table is written whole. */
#define KVT_STORE_PLACES (1u << 16)

typedef struct kvt_store_device kvt_store_device;

/* Opens it by the calls `below`, which it keeps; for writing so that no other program that asks for
 * it alone (mount, mkfs, another store) can. 0 or a negative errno: -EBUSY: such a one has it. */
int kvt_store_device_open(
	const char *path, const kvt_store_io *below, bool read_only, kvt_store_device **device);

/* Every file of it has been closed. NULL is allowed. */
void kvt_store_device_free(kvt_store_device *device);

/* Its files, which may be used once it is formatted or attached; the superblock's at once. */
const kvt_store_io *kvt_store_device_io(kvt_store_device *device);

uint64_t kvt_store_device_bytes(const kvt_store_device *device);

/* Bytes that a store of the shape takes of a device, all in all. */
uint64_t kvt_store_device_needs(const kvt_store_shape *shape);

/* 1: there is nothing but zeros in its first and its last MiB, where file systems, partition tables
 * and volume managers keep what they are known by; 0: there is; or a negative errno. */
int kvt_store_device_blank(kvt_store_device *device);

/* Empties the first and the last MiB and writes an empty table. */
int kvt_store_device_format(kvt_store_device *device, const kvt_store_shape *shape);

/* Reads the table. -EBADMSG: it is damaged, and counts as empty; -ENOSPC: the device is too short.
 */
int kvt_store_device_attach(kvt_store_device *device, const kvt_store_shape *shape);

#endif
