/*
 * sweep_axis.h: one key of an experiment that a sweep varies, and the values it takes: a list, as
 * the file would have them, or a range of numbers. It knows the key's option and no experiment.
 *
 *   v1,v2,...        these values
 *   low..high:n      n values evenly spaced, both ends among them
 *   low..high:n:log  the same on a logarithmic scale
 *   low..high[:log]  any value between them: for samples only
 */
#ifndef KVT_SWEEP_AXIS_H
#define KVT_SWEEP_AXIS_H

#include "sim/base/config.h"

typedef struct kvt_sweep_axis {
	char *name; /* section.key */
	char *spec; /* as it was written */
	const kvt_option *option;
	uint64_t levels; /* values of a list or a range; 0: any in between */
	char **list;     /* `levels` texts; NULL: a range, in base units: */
	double low, high;
	bool logarithmic;
} kvt_sweep_axis;

/* An axis of the key `name` ("section.key", read by `option`). NULL with an error, which has no
 * place, when the key refuses a value or a range makes no sense for it. */
kvt_sweep_axis *kvt_sweep_axis_new(
	const char *name, const char *spec, const kvt_option *option, GError **error);
void kvt_sweep_axis_free(kvt_sweep_axis *axis);

/* The text of a level below `levels`, or of the share [0, 1) of the way through all values: lists
 * and whole numbers in equal parts. New strings. */
char *kvt_sweep_axis_level(const kvt_sweep_axis *axis, uint64_t level);
char *kvt_sweep_axis_at(const kvt_sweep_axis *axis, double share);

/* Whether its values are numbers, and the number of a text in base units (0 or 1 for a bool). */
bool kvt_sweep_axis_numeric(const kvt_sweep_axis *axis);
double kvt_sweep_axis_number(const kvt_sweep_axis *axis, const char *text);

/* The unit of these numbers: "B", "s", "B/s"...; "" where they have none. */
const char *kvt_sweep_axis_units(const kvt_sweep_axis *axis);

#endif
