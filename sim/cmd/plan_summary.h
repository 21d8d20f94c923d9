/* plan_summary.h: a plan for people and for pictures: tables of its frontier and of its answer. */
#ifndef KVT_PLAN_SUMMARY_H
#define KVT_PLAN_SUMMARY_H

#include "sim/base/output.h"
#include "sim/plan/plan.h"

/* The frontier, dearer fleets than the answer among it, a row each. Belongs to the caller. */
kvt_table *kvt_plan_summary_rows(const kvt_plan *plan);

/* All of it as text; stream errors are left for the caller to find. */
void kvt_plan_summary_write(const kvt_plan *plan, FILE *stream);

#endif
