/*
 * tenant_settings.h: [tenant NAME] and [qos] of a fleet file: whose requests they are, what each
 * tenant was promised (class, weight, reserved shares, quotas, deadline) and what it may ask for.
 * What becomes of it is replica_tenants.h's, link_shares.h's and admission.h's.
 */
#ifndef KVT_TENANT_SETTINGS_H
#define KVT_TENANT_SETTINGS_H

#include <stdbool.h>

#include "sim/base/config.h"
#include "sim/base/sim_time.h"

typedef enum kvt_tenant_sharing {
	KVT_SHARING_FCFS,     /* tenants are served as if they were one */
	KVT_SHARING_FAIR,     /* by class and weight */
	KVT_SHARING_RESERVED, /* what is reserved first, then by class and weight */
} kvt_tenant_sharing;

typedef enum kvt_reservation {
	KVT_RESERVED_COMPUTE,   /* of the token budget of a step */
	KVT_RESERVED_SEQUENCES, /* of [scheduler] max_sequences */
	KVT_RESERVED_MEMORY,    /* of the HBM for KV */
	KVT_RESERVED_LINKS,     /* of every link's rate */
	KVT_RESERVATIONS,
} kvt_reservation;

enum { KVT_TENANT_CLASSES = 4, KVT_QUOTAS_MAX = 8 };

typedef struct kvt_quota {
	char *level; /* "hbm", or a tier's name */
	double bytes, share;
} kvt_quota;

/* [tenant NAME] */
typedef struct kvt_tenant_settings {
	const char *name; /* of the section, without "tenant "; the config's */
	bool active, shared;
	char *trace;
	double rate_scale;
	int64_t requests;
	kvt_time until, generate;

	int64_t priority; /* 0 is served first */
	double weight;
	double reserved[KVT_RESERVATIONS]; /* shares */

	char *quotas; /* "dram 20%, nvme 1TB" */
	kvt_quota quota[KVT_QUOTAS_MAX];
	unsigned n_quotas;

	kvt_time deadline;  /* 0: none */
	int64_t queue;      /* requests that wait, 0: any number */
	double rate, burst; /* token bucket: requests/s, 0 no limit; requests at once */
} kvt_tenant_settings;

/* [qos] */
typedef struct kvt_qos_settings {
	int sharing; /* kvt_tenant_sharing */
	kvt_time aging;
} kvt_qos_settings;

extern const kvt_option kvt_tenant_options[];
extern const kvt_option kvt_qos_options[];

/* Reads all [tenant NAME] of the config: *tenants has *n of them, in the order of the file. */
gboolean kvt_tenant_settings_read(
	kvt_config *config, kvt_tenant_settings **tenants, unsigned *n, GError **error);
void kvt_tenant_settings_free(kvt_tenant_settings *tenants, unsigned n);

/* Bytes of its quota at a level of so many bytes; 0: it has none. */
uint64_t kvt_tenant_quota(const kvt_tenant_settings *tenant, const char *level, uint64_t capacity);

#endif
