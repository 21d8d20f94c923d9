/* telemetry.c: samples of a fleet, one row a period; idle time is filled in when it is over. */
#include "sim/fleet/telemetry.h"

#include <math.h>

#include "sim/base/output.h"

/* Counts since the run began; a row has what came to them in its period. */
typedef struct counts {
	uint64_t ended, prompt_tokens, output_tokens;
	uint64_t lookups, hits[KVT_FLEET_TIERS_MAX + 1];
} counts;

struct kvt_telemetry {
	const kvt_fleet *fleet;
	kvt_time period, last; /* end of the last row */
	kvt_event next;        /* 0: nothing is there to be seen */
	GPtrArray *names;      /* of columns */
	GArray *values;        /* double, row by row */
	uint64_t dropped;
	GPtrArray *tiers[KVT_FLEET_TIERS_MAX]; /* kvt_block_tier, each once */
	counts before;
	unsigned n_links;
	double *used_before; /* [n_links], busy units */
};

static void add_column(kvt_telemetry *t, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Names are words that any reader of CSV takes as they are. */
static void add_column(kvt_telemetry *t, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	char *name = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	for (char *c = name; *c; c++)
		if (!g_ascii_isalnum(*c))
			*c = '_';
	g_ptr_array_add(t->names, name);
}

static const char *level_name(const kvt_telemetry *t, unsigned level)
{
	return level == 0 ? "hbm" : t->fleet->settings->tiers[level - 1].name;
}

static void add_columns(kvt_telemetry *t)
{
	static const char *const first[] = { "time_s", "period_s", "waiting", "running", "swapped",
		"stepping", "transfers", "requests_per_s", "prompt_tokens_per_s",
		"output_tokens_per_s" };
	unsigned levels = t->fleet->settings->n_tiers + 1;
	for (unsigned i = 0; i < G_N_ELEMENTS(first); i++)
		add_column(t, "%s", first[i]);
	for (unsigned level = 0; level < levels; level++) {
		add_column(t, "%s_blocks", level_name(t, level));
		add_column(t, "%s_share", level_name(t, level));
	}
	for (unsigned level = 0; level < levels; level++)
		add_column(t, "%s_hit_rate", level_name(t, level));
	const kvt_fleet_link *links = kvt_fleet_links_list(t->fleet->links, &t->n_links);
	for (unsigned i = 0; i < t->n_links; i++) {
		add_column(t, "%s_use", links[i].name);
		add_column(t, "%s_queue", links[i].name);
	}
}

/* Tiers that nodes share are one. */
static void find_tiers(kvt_telemetry *t)
{
	const kvt_fleet *f = t->fleet;
	for (unsigned i = 0; i < f->settings->n_tiers; i++) {
		t->tiers[i] = g_ptr_array_new();
		for (unsigned node = 0; node < f->n_nodes; node++) {
			kvt_block_tier *tier = kvt_fleet_tier(f, node, i);
			if (!g_ptr_array_find(t->tiers[i], tier, NULL))
				g_ptr_array_add(t->tiers[i], tier);
		}
	}
}

kvt_telemetry *kvt_telemetry_new(const kvt_fleet *fleet, kvt_time period)
{
	kvt_telemetry *t = g_new0(kvt_telemetry, 1);
	t->fleet = fleet;
	t->period = period;
	t->names = g_ptr_array_new_with_free_func(g_free);
	t->values = g_array_new(FALSE, FALSE, sizeof(double));
	add_columns(t);
	find_tiers(t);
	t->used_before = g_new0(double, MAX(t->n_links, 1));
	return t;
}

void kvt_telemetry_free(kvt_telemetry *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < G_N_ELEMENTS(t->tiers); i++)
		if (t->tiers[i])
			g_ptr_array_unref(t->tiers[i]);
	g_ptr_array_unref(t->names);
	g_array_unref(t->values);
	g_free(t->used_before);
	g_free(t);
}

/* Rows */

static void add(kvt_telemetry *t, double value)
{
	g_array_append_val(t->values, value);
}

static counts count(const kvt_fleet *f)
{
	counts now = { .ended = f->ended };
	for (unsigned i = 0; i < f->n_replicas; i++) {
		const kvt_replica_stats *stats = kvt_replica_get_stats(f->replicas[i]);
		now.prompt_tokens += stats->prompt_tokens;
		now.output_tokens += stats->output_tokens;
		for (unsigned tenant = 0; tenant < MAX(f->trace->n_tenants, 1); tenant++) {
			const kvt_kv_count *kv = kvt_kv_counts(f->kv[i], tenant);
			now.lookups += kv->lookup_blocks;
			for (unsigned level = 0; level <= f->settings->n_tiers; level++)
				now.hits[level] += kv->hit_blocks[level];
		}
	}
	return now;
}

static void add_replicas(kvt_telemetry *t)
{
	const kvt_fleet *f = t->fleet;
	kvt_replica_load sum = { 0 };
	unsigned stepping = 0;
	for (unsigned i = 0; i < f->n_replicas; i++) {
		kvt_replica_load load = kvt_replica_get_load(f->replicas[i]);
		sum.waiting += load.waiting;
		sum.running += load.running;
		sum.swapped += load.swapped;
		stepping += load.stepping;
	}
	add(t, sum.waiting);
	add(t, sum.running);
	add(t, sum.swapped);
	add(t, stepping);
	add(t, kvt_fleet_transfers_under_way(f->transfers));
}

static void add_tier(kvt_telemetry *t, double bytes, double capacity, double block)
{
	add(t, bytes / block);
	add(t, capacity > 0 ? bytes / capacity : NAN);
}

static void add_levels(kvt_telemetry *t)
{
	const kvt_fleet *f = t->fleet;
	double hbm = 0, block = 0, saved = 0;
	for (unsigned kind = 0; kind < f->shape.n_kinds; kind++) {
		block += (double)kvt_block_shape_piece_bytes(&f->shape, kind);
		saved += (double)kvt_block_shape_saved_bytes(&f->shape, kind);
	}
	for (unsigned i = 0; i < f->n_replicas; i++)
		hbm += (double)kvt_block_allocator_waste(kvt_kv_allocator(f->kv[i]))
			       .allocated_bytes;
	add_tier(t, hbm, (double)f->hbm_bytes * f->n_replicas, block);
	for (unsigned i = 0; i < f->settings->n_tiers; i++) {
		double bytes = 0, capacity = 0;
		for (guint k = 0; k < t->tiers[i]->len; k++) {
			const kvt_block_tier *tier = g_ptr_array_index(t->tiers[i], k);
			bytes += (double)tier->bytes;
			capacity += (double)tier->capacity;
		}
		add_tier(t, bytes, capacity, saved);
	}
}

static void add_links(kvt_telemetry *t, double seconds)
{
	unsigned n;
	const kvt_fleet_link *links = kvt_fleet_links_list(t->fleet->links, &n);
	for (unsigned i = 0; i < n; i++) {
		kvt_link_stats stats = kvt_network_link_stats(t->fleet->network, links[i].link);
		add(t, (stats.busy_units - t->used_before[i]) / (links[i].rate * seconds));
		add(t, stats.flows);
		t->used_before[i] = stats.busy_units;
	}
}

/* A row up to `now`. */
static void sample(kvt_telemetry *t, kvt_time now)
{
	if (kvt_telemetry_n_rows(t) >= KVT_TELEMETRY_ROWS_MAX) {
		t->dropped++;
		t->last = now;
		return;
	}
	double seconds = kvt_time_to_seconds(now - t->last);
	counts all = count(t->fleet), *before = &t->before;
	add(t, kvt_time_to_seconds(now));
	add(t, seconds);
	add_replicas(t);
	add(t, (double)(all.ended - before->ended) / seconds);
	add(t, (double)(all.prompt_tokens - before->prompt_tokens) / seconds);
	add(t, (double)(all.output_tokens - before->output_tokens) / seconds);
	add_levels(t);
	double lookups = (double)(all.lookups - before->lookups);
	for (unsigned level = 0; level <= t->fleet->settings->n_tiers; level++)
		add(t, lookups > 0 ? (double)(all.hits[level] - before->hits[level]) / lookups
				   : NAN);
	add_links(t, seconds);
	t->before = all;
	t->last = now;
}

static void on_period(void *arg)
{
	kvt_telemetry *t = arg;
	const kvt_fleet *f = t->fleet;
	kvt_time now = kvt_loop_now(f->loop);
	t->next = 0;
	sample(t, now);
	/* an event that nothing needs would keep a run from its end */
	if (f->little.now > 0 || kvt_fleet_transfers_under_way(f->transfers) > 0)
		t->next = kvt_loop_after(f->loop, t->period, on_period, t);
}

void kvt_telemetry_wake(kvt_telemetry *t)
{
	if (t->next != 0)
		return;
	kvt_time now = kvt_loop_now(t->fleet->loop);
	uint64_t missed = (uint64_t)((now - t->last) / t->period);
	for (; missed > 0 && kvt_telemetry_n_rows(t) < KVT_TELEMETRY_ROWS_MAX; missed--)
		sample(t, t->last + t->period);
	t->dropped += missed;
	t->last += (kvt_time)missed * t->period;
	t->next = kvt_loop_at(t->fleet->loop, t->last + t->period, on_period, t);
}

/* Reading it */

unsigned kvt_telemetry_n_columns(const kvt_telemetry *t)
{
	return t->names->len;
}

const char *kvt_telemetry_column(const kvt_telemetry *t, unsigned column)
{
	return g_ptr_array_index(t->names, column);
}

uint64_t kvt_telemetry_n_rows(const kvt_telemetry *t)
{
	return t->values->len / t->names->len;
}

uint64_t kvt_telemetry_dropped_rows(const kvt_telemetry *t)
{
	return t->dropped;
}

double kvt_telemetry_value(const kvt_telemetry *t, uint64_t row, unsigned column)
{
	return g_array_index(t->values, double, row * t->names->len + column);
}

json_t *kvt_telemetry_json(const kvt_telemetry *t)
{
	json_t *object = json_object(), *series = json_object();
	uint64_t rows = kvt_telemetry_n_rows(t);
	for (unsigned column = 0; column < t->names->len; column++) {
		json_t *values = json_array();
		for (uint64_t row = 0; row < rows; row++)
			json_array_append_new(
				values, kvt_json_real(kvt_telemetry_value(t, row, column)));
		json_object_set_new(series, kvt_telemetry_column(t, column), values);
	}
	json_object_set_new(object, "period_s", kvt_json_real(kvt_time_to_seconds(t->period)));
	json_object_set_new(object, "dropped_rows", json_integer((json_int_t)t->dropped));
	json_object_set_new(object, "series", series);
	return object;
}

gboolean kvt_telemetry_write(const kvt_telemetry *t, FILE *stream, GError **error)
{
	unsigned n = t->names->len;
	g_autofree kvt_column *columns = g_new0(kvt_column, n + 1);
	for (unsigned i = 0; i < n; i++)
		columns[i] =
			(kvt_column){ .key = kvt_telemetry_column(t, i), .type = KVT_CELL_NUMBER };
	g_autoptr(kvt_table) table = kvt_table_new(columns);
	uint64_t rows = kvt_telemetry_n_rows(t);
	for (uint64_t row = 0; row < rows; row++) {
		kvt_table_add_row(table);
		for (unsigned i = 0; i < n; i++)
			kvt_table_add_number(table, kvt_telemetry_value(t, row, i));
	}
	return kvt_table_write(table, KVT_FORMAT_CSV, stream, error);
}
