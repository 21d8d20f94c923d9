/*
 * calibrate_network.h: what the files that measure a network share. For calibration alone.
 */
#ifndef KVT_CALIBRATE_NETWORK_H
#define KVT_CALIBRATE_NETWORK_H

#include "emu/calibrate/calibration.h"
#include "emu/calibrate/remote_probe.h"

/* Fills calibration->perftest, or says in calibration->why why not. `address`: the node's. */
void kvt_calibrate_against_perftest(kvt_calibration *calibration,
	const kvt_calibrate_settings *settings, kvt_remote_probe *probe, kvt_loop *loop,
	const char *address);

#endif
