/* fleet_summary.h: a fleet's result for people: what `kvtier fleet` prints as a table. */
#ifndef KVT_FLEET_SUMMARY_H
#define KVT_FLEET_SUMMARY_H

#include <jansson.h>
#include <stdio.h>

/* Writes the result of kvt_fleet_report_json; stream errors are left for the caller to find. */
void kvt_fleet_summary_write(const json_t *result, FILE *stream);

#endif
