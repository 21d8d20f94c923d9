/*
 * telemetry.h: what a fleet did when: every period of virtual time a row of who waited and ran,
 * what links and drives were used for and had queued, how full the tiers were and what was found in
 * them. It looks and changes nothing, so figures are the same with it; adapt.h acts on what it
 * sees. Where it is off nothing of it exists.
 */
#ifndef KVT_TELEMETRY_H
#define KVT_TELEMETRY_H

#include <jansson.h>
#include <stdio.h>

#include "sim/fleet/fleet.h"

/* More rows than this are counted and not kept. */
#define KVT_TELEMETRY_ROWS_MAX 100000

/* Of a fleet that has not begun, which outlives it. Period in ps, more than 0. */
kvt_telemetry *kvt_telemetry_new(const kvt_fleet *fleet, kvt_time period);
void kvt_telemetry_free(kvt_telemetry *telemetry);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_telemetry, kvt_telemetry_free)

/* A request comes, before anybody has seen it: samples are taken while there is something to see,
 * and when nothing is any more, until the period ends; rows of idle time are made up for. */
void kvt_telemetry_wake(kvt_telemetry *telemetry);

/* Columns by name, the same in every row: "time_s" is the end of a row's period, "period_s" how
 * long it was. Levels are those at its end, rates and shares those of the period. */
unsigned kvt_telemetry_n_columns(const kvt_telemetry *telemetry);
const char *kvt_telemetry_column(const kvt_telemetry *telemetry, unsigned column);
uint64_t kvt_telemetry_n_rows(const kvt_telemetry *telemetry);
uint64_t kvt_telemetry_dropped_rows(const kvt_telemetry *telemetry);
/* NAN where there was nothing to take a share of. */
double kvt_telemetry_value(const kvt_telemetry *telemetry, uint64_t row, unsigned column);

/* {period_s, dropped_rows, series {column: [values]}}, a new reference. */
json_t *kvt_telemetry_json(const kvt_telemetry *telemetry);

/* A header of column names and the rows. */
gboolean kvt_telemetry_write(const kvt_telemetry *telemetry, FILE *stream, GError **error);

#endif
