/*
 * price_list.h: what machines and electricity cost, as a price file under models/price/ has it, and
 * the hourly cost of a fleet by it. Each constant says where it is from and how far off it may be,
 * as in every model file. It knows no traffic.
 */
#ifndef KVT_PRICE_LIST_H
#define KVT_PRICE_LIST_H

#include <glib.h>
#include <jansson.h>

#include "sim/base/config.h"

/* Every number that an hour of a fleet depends on. Of each kind of thing either what it is bought
 * for or what an hour of it is rented for, US dollars. */
typedef enum kvt_price {
	KVT_PRICE_GPU,      /* to buy */
	KVT_PRICE_GPU_HOUR, /* to rent, its power and cooling not counted; 0: it is bought */
	KVT_PRICE_HOST,     /* without GPUs, DRAM of tiers, drives and NICs */
	KVT_PRICE_HOST_HOUR,
	KVT_PRICE_DRAM, /* a GB */
	KVT_PRICE_DRAM_HOUR,
	KVT_PRICE_DRIVE,
	KVT_PRICE_DRIVE_HOUR,
	KVT_PRICE_NIC,
	KVT_PRICE_NIC_HOUR,
	KVT_PRICE_YEARS,       /* over which what was bought is written off */
	KVT_PRICE_MAINTENANCE, /* a year, share of the price */
	KVT_PRICE_UTILISATION, /* share of the hours paid for that serve such traffic */
	KVT_PRICE_KWH,
	KVT_PRICE_PUE,      /* power of the building for each watt of its machines */
	KVT_PRICE_WARRANTY, /* years that a drive's endurance is stated for */
	KVT_PRICES,
} kvt_price;

typedef struct kvt_price_file kvt_price_file;

/* Reads a price file; NULL with an error at file:line. */
kvt_price_file *kvt_price_file_load(const char *path, GError **error);
void kvt_price_file_free(kvt_price_file *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_price_file, kvt_price_file_free)

/* The prices of one fleet's machines. */
typedef struct kvt_price_list {
	double value[KVT_PRICES];
	double uncertainty[KVT_PRICES]; /* share either way */
} kvt_price_list;

/* What machines a fleet is made of, by the names of their models; NULL: has none, costs nothing. */
typedef struct kvt_price_names {
	const char *gpu, *host, *drive, *nic;
} kvt_price_names;

/* Looks the machines up. An error names the section that the file lacks. */
gboolean kvt_price_list_fill(const kvt_price_file *file, const kvt_price_names *names,
	kvt_price_list *list, GError **error);

/* "gpu price", "kWh price", ...: what the figure is called in results. */
extern const char *const kvt_price_names_of[KVT_PRICES];

/* How many of what a fleet has, and the electricity it takes. */
typedef struct kvt_price_bill {
	double gpus, nodes, dram_gb, drives, nics;
	double watts; /* mean, of its machines */
} kvt_price_bill;

/* US dollars an hour that one GPU, host, GB of DRAM, drive or NIC costs, `bought` being its price
 * to buy (KVT_PRICE_GPU, ...). */
double kvt_price_hour(const kvt_price_list *list, kvt_price bought);

/* US dollars an hour of the whole fleet: machines and electricity. */
double kvt_price_fleet_hour(const kvt_price_list *list, const kvt_price_bill *bill);

#endif
