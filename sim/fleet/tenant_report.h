/* tenant_report.h: what a tenant was refused, and had of what tenants share, as JSON. Latencies and
 * hit rates of tenants are fleet_report.h's. */
#ifndef KVT_TENANT_REPORT_H
#define KVT_TENANT_REPORT_H

#include <jansson.h>

#include "sim/fleet/fleet_figures.h"

/* Adds to the object of a tenant of the trace: refusals by reason, its share of GPU time and of
 * bytes, over all links and by link; what it was promised. */
void kvt_tenant_report_add(
	json_t *object, const kvt_fleet *fleet, const kvt_fleet_figures *figures, uint32_t tenant);

/* Jain's index of tenants' GPU time for their weight, and of the share of their requests that met
 * the SLOs. */
json_t *kvt_tenant_report_fairness(const kvt_fleet *fleet, const kvt_fleet_figures *figures);

#endif
