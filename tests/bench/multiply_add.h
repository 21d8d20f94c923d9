/*
 * multiply_add.h: how many FP32 multiply-adds of registers alone a thread can do a second, for
 * benchmarks: no kernel can do more.
 */
#ifndef KVT_MULTIPLY_ADD_H
#define KVT_MULTIPLY_ADD_H

#include "kernels/kernels.h"

/* Multiply-adds a second of this thread's time; 0 for an instruction set without code here. */
double multiply_adds_of_registers(kvt_isa isa);

#endif
