/*
 * gemm_base.h: the time of a matrix product C[m,n] = A[m,k] B[k,n] from first principles: tiles of
 * C dealt to the SMs in waves, bytes over memory, a launch floor. It knows no measured table; the
 * constants it takes are fitted by gemm_fit.c.
 */
#ifndef KVT_GEMM_BASE_H
#define KVT_GEMM_BASE_H

#include <stdbool.h>
#include <stdint.h>

enum { KVT_GEMM_TILES = 6 };

/* Rows and columns of C that one thread block computes, by tile kind. */
extern const int KVT_GEMM_TILE_SHAPE[KVT_GEMM_TILES][2];

typedef struct kvt_gemm_base {
	double peak;      /* FLOP/s of all SMs with the best tile, long k */
	double bandwidth; /* bytes/s of weights, activations and output */
	double floor;     /* s, of a launch */
	double overlap;   /* >= 1: how far the launch hides behind the work: 1, it is added; large,
			     the   longer of the two counts, as when the host is what limits */
	double fill;      /* elements of k whose time a tile spends on prologue and epilogue */
	double quantised; /* 0..1: how much of the last, partly filled wave costs a whole one */
	double tile_efficiency[KVT_GEMM_TILES]; /* share of `peak` that each tile kind reaches */
	bool split_k; /* k may be divided over idle SMs, at the cost of partial sums */
} kvt_gemm_base;

/* Seconds; m, n, k >= 1; `bytes` an element of A and B (C has 2). The fastest tile kind counts, as
 * a library that chooses its kernel by shape would find it. */
double kvt_gemm_base_seconds(
	const kvt_gemm_base *base, int64_t sms, double bytes, int64_t m, int64_t n, int64_t k);

#endif
