/*
 * sweep_plan.h: which points a sweep has and what each changes: a grid over axes, the first one
 * slowest, or a sample. Points are numbered from 0; the settings of one are made when they are
 * asked for, so that a million take no memory. It runs nothing.
 *
 * An experiment file may have them in [sweep]: `section.key = values` for each axis, and sample,
 * method and seed. A section of two words has a [sweep SECTION] of its own, with plain keys.
 * `from`, `to` and `points` stand for context.tokens = from..to:points:log, which the curves of
 * `kvtier tables` are made by.
 */
#ifndef KVT_SWEEP_PLAN_H
#define KVT_SWEEP_PLAN_H

#include "sim/sweep/sweep_axis.h"
#include "sim/sweep/sweep_sample.h"

enum { KVT_SWEEP_POINTS_MAX = 1000000000 };

typedef struct kvt_sweep_plan {
	GPtrArray *axes; /* of kvt_sweep_axis */
	uint64_t n_points;
	bool sampled;
	kvt_sample_method method;
	uint64_t seed;
} kvt_sweep_plan;

/* What a command line says of a sweep, over what the file says. */
typedef struct kvt_sweep_request {
	const char *const *over; /* "section.key=values" each, NULL-terminated; may be NULL */
	const char *sample; /* points of a sample, as text; NULL: a grid, or as the file has it */
	const char *method, *seed; /* NULL: as the file has it */
} kvt_sweep_request;

/* The option that a key is read by; NULL when there is none. */
typedef const kvt_option *(*kvt_sweep_find_option)(const char *section, const char *key);

/* The sweep of a config and a request; takes its [sweep] sections out of the config. NULL with an
 * error when there is no axis, an axis is wrong, or there are too many points. */
kvt_sweep_plan *kvt_sweep_plan_new(kvt_config *config, const kvt_sweep_request *request,
	kvt_sweep_find_option find, GError **error);
void kvt_sweep_plan_free(kvt_sweep_plan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_sweep_plan, kvt_sweep_plan_free)

/* The value of an axis at a point, as text. A new string. */
char *kvt_sweep_plan_value(const kvt_sweep_plan *plan, uint64_t point, unsigned axis);

/* Sets all of a point's values. */
void kvt_sweep_plan_apply(const kvt_sweep_plan *plan, uint64_t point, kvt_config *config);

/* "gpu.count=4 fabric.nics=2": the point for people. A new string. */
char *kvt_sweep_plan_point(const kvt_sweep_plan *plan, uint64_t point);

/* The sweep as the options of a command line, in one form however it was asked for. A new string.
 */
char *kvt_sweep_plan_text(const kvt_sweep_plan *plan);

#endif
