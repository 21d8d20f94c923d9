/* fleet_fixture.h: what tests of the fleet share: fleets of a few lines, traces that are made up
 * request by request, and their run. */
#ifndef KVT_FLEET_FIXTURE_H
#define KVT_FLEET_FIXTURE_H

#include "sim/fleet/fleet_figures.h"

/* A trace that is being made up. Requests come in order of arrival. */
typedef struct kvt_made_trace {
	GArray *requests; /* kvt_request */
	GArray *blocks;   /* uint32_t */
	uint32_t block_tokens, n_ids, n_sessions, n_tenants;
	kvt_request_trace trace;
} kvt_made_trace;

kvt_made_trace *kvt_made_trace_new(uint32_t block_tokens);
void kvt_made_trace_free(kvt_made_trace *made);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_made_trace, kvt_made_trace_free)

/* Adds a request without blocks, the only one of its session; returns it, to be changed. The
 * pointer holds until the next one is added. */
kvt_request *kvt_made_trace_add(
	kvt_made_trace *made, kvt_time arrival, uint32_t input_tokens, uint32_t output_tokens);

/* Gives the last request a prompt of these blocks. */
void kvt_made_trace_set_blocks(kvt_made_trace *made, const uint32_t *ids, uint32_t n_ids);

/* The trace as it is now; belongs to `made`. */
const kvt_request_trace *kvt_made_trace_get(kvt_made_trace *made);

/* A fleet file of one replica of one made-up GPU whose steps are `linear`, with `text` behind it:
 * more sections. Never NULL. `sets` may be NULL. */
kvt_fleet_settings *kvt_fleet_fixture_settings(const char *text, const char *const *sets);

/* Runs it; never NULL. */
kvt_fleet *kvt_fleet_fixture_run(
	const kvt_fleet_settings *settings, const kvt_request_trace *trace);

#endif
