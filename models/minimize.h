/*
 * minimize.h: the minimum of a function of a few variables without derivatives: Nelder and Mead's
 * simplex with the coefficients of Gao and Han (Computational Optimization and Applications 51,
 * 2012), which keep it moving in a dozen dimensions. Local and deterministic; it looks for no
 * global minimum.
 */
#ifndef KVT_MINIMIZE_H
#define KVT_MINIMIZE_H

typedef double (*kvt_minimize_fn)(const double *x, void *arg);

/*
 * Moves x (n values) to a local minimum of f and returns f there. `step` holds the first simplex's
 * size in each dimension; stops after `evaluations` calls or when the simplex's values agree to
 * 1e-7. A NaN of f counts as infinity.
 */
double kvt_minimize(unsigned n, double *x, const double *step, unsigned evaluations,
	kvt_minimize_fn f, void *arg);

#endif
