/* calibrate_loops.h: what a core can do at most: bytes read and multiply-adds, by instruction set.
 * For calibration and for benchmarks. */
#ifndef KVT_CALIBRATE_LOOPS_H
#define KVT_CALIBRATE_LOOPS_H

#include <stdint.h>

#include "kernels/kernels.h"

/* Reads all of it (64-byte aligned, whole KiB) and returns a sum, so that reading is not optimised
 * away. */
uint64_t kvt_loop_read(kvt_isa isa, const void *from, uint64_t bytes);

/* FP32 multiply-adds, enough at once to hide their latency, `rounds` times. Returns how many FLOPs
 * they were; *sum as above. */
double kvt_loop_multiply_add(kvt_isa isa, uint64_t rounds, float *sum);

#endif
