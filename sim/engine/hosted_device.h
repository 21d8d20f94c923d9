/*
 * hosted_device.h: a device that is threads of the host, in virtual time: attention and merges take
 * processors that I/O takes too (topology.h's link of them), so that either may be slower than
 * alone. Other work is of a device that is not there: it takes time and nobody's processor. A
 * device of its own is modelled_device.h's.
 */
#ifndef KVT_HOSTED_DEVICE_H
#define KVT_HOSTED_DEVICE_H

#include "sim/core/timeline.h"
#include "sim/engine/device.h"
#include "sim/engine/work_cost.h"
#include "sim/tier/topology.h"

/* All must outlive the device; the topology has processors. `threads`: that attend. */
kvt_device *kvt_hosted_device_new(const kvt_topology *topology, kvt_loop *loop, kvt_work_cost *cost,
	unsigned threads, kvt_timeline *timeline);

#endif
