/* isa.c: which instruction sets the kernels have variants for, and which this machine runs. */
#include "kernels/kernels.h"

#ifdef __x86_64__
/* The builtin remembers what CPUID said, which takes tens of microseconds in a virtual machine.
 * clang 14's does not know of f16c, but no processor has AVX2, which is asked for beside it,
 * without. */
static int has_f16c(void)
{
#if defined(__clang__) && __clang_major__ < 15
	return 1;
#else
	return __builtin_cpu_supports("f16c");
#endif
}
#endif

const char *kvt_isa_name(kvt_isa isa)
{
	static const char *const names[KVT_ISA_COUNT] = { "scalar", "avx2", "avx512" };
	return isa < KVT_ISA_COUNT ? names[isa] : "unknown";
}

int kvt_isa_supported(kvt_isa isa)
{
#ifdef __x86_64__
	/* these builtins ask whether the operating system saves the registers, too */
	__builtin_cpu_init();
	if (isa == KVT_ISA_AVX2)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		       has_f16c();
	if (isa == KVT_ISA_AVX512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
		       __builtin_cpu_supports("avx512vnni");
#endif
	return isa == KVT_ISA_SCALAR;
}

kvt_isa kvt_isa_best(void)
{
	kvt_isa best = KVT_ISA_SCALAR;
	for (kvt_isa isa = KVT_ISA_SCALAR; isa < KVT_ISA_COUNT; isa++)
		if (kvt_isa_supported(isa))
			best = isa;
	return best;
}
