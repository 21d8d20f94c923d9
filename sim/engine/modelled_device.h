/*
 * modelled_device.h: the GPUs of a tensor-parallel group in virtual time. Ranks do the same work in
 * step, so one rank's streams stand for all; each call takes what work_cost says.
 */
#ifndef KVT_MODELLED_DEVICE_H
#define KVT_MODELLED_DEVICE_H

#include "sim/core/timeline.h"
#include "sim/engine/device.h"
#include "sim/engine/work_cost.h"

/* The loop, cost and timeline (may be NULL) must outlive the device. */
kvt_device *kvt_modelled_device_new(kvt_loop *loop, kvt_work_cost *cost, kvt_timeline *timeline);

#endif
