/* fleet_fixture.c: small fleets and made-up traces. */
#include "tests/unit/fleet_fixture.h"

kvt_made_trace *kvt_made_trace_new(uint32_t block_tokens)
{
	kvt_made_trace *made = g_new0(kvt_made_trace, 1);
	made->requests = g_array_new(FALSE, TRUE, sizeof(kvt_request));
	made->blocks = g_array_new(FALSE, TRUE, sizeof(uint32_t));
	made->block_tokens = block_tokens;
	made->n_tenants = 1;
	return made;
}

void kvt_made_trace_free(kvt_made_trace *made)
{
	g_array_unref(made->requests);
	g_array_unref(made->blocks);
	g_free(made);
}

kvt_request *kvt_made_trace_add(
	kvt_made_trace *made, kvt_time arrival, uint32_t input_tokens, uint32_t output_tokens)
{
	const kvt_request request = { .arrival = arrival,
		.session = made->n_sessions++,
		.after = KVT_REQUEST_NONE,
		.joins = KVT_REQUEST_NONE,
		.input_tokens = input_tokens,
		.output_tokens = output_tokens };
	g_array_append_val(made->requests, request);
	return &g_array_index(made->requests, kvt_request, made->requests->len - 1);
}

void kvt_made_trace_set_blocks(kvt_made_trace *made, const uint32_t *ids, uint32_t n_ids)
{
	kvt_request *last = &g_array_index(made->requests, kvt_request, made->requests->len - 1);
	last->first_block = made->blocks->len;
	last->n_blocks = n_ids;
	g_array_append_vals(made->blocks, ids, n_ids);
	for (uint32_t i = 0; i < n_ids; i++)
		made->n_ids = MAX(made->n_ids, ids[i] + 1);
}

const kvt_request_trace *kvt_made_trace_get(kvt_made_trace *made)
{
	static const char *const names[] = { "a", "b", "c", "d", "e", "f", "g", "h" };
	g_assert_cmpuint(made->n_tenants, <=, G_N_ELEMENTS(names));
	made->trace = (kvt_request_trace){
		.requests = (const kvt_request *)(void *)made->requests->data,
		.n_requests = made->requests->len,
		.blocks = (const uint32_t *)(void *)made->blocks->data,
		.n_blocks = made->blocks->len,
		.n_ids = made->n_ids,
		.block_tokens = made->block_tokens,
		.n_sessions = made->n_sessions,
		.n_tenants = made->n_tenants,
		.tenant_names = names,
		.source = "made up",
	};
	return &made->trace;
}

kvt_fleet_settings *kvt_fleet_fixture_settings(const char *text, const char *const *sets)
{
	static const char *const base = "[model]\n"
					"name = yi-34b-200k\n"
					"[gpu]\n"
					"name = a100-80g\n"
					"count = 4\n"
					"[host]\n"
					"name = pcie4-ddr4\n"
					"[traffic]\n"
					"trace = none\n";
	g_autofree char *whole = g_strconcat(base, text, NULL);
	GError *error = NULL;
	kvt_config *config = kvt_config_parse("fixture", whole, &error);
	g_assert_no_error(error);
	/* steps on a line, unless the test says otherwise */
	if (!strstr(text, "[step]"))
		g_assert_true(kvt_config_set(config, "step.model=linear", &error));
	for (unsigned i = 0; sets && sets[i]; i++)
		g_assert_true(kvt_config_set(config, sets[i], &error));
	kvt_fleet_settings *settings = kvt_fleet_settings_new(config, NULL, &error);
	g_assert_no_error(error);
	return settings;
}

kvt_fleet *kvt_fleet_fixture_run(const kvt_fleet_settings *settings, const kvt_request_trace *trace)
{
	GError *error = NULL;
	kvt_fleet *fleet = kvt_fleet_new(settings, trace, &error);
	g_assert_no_error(error);
	kvt_fleet_run(fleet, &error);
	g_assert_no_error(error);
	return fleet;
}
