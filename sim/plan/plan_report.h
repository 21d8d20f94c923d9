/*
 * plan_report.h: a plan as JSON: an array of fleets by rising cost, each the fastest for its money,
 * ending with the cheapest that meets what is asked for (where none does, with the nearest).
 */
#ifndef KVT_PLAN_REPORT_H
#define KVT_PLAN_REPORT_H

#include <jansson.h>

#include "sim/plan/plan.h"

/* A new reference. */
json_t *kvt_plan_report_json(const kvt_plan *plan);

/* The name of a bottleneck: a resource, "none" or "not measured". */
const char *kvt_plan_bottleneck_name(int bottleneck);

#endif
