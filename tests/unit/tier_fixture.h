/*
 * tier_fixture.h: a small machine for tests of tiers: a loop, a network, a topology with every link
 * in it, and the tiers opened in it.
 */
#ifndef TIER_FIXTURE_H
#define TIER_FIXTURE_H

#include "sim/tier/tier.h"
#include "sim/tier/topology.h"

typedef struct tier_machine {
	kvt_loop *loop;
	kvt_network *network;
	kvt_topology topology;
	kvt_tier_env env;
} tier_machine;

/* Four ranks on PCIe 4, one 400 Gb/s port, two targets; to be changed before tier_machine_new. */
kvt_topology_spec tier_machine_spec(void);

tier_machine *tier_machine_new(const kvt_topology_spec *spec, uint64_t seed);
void tier_machine_free(tier_machine *machine);

/* Opens a kind with options as they would stand in its section, lines "key = value"; fails the test
 * on an error. */
kvt_tier *tier_machine_open(tier_machine *machine, const char *kind, const char *options);

#endif
