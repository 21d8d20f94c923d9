/*
 * cores.h: which processors threads run on. The engine's thread, and what helps it with I/O, stays
 * where the drive's interrupts arrive; threads that compute have the other processors to
 * themselves, as a GPU would. Linux only; elsewhere, and on one processor, threads run anywhere.
 */
#ifndef KVT_CORES_H
#define KVT_CORES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { KVT_CORES_MAX = 1024 };

typedef struct kvt_cores {
	unsigned n; /* processors that this process may use */
	unsigned ids[KVT_CORES_MAX];
	uint64_t interrupts[KVT_CORES_MAX]; /* of devices, so far, when it was made */
	bool placed;
} kvt_cores;

/* Notes what there is, and who has been interrupted how often. */
void kvt_cores_init(kvt_cores *cores);

/* Threads that can compute beside an engine that has a processor of its own, at least 1. */
unsigned kvt_cores_compute(const kvt_cores *cores);

/*
 * Puts all threads of the process where most interrupts of devices arrived since
 * kvt_cores_init(), and threads that they make from now on. False, and nothing is changed, where
 * there is one processor or the system does not say.
 */
bool kvt_cores_place_engine(kvt_cores *cores);

/* Moves a thread to the processors that the engine has not. Does nothing unless the engine was
 * placed. */
void kvt_cores_place_compute(const kvt_cores *cores, pthread_t thread);

/* All threads may run anywhere again. */
void kvt_cores_release(kvt_cores *cores);

#endif
