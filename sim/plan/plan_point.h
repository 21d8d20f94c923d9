/*
 * plan_point.h: one simulation of a plan: a shape with so many replicas over the traffic or the
 * first of it, as it is, with more of one resource, or with one input at an end of what it may be;
 * and its figures. It decides nothing.
 */
#ifndef KVT_PLAN_POINT_H
#define KVT_PLAN_POINT_H

#include "sim/fleet/fleet_figures.h"
#include "sim/plan/drive_wear.h"
#include "sim/plan/plan_settings.h"

/* What a fleet may have too little of. */
typedef enum kvt_plan_resource {
	KVT_PLAN_GPU_COMPUTE,
	KVT_PLAN_HBM_CAPACITY,
	KVT_PLAN_HBM_BANDWIDTH,
	KVT_PLAN_DRAM_CAPACITY,
	KVT_PLAN_DRIVE_CAPACITY,
	KVT_PLAN_DRIVE_READ,
	KVT_PLAN_DRIVE_WRITE,
	KVT_PLAN_NIC,
	KVT_PLAN_PCIE,
	KVT_PLAN_RESOURCES,
} kvt_plan_resource;

extern const char *const kvt_plan_resource_names[KVT_PLAN_RESOURCES];
/* Of an amount, a GPU's, node's or drive's. */
extern const char *const kvt_plan_resource_units[KVT_PLAN_RESOURCES];

typedef struct kvt_plan_job {
	unsigned shape;
	int64_t replicas;
	int64_t requests;   /* the first so many; 0: as the file says */
	int raise;          /* kvt_plan_resource, -1: none */
	double factor;      /* by which it is raised */
	const char *change; /* "section.key=value" or NULL; outlives the job */
} kvt_plan_job;

/* Seconds, US dollars, joules, bytes. All doubles, so that a table can name them. */
typedef struct kvt_plan_figures {
	double p50_ttft, p95_ttft, p99_ttft, p95_tpot, goodput, goodput_share, refused_share;
	double duration, mtokens, joules;
	double cost; /* an hour */
	double cost_per_mtoken, joules_per_mtoken;
	double dwpd, life_years; /* drives; 0 and NaN without any */
	double gpus, nodes, dram_gb, drives, nics;
	/* of the joules: GPUs at idle, what they take more when busy, hosts, NICs, drives */
	double gpu_idle_joules, gpu_busy_joules, host_joules, nic_joules, drive_joules;
	/* what a GPU (FLOP/s, bytes, bytes/s), a node's tier (bytes), a drive (bytes/s) and a NIC
	 * or a replica's PCIe (bytes/s) have, by resource; 0: there is none */
	double amount[KVT_PLAN_RESOURCES];
	/* what went over it: a resource that moved nothing cannot bind */
	double used[KVT_PLAN_RESOURCES];
} kvt_plan_figures;

enum { KVT_PLAN_FIGURES = sizeof(kvt_plan_figures) / sizeof(double) };

/* Runs a job. False with an error when the fleet cannot be built (its model does not fit, say) or
 * the run fails. Threads may run several at once. */
gboolean kvt_plan_point_run(const kvt_plan_settings *settings, const kvt_plan_job *job,
	kvt_plan_figures *figures, GError **error);

/* The fleet of a job, not run, for who asks its links and step times; freed in this order. */
typedef struct kvt_plan_point {
	kvt_fleet_settings *settings;
	kvt_price_list prices;
	kvt_gpu gpu; /* copies that the settings point to when something is raised */
	kvt_drive drives[KVT_FLEET_TIERS_MAX];
	kvt_fleet *fleet;
} kvt_plan_point;

gboolean kvt_plan_point_open(const kvt_plan_settings *settings, const kvt_plan_job *job,
	kvt_plan_point *point, GError **error);
void kvt_plan_point_close(kvt_plan_point *point);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_plan_point, kvt_plan_point_close)

/* Whether the figures are what the plan asks for. */
bool kvt_plan_meets(const kvt_plan_settings *settings, const kvt_plan_figures *figures);

/* The fleet's machines and mean power, for kvt_price_fleet_hour. */
kvt_price_bill kvt_plan_bill(const kvt_plan_figures *figures);

#endif
