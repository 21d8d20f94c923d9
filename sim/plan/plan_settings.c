/* plan_settings.c: reads plan files, lists every shape, makes fleets of shapes. */
#include "sim/plan/plan_settings.h"

#include <stddef.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/fleet/fleet_traffic.h"

#define FIELD(name) offsetof(kvt_plan_settings, name)

const kvt_option kvt_plan_options[] = {
	{ "prices", KVT_OPTION_STRING, 0, FIELD(prices_name), NULL, 0, 0, NULL,
		"price file: beside the plan file, in models/price of the project's data, or a "
		"path" },
	{ "gpu", KVT_OPTION_STRING, 0, FIELD(gpu_list), "", 0, 0, NULL,
		"GPU models to choose from, separated by commas; left out: the [gpu]'s own" },
	{ "count", KVT_OPTION_STRING, 0, FIELD(count_list), "", 0, 0, NULL,
		"numbers of them a replica to choose from; as many replicas share a node as its "
		"slots hold" },
	{ "replicas", KVT_OPTION_STRING, 0, FIELD(replica_range), "1..64", 0, 0, NULL,
		"fewest and most replicas, low..high" },
	{ "dram", KVT_OPTION_STRING, 0, FIELD(dram_list), "", 0, 0, NULL,
		"sizes of the first tier of kind dram to choose from, a node's; 0B: no such tier" },
	{ "drive", KVT_OPTION_STRING, 0, FIELD(drive_list), "", 0, 0, NULL,
		"drive models of the first tier of kind nvme to choose from" },
	{ "drives", KVT_OPTION_STRING, 0, FIELD(drives_list), "", 0, 0, NULL,
		"numbers of them to choose from, a node's; 0: no such tier" },
	{ "nics", KVT_OPTION_STRING, 0, FIELD(nics_list), "", 0, 0, NULL,
		"numbers of NICs to choose from, a node's" },
	{ "ttft", KVT_OPTION_TIME, 0, FIELD(ttft), NULL, 1e-9, 9e6, NULL,
		"time to first token that 95% of requests are to have at most" },
	{ "tpot", KVT_OPTION_TIME, 0, FIELD(tpot), "0s", 0, 9e6, NULL,
		"time per output token after it that 95% of requests are to have at most; 0s: "
		"any" },
	{ "share", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(share), "0%", 0, 1, NULL,
		"of requests that are to meet both ttft and tpot" },
	{ "refused", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(refused), "0%", 0, 1, NULL,
		"of requests that may be refused" },
	{ "budget", KVT_OPTION_INTEGER, 0, FIELD(budget), "1000", 1, 1e6, NULL,
		"simulations at most: half of them to search, the others to find out what "
		"matters" },
	{ "frontier", KVT_OPTION_INTEGER, 0, FIELD(frontier), "8", 1, 100, NULL,
		"points of the frontier at most" },
	{ "screen", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(screen), "25%", 0, 1, NULL,
		"of the requests, the first ones, that say where to look; 0%: look everywhere" },
	{ "raise", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(raise), "20%", 0.01, 1, NULL,
		"how much of a resource is added to find out whether it is what binds" },
	{ "write_amplification", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(write_amplification),
		"1.1", 1, 20, NULL, "bytes that flash writes for each that it is given" },
	{ 0 },
};

/* Lists */

/* The words between commas; an empty text is one NULL, the file's own. They belong to the settings.
 */
static char **list_words(kvt_plan_settings *s, const char *text)
{
	if (*text == '\0')
		return NULL;
	char **words = g_strsplit(text, ",", -1);
	for (unsigned i = 0; words[i]; i++)
		g_strstrip(words[i]);
	g_ptr_array_add(s->words, words);
	return words;
}

static gboolean list_numbers(kvt_plan_settings *s, kvt_section *section, const char *key,
	const char *text, kvt_unit unit, GArray *numbers, GError **error)
{
	char **words = list_words(s, text);
	double number = KVT_PLAN_AS_IT_IS;
	if (!words)
		g_array_append_val(numbers, number);
	for (unsigned i = 0; words && words[i]; i++) {
		g_autoptr(GError) why = NULL;
		if (!kvt_unit_parse(words[i], unit, &number, &why))
			return kvt_section_error(section, key, error, "%s", why->message);
		if (unit == KVT_UNIT_COUNT && number > 1e6)
			return kvt_section_error(section, key, error, "%s is too many", words[i]);
		g_array_append_val(numbers, number);
	}
	return TRUE;
}

static gboolean read_range(kvt_plan_settings *s, kvt_section *section, GError **error)
{
	g_auto(GStrv) ends = g_strsplit(s->replica_range, "..", -1);
	double low, high;
	if (g_strv_length(ends) != 2 ||
		!kvt_unit_parse(g_strstrip(ends[0]), KVT_UNIT_COUNT, &low, NULL) ||
		!kvt_unit_parse(g_strstrip(ends[1]), KVT_UNIT_COUNT, &high, NULL) || low < 1 ||
		high < low || high > 4096)
		return kvt_section_error(section, "replicas", error,
			"%s is no range, expected low..high, from 1 to 4096", s->replica_range);
	s->low = (int64_t)low;
	s->high = (int64_t)high;
	return TRUE;
}

typedef struct axes {
	GArray *counts, *drams, *drives, *nics; /* of double */
	char **gpus, **drive_names;
} axes;

static void axes_clear(axes *a)
{
	g_array_unref(a->counts);
	g_array_unref(a->drams);
	g_array_unref(a->drives);
	g_array_unref(a->nics);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(axes, axes_clear)

static GArray *numbers_new(void)
{
	return g_array_new(FALSE, FALSE, sizeof(double));
}

#define NUMBER(array, i) g_array_index(array, double, i)

static void add_storage_shapes(kvt_plan_settings *s, const axes *a, kvt_plan_shape shape)
{
	for (unsigned d = 0; d < a->drams->len; d++) {
		shape.dram = NUMBER(a->drams, d);
		for (unsigned n = 0; n < a->drives->len; n++) {
			shape.drives = (int64_t)NUMBER(a->drives, n);
			for (unsigned m = 0; m == 0 || (a->drive_names && a->drive_names[m]); m++) {
				/* of no drives there is one kind */
				if (shape.drives == 0 && m > 0)
					break;
				shape.drive = a->drive_names ? a->drive_names[m] : NULL;
				for (unsigned i = 0; i < a->nics->len; i++) {
					shape.nics = (int64_t)NUMBER(a->nics, i);
					g_array_append_val(s->shapes, shape);
				}
			}
		}
	}
}

static gboolean list_shapes(kvt_plan_settings *s, kvt_section *section, GError **error)
{
	g_auto(axes) a = { .counts = numbers_new(),
		.drams = numbers_new(),
		.drives = numbers_new(),
		.nics = numbers_new() };
	if (!list_numbers(s, section, "count", s->count_list, KVT_UNIT_COUNT, a.counts, error) ||
		!list_numbers(s, section, "dram", s->dram_list, KVT_UNIT_BYTES, a.drams, error) ||
		!list_numbers(
			s, section, "drives", s->drives_list, KVT_UNIT_COUNT, a.drives, error) ||
		!list_numbers(s, section, "nics", s->nics_list, KVT_UNIT_COUNT, a.nics, error))
		return FALSE;
	a.gpus = list_words(s, s->gpu_list);
	a.drive_names = list_words(s, s->drive_list);
	if (*s->dram_list && !s->dram_tier)
		return kvt_section_error(section, "dram", error,
			"there is no such tier, expected a section [tier NAME] with kind = dram");
	if ((*s->drives_list || a.drive_names) && !s->nvme_tier)
		return kvt_section_error(section, *s->drives_list ? "drives" : "drive", error,
			"there is no such tier, expected a section [tier NAME] with kind = nvme");
	for (unsigned g = 0; g == 0 || (a.gpus && a.gpus[g]); g++)
		for (unsigned c = 0; c < a.counts->len; c++)
			add_storage_shapes(s, &a,
				(kvt_plan_shape){ .gpu = a.gpus ? a.gpus[g] : NULL,
					.count = (int64_t)NUMBER(a.counts, c) });
	if (s->shapes->len > 100000)
		return kvt_section_error(section, NULL, error,
			"there are %u fleets to choose from, expected at most 100000",
			s->shapes->len);
	return TRUE;
}

/* Every model is there and has a price, so that no shape is left out for the lack of it. */
static gboolean check_models(kvt_plan_settings *s, kvt_section *section, GError **error)
{
	const kvt_experiment *e = s->fleet->experiment;
	for (unsigned i = 0; i < s->shapes->len; i++) {
		const kvt_plan_shape *shape = &g_array_index(s->shapes, kvt_plan_shape, i);
		g_autoptr(GError) why = NULL;
		const kvt_gpu *gpu = e->gpu;
		const kvt_drive *drive = NULL;
		kvt_price_list prices;
		if (shape->gpu && !(gpu = kvt_model_store_gpu(s->models, shape->gpu, &why)))
			return kvt_section_error(section, "gpu", error, "%s", why->message);
		if (shape->drive && !(drive = kvt_model_store_drive(s->models, shape->drive, &why)))
			return kvt_section_error(section, "drive", error, "%s", why->message);
		const kvt_price_names names = { gpu->name, e->host->name,
			drive ? drive->name : NULL, shape->nics != 0 ? e->nic->name : NULL };
		if (!kvt_price_list_fill(s->prices, &names, &prices, error))
			return FALSE;
	}
	return TRUE;
}

/* Reading */

static gboolean read_uncertainties(kvt_plan_settings *s, kvt_config *config, GError **error)
{
	kvt_section *section = kvt_config_section(config, "uncertainty");
	if (!section)
		return TRUE;
	g_autofree const char **keys = kvt_section_keys(section);
	for (unsigned k = 0; keys[k]; k++) {
		const char *text = kvt_section_text(section, keys[k]);
		g_auto(GStrv) ends = g_strsplit_set(text, " \t", -1);
		const char *found[2] = { NULL };
		unsigned n = 0;
		for (unsigned e = 0; ends[e]; e++) {
			if (ends[e][0] != '\0' && n < 2)
				found[n] = ends[e];
			n += ends[e][0] != '\0';
		}
		if (n != 2)
			return kvt_section_error(section, keys[k], error,
				"%s is no range, expected both ends of what it may be", text);
		const kvt_plan_uncertainty entry = { g_strdup(keys[k]),
			g_strconcat(keys[k], "=", found[0], NULL),
			g_strconcat(keys[k], "=", found[1], NULL) };
		g_array_append_val(s->uncertainties, entry);
		/* once, so that a wrong one is said here, and not as a simulation's */
		for (unsigned e = 0; e < 2; e++) {
			g_autoptr(kvt_config) copy = kvt_config_copy(s->config);
			g_autoptr(GError) why = NULL;
			g_autoptr(kvt_fleet_settings) fleet = NULL;
			if (kvt_config_set(copy, e ? entry.high : entry.low, &why))
				fleet = kvt_fleet_settings_new(
					g_steal_pointer(&copy), s->models, &why);
			if (!fleet)
				return kvt_section_error(
					section, keys[k], error, "%s", why->message);
		}
	}
	return TRUE;
}

/* The fleet as the file has it: finds its tiers, and what is wrong whatever is chosen. */
static gboolean read_fleet(kvt_plan_settings *s, kvt_section *section, GError **error)
{
	const kvt_fleet_settings *fleet = s->fleet =
		kvt_fleet_settings_new(kvt_config_copy(s->config), s->models, error);
	if (!fleet)
		return FALSE;
	for (unsigned i = fleet->n_tiers; i-- > 0;) {
		char **name = fleet->tiers[i].kind == KVT_FLEET_DRAM   ? &s->dram_tier
			      : fleet->tiers[i].kind == KVT_FLEET_NVME ? &s->nvme_tier
								       : NULL;
		if (!name)
			continue;
		g_free(*name);
		*name = g_strdup(fleet->tiers[i].name);
	}
	g_autofree char *prices =
		kvt_experiment_find_file(fleet->experiment, s->prices_name, "models/price");
	if (!g_str_has_suffix(prices, ".ini") && !g_file_test(prices, G_FILE_TEST_EXISTS)) {
		g_autofree char *name = g_strconcat(s->prices_name, ".ini", NULL);
		g_free(prices);
		prices = kvt_experiment_find_file(fleet->experiment, name, "models/price");
	}
	if (!g_file_test(prices, G_FILE_TEST_EXISTS))
		return kvt_section_error(section, "prices", error,
			"there is no file %s, expected a price file as models/price has them",
			prices);
	s->prices = kvt_price_file_load(prices, error);
	if (!s->prices)
		return FALSE;
	s->trace = kvt_fleet_traffic_open(fleet, error);
	return s->trace != NULL;
}

static gboolean read_config(kvt_plan_settings *s, kvt_config *config, GError **error)
{
	kvt_section *section = kvt_config_section_required(config, "plan", error);
	if (!section || !kvt_section_read(section, kvt_plan_options, s, TRUE, error))
		return FALSE;
	s->config = kvt_config_copy(config);
	kvt_config_remove(s->config, "plan");
	kvt_config_remove(s->config, "uncertainty");
	return read_fleet(s, section, error) && read_range(s, section, error) &&
	       list_shapes(s, section, error) && check_models(s, section, error) &&
	       read_uncertainties(s, config, error);
}

static void clear_uncertainty(gpointer arg)
{
	kvt_plan_uncertainty *u = arg;
	g_free(u->key);
	g_free(u->low);
	g_free(u->high);
}

kvt_plan_settings *kvt_plan_settings_load(
	const char *path, const char *const *overrides, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_load(path, error);
	if (!config)
		return NULL;
	for (unsigned i = 0; overrides && overrides[i]; i++)
		if (!kvt_config_set(config, overrides[i], error))
			return NULL;
	g_autoptr(kvt_plan_settings) s = g_new0(kvt_plan_settings, 1);
	s->models = kvt_model_store_new();
	s->shapes = g_array_new(FALSE, TRUE, sizeof(kvt_plan_shape));
	s->uncertainties = g_array_new(FALSE, TRUE, sizeof(kvt_plan_uncertainty));
	g_array_set_clear_func(s->uncertainties, clear_uncertainty);
	s->words = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
	return read_config(s, config, error) ? g_steal_pointer(&s) : NULL;
}

void kvt_plan_settings_free(kvt_plan_settings *s)
{
	if (!s)
		return;
	kvt_option_clear(kvt_plan_options, s);
	kvt_config_free(s->config);
	kvt_fleet_settings_free(s->fleet);
	kvt_price_file_free(s->prices);
	kvt_request_trace_close(s->trace);
	g_free(s->dram_tier);
	g_free(s->nvme_tier);
	g_array_unref(s->shapes);
	g_array_unref(s->uncertainties);
	g_ptr_array_unref(s->words);
	kvt_model_store_unref(s->models);
	g_free(s);
}

/* A fleet of a shape */

static gboolean set(kvt_config *config, GError **error, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

static gboolean set(kvt_config *config, GError **error, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	g_autofree char *text = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	return kvt_config_set(config, text, error);
}

static gboolean set_shape(const kvt_plan_settings *s, const kvt_plan_shape *shape, int64_t replicas,
	kvt_config *config, GError **error)
{
	if (!set(config, error, "fleet.replicas=%" G_GINT64_FORMAT, replicas))
		return FALSE;
	if (shape->gpu && !set(config, error, "gpu.name=%s", shape->gpu))
		return FALSE;
	if (shape->count > 0 && !set(config, error, "gpu.count=%" G_GINT64_FORMAT, shape->count))
		return FALSE;
	if (shape->dram > 0 &&
		!set(config, error, "tier %s.capacity=%.0fB", s->dram_tier, shape->dram))
		return FALSE;
	if (shape->drive && !set(config, error, "tier %s.drive=%s", s->nvme_tier, shape->drive))
		return FALSE;
	if (shape->drives > 0 && !set(config, error, "tier %s.drives=%" G_GINT64_FORMAT,
					 s->nvme_tier, shape->drives))
		return FALSE;
	return shape->nics < 0 || set(config, error, "fabric.nics=%" G_GINT64_FORMAT, shape->nics);
}

static void remove_tier(kvt_fleet_settings *fleet, const char *name)
{
	for (unsigned i = 0; i < fleet->n_tiers; i++) {
		if (!g_str_equal(fleet->tiers[i].name, name))
			continue;
		kvt_option_clear(kvt_fleet_tier_options, &fleet->tiers[i]);
		memmove(&fleet->tiers[i], &fleet->tiers[i + 1],
			(fleet->n_tiers - i - 1) * sizeof(fleet->tiers[0]));
		fleet->tiers[--fleet->n_tiers] = (kvt_tier_settings){ 0 };
		return;
	}
}

/* As many replicas share a node as fit into its slots. */
static gboolean place_replicas(kvt_fleet_settings *fleet, GError **error)
{
	const kvt_experiment *e = fleet->experiment;
	if (e->ranks > e->host->gpu_slots)
		return kvt_error_usage(error, "%" G_GINT64_FORMAT " GPUs do not fit into host %s",
			e->ranks, e->host->name);
	fleet->replicas_a_node = e->host->gpu_slots / e->ranks;
	double dram = 0;
	int64_t drives = 0;
	for (unsigned i = 0; i < fleet->n_tiers; i++) {
		dram += fleet->tiers[i].kind == KVT_FLEET_DRAM ? (double)fleet->tiers[i].capacity
							       : 0;
		drives += fleet->tiers[i].kind == KVT_FLEET_NVME ? fleet->tiers[i].drives : 0;
	}
	if (dram > (double)e->host->dram)
		return kvt_error_usage(error, "tiers of %.0f bytes do not fit into host %s's DRAM",
			dram, e->host->name);
	if (drives > e->host->drive_slots)
		return kvt_error_usage(error, "%" G_GINT64_FORMAT " drives do not fit into host %s",
			drives, e->host->name);
	if (e->nics > e->host->nic_slots)
		return kvt_error_usage(error, "%" G_GINT64_FORMAT " NICs do not fit into host %s",
			e->nics, e->host->name);
	return TRUE;
}

static gboolean set_prices(const kvt_plan_settings *s, kvt_fleet_settings *fleet,
	kvt_price_list *prices, GError **error)
{
	const kvt_experiment *e = fleet->experiment;
	kvt_price_names names = { .gpu = e->gpu->name, .host = e->host->name };
	for (unsigned i = 0; i < fleet->n_tiers; i++)
		if (fleet->tiers[i].drive)
			names.drive = fleet->tiers[i].drive->name;
	if (e->nics > 0)
		names.nic = e->nic->name;
	if (!kvt_price_list_fill(s->prices, &names, prices, error))
		return FALSE;
	fleet->gpu_hour = kvt_price_hour(prices, KVT_PRICE_GPU);
	fleet->node_hour = kvt_price_hour(prices, KVT_PRICE_HOST) +
			   (double)e->nics * kvt_price_hour(prices, KVT_PRICE_NIC);
	fleet->dram_hour = kvt_price_hour(prices, KVT_PRICE_DRAM) * 1e3;
	fleet->drive_hour = kvt_price_hour(prices, KVT_PRICE_DRIVE);
	fleet->kwh = prices->value[KVT_PRICE_KWH];
	fleet->pue = prices->value[KVT_PRICE_PUE];
	return TRUE;
}

kvt_fleet_settings *kvt_plan_settings_fleet(const kvt_plan_settings *s, const kvt_plan_shape *shape,
	int64_t replicas, const char *change, kvt_price_list *prices, GError **error)
{
	kvt_config *config = kvt_config_copy(s->config);
	if (!set_shape(s, shape, replicas, config, error) ||
		(change && !kvt_config_set(config, change, error))) {
		kvt_config_free(config);
		return NULL;
	}
	g_autoptr(kvt_fleet_settings) fleet = kvt_fleet_settings_new(config, s->models, error);
	if (!fleet)
		return NULL;
	if (shape->dram == 0)
		remove_tier(fleet, s->dram_tier);
	if (shape->drives == 0)
		remove_tier(fleet, s->nvme_tier);
	fleet->slo_ttft = s->ttft;
	fleet->slo_tpot = s->tpot > 0 ? s->tpot : KVT_TIME_NEVER;
	if (!place_replicas(fleet, error) || !set_prices(s, fleet, prices, error))
		return NULL;
	return g_steal_pointer(&fleet);
}

char *kvt_plan_config_text(const kvt_fleet_settings *fleet)
{
	const kvt_experiment *e = fleet->experiment;
	GString *text = g_string_new(NULL);
	g_string_printf(text, "%" G_GINT64_FORMAT " x %" G_GINT64_FORMAT " %s", fleet->replicas,
		e->ranks, e->gpu->name);
	for (unsigned i = 0; i < fleet->n_tiers; i++) {
		const kvt_tier_settings *tier = &fleet->tiers[i];
		g_autofree char *bytes = kvt_unit_format((double)tier->capacity, KVT_UNIT_BYTES);
		if (tier->drive)
			g_string_append_printf(
				text, ", %" G_GINT64_FORMAT " %s", tier->drives, tier->drive->name);
		else
			g_string_append_printf(text, ", %s %s", bytes, tier->name);
	}
	if (e->nics > 0)
		g_string_append_printf(
			text, ", %" G_GINT64_FORMAT " NIC%s", e->nics, e->nics > 1 ? "s" : "");
	return g_string_free(text, FALSE);
}
