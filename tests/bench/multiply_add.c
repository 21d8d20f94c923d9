/* multiply_add.c: loops of multiply-adds, and nothing else. */
#include "tests/bench/multiply_add.h"

#include <time.h>

enum { STEPS = 50000 };

static double thread_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#ifdef __x86_64__
static volatile float result; /* so that nothing is optimised away */

typedef float vector_8 __attribute__((vector_size(32)));
typedef float vector_16 __attribute__((vector_size(64)));

enum { CHAINS = 10 };

#define TWO(x, y) "vfmadd213ps %11, %10, %" #x "\n\tvfmadd213ps %11, %10, %" #y "\n\t"

/* Chains that do not wait for one another, in registers; by name, since an array of them may end up
 * in memory. */
#define REGISTERS(name, vector, isa_target)                                                        \
	__attribute__((target(isa_target), noinline)) static float name(void)                      \
	{                                                                                          \
		vector x = { 0 }, y = { 0 };                                                       \
		x += 0.5f;                                                                         \
		y += 1.0f;                                                                         \
		vector a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y, i = y, j = y;       \
		for (int step = 0; step < STEPS; step++)                                           \
			__asm__ volatile(TWO(0, 1) TWO(2, 3) TWO(4, 5) TWO(6, 7) TWO(8, 9)         \
					 : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f),   \
					 "+v"(g), "+v"(h), "+v"(i), "+v"(j)                        \
					 : "v"(x), "v"(y));                                        \
		return (a + b + c + d + e + f + g + h + i + j)[0];                                 \
	}

REGISTERS(registers_avx2, vector_8, "avx2,fma")
REGISTERS(registers_avx512, vector_16, "avx512f")

double multiply_adds_of_registers(kvt_isa isa)
{
	if (isa == KVT_ISA_SCALAR)
		return 0;
	double began = thread_seconds();
	result = isa == KVT_ISA_AVX512 ? registers_avx512() : registers_avx2();
	double lanes = isa == KVT_ISA_AVX512 ? 16 : 8;
	return CHAINS * lanes * STEPS / (thread_seconds() - began);
}
#else
double multiply_adds_of_registers(kvt_isa isa)
{
	return 0;
}
#endif
