/*
 * multiply_add.h: how many multiply-adds a second a thread can do, for benchmarks: of registers
 * alone, and of the shape that attention has: numbers of a format that come out of the first-level
 * cache and are multiplied with those of 4 rows. They do nothing else, so that no kernel of the
 * shape can do more.
 */
#ifndef KVT_MULTIPLY_ADD_H
#define KVT_MULTIPLY_ADD_H

#include "kernels/kernels.h"

/* Multiply-adds a second of this thread's time; 0 for an instruction set without code here. */
double multiply_adds_of_registers(kvt_isa isa);
double multiply_adds_of_shape(kvt_isa isa, kvt_element element);

#endif
