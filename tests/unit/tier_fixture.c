/* tier_fixture.c: builds and takes down the machine of tier_fixture.h. */
#include "tests/unit/tier_fixture.h"

kvt_topology_spec tier_machine_spec(void)
{
	return (kvt_topology_spec){
		.ranks = 4,
		.hbm_rate = 4 * 700e9,
		.gpu_link_rate = 4 * 26e9,
		.gpu_copy_cost = 2.5e-6,
		.dram_rate = 400e9,
		.nic_rate = 50e9,
		.fabric_efficiency = 0.95,
		.fabric_latency = 2 * KVT_MICROSECOND,
		.fabric_latency_p99 = 4 * KVT_MICROSECOND,
		.nic_message_rate = 300e6,
		.target_nic_rate = 100e9,
		.target_dram_rate = 600e9,
		.processors = 8,
		.checksum_rate = 200e9,
		.client_io_rate = 20e6,
	};
}

tier_machine *tier_machine_new(const kvt_topology_spec *spec, uint64_t seed)
{
	tier_machine *m = g_new0(tier_machine, 1);
	m->loop = kvt_virtual_loop_new();
	m->network = kvt_network_new(m->loop);
	kvt_topology_init(&m->topology, m->network, spec);
	m->env = (kvt_tier_env){
		.loop = m->loop, .network = m->network, .seed = seed, .topology = &m->topology
	};
	return m;
}

void tier_machine_free(tier_machine *m)
{
	kvt_network_free(m->network);
	kvt_loop_free(m->loop);
	g_free(m);
}

kvt_tier *tier_machine_open(tier_machine *m, const char *kind, const char *options)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf("[%s]\n%s\n", kind, options);
	g_autoptr(kvt_config) config = kvt_config_parse(kind, text, &error);
	g_assert_no_error(error);
	kvt_tier *tier = kvt_tier_open(kind, &m->env, kvt_config_section(config, kind), &error);
	g_assert_no_error(error);
	return tier;
}
