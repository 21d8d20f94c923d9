/*
 * fleet_traffic.h: the requests that a fleet file asks for, as one trace: that of [traffic], those
 * of tenants with a trace of their own, scaled, cut or made from a model. When each of them comes
 * is arrivals.h's.
 */
#ifndef KVT_FLEET_TRAFFIC_H
#define KVT_FLEET_TRAFFIC_H

#include "sim/fleet/fleet_settings.h"
#include "traces/request_trace.h"

/* NULL with an error at the first trace that cannot be read, or a tenant that none has. */
kvt_request_trace *kvt_fleet_traffic_open(const kvt_fleet_settings *settings, GError **error);

/* Settings with equal keys have the same traffic. A new string. */
char *kvt_fleet_traffic_key(const kvt_fleet_settings *settings);

#endif
