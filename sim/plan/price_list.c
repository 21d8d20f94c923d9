/* price_list.c: price files by option tables; amortisation, rent and electricity of an hour. */
#include "sim/plan/price_list.h"

#include <stddef.h>
#include <string.h>

#include "models/model_file.h"
#include "sim/base/error.h"

static const double HOURS_A_YEAR = 365.25 * 24;

struct kvt_price_file {
	kvt_config *config;
	double common[KVT_PRICES]; /* those that no name has */
};

const char *const kvt_price_names_of[KVT_PRICES] = {
	[KVT_PRICE_GPU] = "GPU price",
	[KVT_PRICE_GPU_HOUR] = "GPU rent",
	[KVT_PRICE_HOST] = "host price",
	[KVT_PRICE_HOST_HOUR] = "host rent",
	[KVT_PRICE_DRAM] = "DRAM price",
	[KVT_PRICE_DRAM_HOUR] = "DRAM rent",
	[KVT_PRICE_DRIVE] = "drive price",
	[KVT_PRICE_DRIVE_HOUR] = "drive rent",
	[KVT_PRICE_NIC] = "NIC price",
	[KVT_PRICE_NIC_HOUR] = "NIC rent",
	[KVT_PRICE_YEARS] = "years of amortisation",
	[KVT_PRICE_MAINTENANCE] = "maintenance",
	[KVT_PRICE_UTILISATION] = "utilisation",
	[KVT_PRICE_KWH] = "electricity price",
	[KVT_PRICE_PUE] = "PUE",
	[KVT_PRICE_WARRANTY] = "drive warranty",
};

#define VALUE(price) ((price) * sizeof(double))

/* A thing's two prices stand one after the other wherever they are. */
static const kvt_option thing_options[] = {
	{ "purchase", KVT_OPTION_QUANTITY, KVT_UNIT_MONEY, 0, "0USD", 0, 1e9, NULL, "to buy it" },
	{ "hour", KVT_OPTION_QUANTITY, KVT_UNIT_MONEY, sizeof(double), "0USD", 0, 1e6, NULL,
		"to rent it; 0USD: it is bought" },
	{ 0 },
};

static const kvt_option ownership_options[] = {
	{ "years", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, VALUE(KVT_PRICE_YEARS), "4", 0.1, 50, NULL,
		"over which what was bought is written off" },
	{ "maintenance", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, VALUE(KVT_PRICE_MAINTENANCE), "0%", 0,
		1, NULL, "a year, of what was paid for it" },
	{ "utilisation", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, VALUE(KVT_PRICE_UTILISATION), "100%",
		0.01, 1, NULL, "of the hours that are paid for, those that serve such traffic" },
	{ "drive_warranty", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, VALUE(KVT_PRICE_WARRANTY), "5", 0.1,
		50, NULL, "years that a drive's writes a day are stated for" },
	{ 0 },
};

static const kvt_option electricity_options[] = {
	{ "kwh", KVT_OPTION_QUANTITY, KVT_UNIT_MONEY, VALUE(KVT_PRICE_KWH), NULL, 0, 1e3, NULL,
		"of a kWh" },
	{ "pue", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, VALUE(KVT_PRICE_PUE), "1", 1, 10, NULL,
		"power that the building takes for each watt of its machines" },
	{ 0 },
};

/* Kinds of things, the first word of their sections. DRAM is all of one kind. */
static const struct {
	const char *kind;
	kvt_price price;
} things[] = { { "gpu", KVT_PRICE_GPU }, { "host", KVT_PRICE_HOST }, { "dram", KVT_PRICE_DRAM },
	{ "drive", KVT_PRICE_DRIVE }, { "nic", KVT_PRICE_NIC } };

static gboolean read_thing(kvt_config *config, const char *section, double *prices, GError **error)
{
	double pair[2];
	if (!kvt_model_read_section(config, section, TRUE, thing_options, pair, error))
		return FALSE;
	if (pair[0] <= 0 && pair[1] <= 0)
		return kvt_section_error(kvt_config_section(config, section), NULL, error,
			"has no price, expected purchase or hour");
	memcpy(prices, pair, sizeof(pair));
	return TRUE;
}

/* Every section is read, so that what is wrong is found whether or not a plan needs it. */
static gboolean read_file(kvt_price_file *file, GError **error)
{
	kvt_config *config = file->config;
	static const char *const known[] = { "ownership", "electricity", "dram", "gpu NAME",
		"host NAME", "drive NAME", "nic NAME", NULL };
	if (!kvt_model_read_section(
		    config, "ownership", FALSE, ownership_options, file->common, error) ||
		!kvt_model_read_section(
			config, "electricity", TRUE, electricity_options, file->common, error) ||
		!read_thing(config, "dram", &file->common[KVT_PRICE_DRAM], error))
		return FALSE;
	for (unsigned i = 0; i < G_N_ELEMENTS(things); i++) {
		g_autofree const char **names = kvt_config_section_names(config, things[i].kind);
		for (unsigned j = 0; names[j]; j++) {
			double pair[2];
			if (!read_thing(config, names[j], pair, error))
				return FALSE;
		}
	}
	return kvt_config_check_used(config, known, error);
}

kvt_price_file *kvt_price_file_load(const char *path, GError **error)
{
	g_autoptr(kvt_price_file) file = g_new0(kvt_price_file, 1);
	file->config = kvt_config_load(path, error);
	if (!file->config || !read_file(file, error))
		return NULL;
	return g_steal_pointer(&file);
}

void kvt_price_file_free(kvt_price_file *file)
{
	if (!file)
		return;
	kvt_config_free(file->config);
	g_free(file);
}

/* The uncertainty that a section states for a key; what is not there has none. */
static double uncertainty_of(kvt_config *config, const char *section, const char *key)
{
	g_autofree char *name = g_strconcat(key, ".uncertainty", NULL);
	const char *text = kvt_section_text(kvt_config_section_or_empty(config, section), name);
	double share = 0;
	return text && kvt_unit_parse(text, KVT_UNIT_SHARE, &share, NULL) ? share : 0;
}

static void set_uncertainties(kvt_price_list *list, kvt_config *config, const char *section,
	const kvt_option *options, kvt_price first)
{
	for (const kvt_option *option = options; option->name; option++)
		list->uncertainty[first + option->offset / sizeof(double)] =
			uncertainty_of(config, section, option->name);
}

gboolean kvt_price_list_fill(const kvt_price_file *file, const kvt_price_names *names,
	kvt_price_list *list, GError **error)
{
	/* sections are looked up in a copy: several threads may share the file */
	g_autoptr(kvt_config) config = kvt_config_copy(file->config);
	*list = (kvt_price_list){ 0 };
	memcpy(list->value, file->common, sizeof(list->value));
	const char *const of[] = { names->gpu, names->host, "", names->drive, names->nic };
	for (unsigned i = 0; i < G_N_ELEMENTS(things); i++) {
		if (!of[i])
			continue;
		g_autofree char *section =
			*of[i] ? g_strconcat(things[i].kind, " ", of[i], NULL) : g_strdup("dram");
		kvt_price price = things[i].price;
		if (!read_thing(config, section, &list->value[price], error))
			return FALSE;
		set_uncertainties(list, config, section, thing_options, price);
	}
	set_uncertainties(list, config, "ownership", ownership_options, 0);
	set_uncertainties(list, config, "electricity", electricity_options, 0);
	return TRUE;
}

double kvt_price_hour(const kvt_price_list *list, kvt_price bought)
{
	const double *v = list->value;
	double rent = v[bought + 1];
	if (rent <= 0)
		rent = v[bought] * (1 / v[KVT_PRICE_YEARS] + v[KVT_PRICE_MAINTENANCE]) /
		       HOURS_A_YEAR;
	return rent / v[KVT_PRICE_UTILISATION];
}

double kvt_price_fleet_hour(const kvt_price_list *list, const kvt_price_bill *bill)
{
	return bill->gpus * kvt_price_hour(list, KVT_PRICE_GPU) +
	       bill->nodes * kvt_price_hour(list, KVT_PRICE_HOST) +
	       bill->dram_gb * kvt_price_hour(list, KVT_PRICE_DRAM) +
	       bill->drives * kvt_price_hour(list, KVT_PRICE_DRIVE) +
	       bill->nics * kvt_price_hour(list, KVT_PRICE_NIC) +
	       bill->watts * 1e-3 * list->value[KVT_PRICE_PUE] * list->value[KVT_PRICE_KWH];
}
