/*
 * memory_touch.h: memory that was mapped is taken from the system before it is used, by all
 * processors at once: who pins or registers tens of gigabytes would do it alone. It maps nothing.
 */
#ifndef KVT_MEMORY_TOUCH_H
#define KVT_MEMORY_TOUCH_H

#include <stdint.h>

/* Best effort: what is not taken now, or on a system that cannot, is when it is used. The content
 * stays. `memory` is a multiple of the system's pages. */
void kvt_memory_touch(void *memory, uint64_t bytes);

#endif
