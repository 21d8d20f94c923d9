/*
 * fleet_report.h: a fleet's figures as JSON, schema "kvtier.fleet/1". Times are seconds; what each
 * is a time of, "units" says.
 */
#ifndef KVT_FLEET_REPORT_H
#define KVT_FLEET_REPORT_H

#include <jansson.h>

#include "sim/fleet/fleet_figures.h"

/* A new reference. */
json_t *kvt_fleet_report_json(const kvt_fleet *fleet, const kvt_fleet_figures *figures);

#endif
