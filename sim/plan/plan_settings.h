/*
 * plan_settings.h: a plan file: a fleet file (fleet_settings.h) and, in [plan], what may be bought,
 * what is asked of it and how long to look; in [uncertainty] what is not known exactly. It says
 * which fleets there are to choose from, as shapes, and runs none.
 *
 * A shape is all of a fleet but the number of its replicas.
 */
#ifndef KVT_PLAN_SETTINGS_H
#define KVT_PLAN_SETTINGS_H

#include <glib.h>
#include <stdbool.h>

#include "sim/fleet/fleet_settings.h"
#include "sim/plan/price_list.h"
#include "traces/request_trace.h"

/* KVT_PLAN_AS_IT_IS, NULL: as the file has it. Strings belong to the settings. */
enum { KVT_PLAN_AS_IT_IS = -1 };

typedef struct kvt_plan_shape {
	const char *gpu;
	int64_t count; /* of them, a replica */
	double dram;   /* bytes of the DRAM tier of a node; 0: there is none */
	const char *drive;
	int64_t drives; /* of the NVMe tier of a node; 0: there is none */
	int64_t nics;   /* a node */
} kvt_plan_shape;

/* A key that is not known exactly, and both ends of what it may be, as [uncertainty] has them. */
typedef struct kvt_plan_uncertainty {
	char *key, *low, *high;
} kvt_plan_uncertainty;

typedef struct kvt_plan_settings {
	char *prices_name, *gpu_list, *count_list, *replica_range, *dram_list, *drive_list,
		*drives_list, *nics_list; /* [plan], as written */
	kvt_time ttft, tpot;              /* of 95% of requests; 0: tpot is not asked for */
	double share, refused; /* of requests: that meet both at least, refused at most */
	int64_t budget, frontier;
	double screen, raise, write_amplification;

	kvt_config *config;        /* of the fleet alone; read-only */
	kvt_fleet_settings *fleet; /* as the file has it */
	kvt_model_store *models;
	kvt_price_file *prices;
	kvt_request_trace *trace;
	int64_t low, high;           /* replicas */
	char *dram_tier, *nvme_tier; /* sections that the candidates are of; NULL: there is none */
	GArray *shapes;              /* kvt_plan_shape */
	GArray *uncertainties;       /* kvt_plan_uncertainty */
	GPtrArray *words;            /* of lists */
} kvt_plan_settings;

/* Reads the file, the price file and the trace; overrides as for kvt_fleet_settings_load. NULL with
 * an error at the first fault. */
kvt_plan_settings *kvt_plan_settings_load(
	const char *path, const char *const *overrides, GError **error);
void kvt_plan_settings_free(kvt_plan_settings *settings);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_plan_settings, kvt_plan_settings_free)

/* The fleet of a shape with so many replicas, `change` ("section.key=value") made to it (NULL:
 * none), with hourly costs by the price list, which is filled. Threads may call it at once. NULL
 * with an error. */
kvt_fleet_settings *kvt_plan_settings_fleet(const kvt_plan_settings *settings,
	const kvt_plan_shape *shape, int64_t replicas, const char *change, kvt_price_list *prices,
	GError **error);

/* "12 x 4 h100-sxm, 1 TB DRAM, 8 micron-9550, 2 NICs a node": a new string. */
char *kvt_plan_config_text(const kvt_fleet_settings *fleet);

extern const kvt_option kvt_plan_options[];

#endif
