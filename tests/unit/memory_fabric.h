/*
 * memory_fabric.h: hosts on a wire within one process and on one real loop, for tests: each host is
 * a fabric of emu/fabric/fabric.h that keeps to every word of it (keys, domains, access, order,
 * credits, nothing inline), and faults can be had at any moment. It moves bytes with memcpy and
 * models no speed.
 */
#ifndef MEMORY_FABRIC_H
#define MEMORY_FABRIC_H

#include "emu/fabric/fabric.h"

typedef struct memory_wire memory_wire;

typedef struct memory_wire_counts {
	uint64_t reads, writes, messages; /* that arrived */
	uint64_t read_bytes, written_bytes;
	uint64_t denied;  /* transfers of memory that may not be touched so */
	uint64_t flipped; /* transfers with a bit that was turned over */
	uint64_t lost;    /* attempts of transfers while the wire was cut */
} memory_wire_counts;

memory_wire *memory_wire_new(kvt_loop *loop);
/* Its hosts have been freed. */
void memory_wire_free(memory_wire *wire);
const memory_wire_counts *memory_wire_get_counts(const memory_wire *wire);

/* A host with addresses of its own, numbers of IPv4 or IPv6; `second` may be NULL. */
kvt_fabric *memory_fabric_new(memory_wire *wire, const char *address, const char *second);

/* How long everything takes each way; 0, as at first: no longer than the loop does. */
void memory_wire_delay(memory_wire *wire, kvt_time delay);

/* Of every so many reads and writes one has a bit of it turned over on its way; 0: none. */
void memory_wire_flip(memory_wire *wire, unsigned every);

/* Nothing leaves or reaches the host, and nobody is told. */
void memory_fabric_cut(kvt_fabric *fabric, bool cut);

/* The host's process is stopped: its memory is read and written and messages are taken in as ever,
 * and nobody there does anything. What happened meanwhile, it learns when it goes on. */
void memory_fabric_stop(kvt_fabric *fabric, bool stop);

/* The host's process has ended: peers lose their connections (they learn it where the host is not
 * cut), its handlers never run again. All that is left is to free what is its. */
void memory_fabric_kill(kvt_fabric *fabric);

/* After so many more registrations, they are refused; UINT_MAX: none. */
void memory_fabric_limit_regions(kvt_fabric *fabric, unsigned more);

#endif
