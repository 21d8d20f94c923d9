/* run_summary.h: a run's result for people: what `kvtier run` prints as a table. */
#ifndef KVT_RUN_SUMMARY_H
#define KVT_RUN_SUMMARY_H

#include <jansson.h>
#include <stdio.h>

/* Writes the result of kvt_turn_to_json and what the command added to it; stream errors are left
 * for the caller to find. */
void kvt_run_summary_write(const json_t *result, FILE *stream);

/* The part of it that compares a migration's turns (kvt_migration_to_json). */
void kvt_run_summary_migration(const json_t *times, FILE *stream);

#endif
