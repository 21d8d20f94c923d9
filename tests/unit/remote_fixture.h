/*
 * remote_fixture.h: the remote tier and its storage node on one loop and a wire within the process,
 * for tests.
 */
#ifndef REMOTE_FIXTURE_H
#define REMOTE_FIXTURE_H

#include "emu/remote/remote_tier.h"
#include "sim/base/rng.h"
#include "tests/unit/node_fixture.h"
#include "tests/unit/remote_pages.h"
#include "tests/unit/tier_test_io.h"

enum { REMOTE_TENANTS = 3 };

/* A node that is made, and what the tier is opened with; both may be changed before. */
typedef struct remote_rig {
	node_host *host;
	kvt_tier *tier;
	kvt_remote_settings settings;
	kvt_remote_tenant tenants[REMOTE_TENANTS]; /* 0, 1, 2 */
} remote_rig;

/* A node with memory alone or with a store behind less of it. */
node_setup remote_setup(bool store);
/* Makes the node; with patience for a machine that has much else to do. */
void remote_rig_init(remote_rig *rig, const node_setup *setup);
/* The same, with times as short as tests of faults want them. */
void remote_rig_init_hasty(remote_rig *rig, const node_setup *setup);
void remote_rig_open(remote_rig *rig);
/* Opens a tier that must be refused; returns the message. */
char *remote_rig_refused(remote_rig *rig);
/* Closes the tier, when it is open, and the node. */
void remote_rig_close(remote_rig *rig);

/* Submits the I/O and runs the loop until it is done, no longer; returns its status. */
int remote_rig_run(remote_rig *rig, test_io *io);
/* One I/O of one run; returns its status. `memory` may be NULL. */
int remote_rig_move(
	remote_rig *rig, kvt_io_op op, uint32_t tenant, const kvt_extent *run, void *memory);

#endif
