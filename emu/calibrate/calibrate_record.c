/* calibrate_record.c: what was measured, as JSON that is kept, and back. Nothing is derived here:
 * the fits are made anew from what is read. */
#include <math.h>
#include <string.h>

#include "emu/calibrate/gpu_record.h"
#include "emu/calibrate/record_fields.h"
#include "sim/base/error.h"
#include "sim/base/output.h"

#define SCHEMA "kvtier.calibration/"
enum { VERSION = 1 };

kvt_calibration *kvt_calibration_new(const char *name)
{
	kvt_calibration *c = g_new0(kvt_calibration, 1);
	c->name = g_strdup(name);
	c->mixed = 1;
	c->drive = g_array_new(FALSE, TRUE, sizeof(kvt_drive_point));
	c->attention = g_array_new(FALSE, TRUE, sizeof(kvt_attention_point));
	c->network = g_array_new(FALSE, TRUE, sizeof(kvt_drive_point));
	c->fetches = g_array_new(FALSE, TRUE, sizeof(kvt_drive_point));
	c->remote = g_array_new(FALSE, TRUE, sizeof(kvt_drive_point));
	c->perftest = g_array_new(FALSE, TRUE, sizeof(kvt_perftest_point));
	return c;
}

void kvt_calibration_free(kvt_calibration *c)
{
	if (!c)
		return;
	char *texts[] = { c->name, c->cpu, c->kernel, c->store, c->filesystem, c->method, c->isa,
		c->dense, c->node, c->device, c->why };
	for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
		g_free(texts[i]);
	kvt_gpu_calibration_free(c->gpu);
	g_array_unref(c->drive);
	g_array_unref(c->attention);
	g_array_unref(c->network);
	g_array_unref(c->fetches);
	g_array_unref(c->remote);
	g_array_unref(c->perftest);
	g_free(c);
}

static gboolean measure_storage(
	kvt_calibration *c, const kvt_calibrate_settings *settings, GError **error)
{
	if (settings->node)
		return kvt_calibrate_network(c, settings, error);
	/* a GPU's pages may come from memory, which needs no more than the host */
	return (settings->gpu && !settings->store) || kvt_calibrate_drive(c, settings, error);
}

kvt_calibration *kvt_calibrate(
	const char *name, const kvt_calibrate_settings *settings, GError **error)
{
	g_autoptr(kvt_calibration) c = kvt_calibration_new(name);
	g_autofree kvt_cores *cores = g_new(kvt_cores, 1);
	kvt_calibrate_settings placed = *settings;
	placed.place = cores;
	kvt_cores_init(cores);
	gboolean good = measure_storage(c, &placed, error) && kvt_calibrate_host(c, &placed, error);
	if (good && settings->gpu) {
		c->isa = g_strdup(kvt_isa_name(kvt_isa_best()));
		c->threads = kvt_cores_compute(cores);
		c->gpu = kvt_gpu_calibration_new();
		good = kvt_gpu_calibration_measure(c->gpu, &placed, error);
	} else if (good) {
		good = kvt_calibrate_attention(c, &placed, error) &&
		       kvt_calibrate_calls(c, &placed, error);
	}
	return good ? g_steal_pointer(&c) : NULL;
}

static json_t *points_to_json(const GArray *from)
{
	json_t *points = json_array();
	for (unsigned i = 0; i < from->len; i++) {
		const kvt_drive_point *p = &g_array_index(from, kvt_drive_point, i);
		json_t *object = json_object();
		json_object_set_new(object, "op", json_string(p->write ? "write" : "read"));
		kvt_record_integer(object, "size", p->size);
		kvt_record_integer(object, "depth", p->depth);
		kvt_record_measured(object, &p->rate);
		json_object_set_new(object, "latency_s", kvt_json_real(p->latency));
		json_object_set_new(object, "latency_p99_s", kvt_json_real(p->latency_p99));
		json_object_set_new(object, "cpu_s", kvt_json_real(p->cpu));
		json_object_set_new(object, "busy_s", kvt_json_real(p->busy));
		json_object_set_new(object, "waited", kvt_json_real(p->waited));
		kvt_record_integer(object, "ios", p->ios);
		json_array_append_new(points, object);
	}
	return points;
}

static json_t *attention_to_json(const kvt_calibration *c)
{
	json_t *points = json_array();
	for (unsigned i = 0; i < c->attention->len; i++) {
		const kvt_attention_point *p = &g_array_index(c->attention, kvt_attention_point, i);
		json_t *object = json_object();
		json_object_set_new(
			object, "phase", json_string(p->prefill ? "prefill" : "decode"));
		kvt_record_integer(object, "heads", p->heads);
		kvt_record_integer(object, "kv_heads", p->kv_heads);
		kvt_record_integer(object, "head_dim", p->head_dim);
		kvt_record_integer(object, "tokens", p->tokens);
		kvt_record_integer(object, "prefix", p->prefix);
		kvt_record_measured(object, &p->seconds);
		json_t *cpu = json_object();
		kvt_record_measured(cpu, &p->cpu);
		json_object_set_new(object, "cpu", cpu);
		json_array_append_new(points, object);
	}
	return points;
}

static void set_drive(json_t *result, const kvt_calibration *c)
{
	json_object_set_new(result, "store", kvt_json_text(c->store));
	json_object_set_new(result, "filesystem", kvt_json_text(c->filesystem));
	json_object_set_new(result, "method", kvt_json_text(c->method));
	json_object_set_new(result, "direct", json_boolean(c->direct));
	kvt_record_integer(result, "capacity", c->capacity);
	kvt_record_integer(result, "file_bytes", c->file_bytes);
	json_object_set_new(result, "mixed", kvt_json_real(c->mixed));
	json_object_set_new(result, "drive", points_to_json(c->drive));
}

static json_t *perftest_to_json(const kvt_calibration *c)
{
	json_t *points = json_array();
	for (unsigned i = 0; i < c->perftest->len; i++) {
		const kvt_perftest_point *p = &g_array_index(c->perftest, kvt_perftest_point, i);
		json_t *object = json_object();
		kvt_record_integer(object, "size", p->size);
		kvt_record_integer(object, "depth", p->depth);
		json_object_set_new(
			object, p->depth == 1 ? "ours_s" : "ours_rate", kvt_json_real(p->ours));
		json_object_set_new(object, p->depth == 1 ? "theirs_s" : "theirs_rate",
			kvt_json_real(p->theirs));
		json_array_append_new(points, object);
	}
	return points;
}

static void set_network(json_t *result, const kvt_calibration *c)
{
	json_object_set_new(result, "node", kvt_json_text(c->node));
	json_object_set_new(result, "device", kvt_json_text(c->device));
	json_object_set_new(result, "network", points_to_json(c->network));
	json_object_set_new(result, "fetches", points_to_json(c->fetches));
	json_object_set_new(result, "remote", points_to_json(c->remote));
	json_object_set_new(result, "from_drives", kvt_json_real(c->from_drives));
	json_object_set_new(result, "perftest", perftest_to_json(c));
}

json_t *kvt_calibration_to_json(const kvt_calibration *c)
{
	json_t *result = kvt_json_result("calibration", VERSION);
	json_object_set_new(result, "name", kvt_json_text(c->name));
	json_object_set_new(result, "cpu", kvt_json_text(c->cpu));
	json_object_set_new(result, "kernel", kvt_json_text(c->kernel));
	json_object_set_new(result, "isa", kvt_json_text(c->isa));
	kvt_record_integer(result, "cores", c->cores);
	kvt_record_integer(result, "threads", c->threads);
	kvt_record_integer(result, "memory", c->memory);
	kvt_record_integer(result, "cache", c->cache);
	if (c->drive->len > 0)
		set_drive(result, c);
	if (c->network->len > 0)
		set_network(result, c);
	json_t *host = json_object();
	for (unsigned i = 0; i < KVT_HOST_FIGURES; i++) {
		if (c->gpu && !(c->host[i].value > 0))
			continue;
		json_t *figure = json_object();
		kvt_record_measured(figure, &c->host[i]);
		json_object_set_new(host, kvt_host_figures[i].key, figure);
	}
	json_object_set_new(result, "host", host);
	if (c->gpu)
		json_object_set_new(result, "gpu", kvt_gpu_calibration_to_json(c->gpu));
	else
		json_object_set_new(result, "attention", attention_to_json(c));
	return result;
}

static void take_points(kvt_taker *t, const json_t *result, const char *key, GArray *to)
{
	const json_t *points = json_object_get(result, key);
	for (size_t i = 0; i < json_array_size(points) && !t->error; i++) {
		const json_t *object = json_array_get(points, i);
		g_string_printf(t->where, "%s[%zu].", key, i);
		const json_t *busy = json_object_get(object, "busy_s");
		kvt_drive_point p = { .write = kvt_take_choice(t, object, "op", "read", "write"),
			.size = kvt_take_count(t, object, "size", 1 << 30),
			.depth = (unsigned)kvt_take_count(t, object, "depth", 1 << 20),
			.rate = kvt_take_measured(t, object),
			.latency = kvt_take_number(t, object, "latency_s"),
			.latency_p99 = kvt_take_number(t, object, "latency_p99_s"),
			.cpu = kvt_take_number(t, object, "cpu_s"),
			.busy = json_is_number(busy) ? json_number_value(busy) : NAN,
			.waited = json_number_value(json_object_get(object, "waited")),
			.ios = kvt_take_count(t, object, "ios", INT64_MAX) };
		if (!(p.waited >= 0 && p.waited <= 1))
			kvt_taker_refuse(t, "waited", "a share");
		g_array_append_val(to, p);
	}
	g_string_truncate(t->where, 0);
	if (to->len == 0)
		kvt_taker_refuse(t, key, "points");
}

static void take_drive(kvt_taker *t, kvt_calibration *c, const json_t *value)
{
	c->store = kvt_take_text(t, value, "store");
	c->filesystem = kvt_take_text(t, value, "filesystem");
	c->method = kvt_take_text(t, value, "method");
	c->direct = json_is_true(json_object_get(value, "direct"));
	c->capacity = kvt_take_count(t, value, "capacity", INT64_C(1) << 60);
	c->file_bytes = kvt_take_count(t, value, "file_bytes", INT64_C(1) << 60);
	c->mixed = kvt_take_number(t, value, "mixed");
	take_points(t, value, "drive", c->drive);
}

static void take_perftest(kvt_taker *t, kvt_calibration *c, const json_t *points)
{
	for (size_t i = 0; i < json_array_size(points) && !t->error; i++) {
		const json_t *object = json_array_get(points, i);
		g_string_printf(t->where, "perftest[%zu].", i);
		kvt_perftest_point p = { .size = kvt_take_count(t, object, "size", 1 << 30),
			.depth = (unsigned)kvt_take_count(t, object, "depth", 1 << 20) };
		p.ours = kvt_take_number(t, object, p.depth == 1 ? "ours_s" : "ours_rate");
		p.theirs = kvt_take_number(t, object, p.depth == 1 ? "theirs_s" : "theirs_rate");
		g_array_append_val(c->perftest, p);
	}
	g_string_truncate(t->where, 0);
}

static void take_network(kvt_taker *t, kvt_calibration *c, const json_t *value)
{
	c->node = kvt_take_text(t, value, "node");
	c->device = kvt_take_text(t, value, "device");
	take_points(t, value, "network", c->network);
	take_points(t, value, "fetches", c->fetches);
	take_points(t, value, "remote", c->remote);
	c->from_drives = json_number_value(json_object_get(value, "from_drives"));
	if (!(c->from_drives >= 0 && c->from_drives <= 1))
		kvt_taker_refuse(t, "from_drives", "a share");
	take_perftest(t, c, json_object_get(value, "perftest"));
}

static void take_attention(kvt_taker *t, kvt_calibration *c, const json_t *points)
{
	for (size_t i = 0; i < json_array_size(points) && !t->error; i++) {
		const json_t *object = json_array_get(points, i);
		g_string_printf(t->where, "attention[%zu].", i);
		kvt_attention_point p = {
			.heads = (unsigned)kvt_take_count(t, object, "heads", 65536),
			.kv_heads = (unsigned)kvt_take_count(t, object, "kv_heads", 65536),
			.head_dim = (unsigned)kvt_take_count(t, object, "head_dim", 65536),
			.tokens = kvt_take_count(t, object, "tokens", INT64_C(1) << 40),
			.prefill = kvt_take_choice(t, object, "phase", "decode", "prefill"),
			.seconds = kvt_take_measured(t, object),
			.cpu = kvt_take_measured(t, json_object_get(object, "cpu")),
		};
		json_int_t prefix = json_integer_value(json_object_get(object, "prefix"));
		if (prefix < 0 || prefix > INT64_C(1) << 40)
			kvt_taker_refuse(t, "prefix", "a whole number");
		p.prefix = (uint64_t)MAX(prefix, 0);
		g_array_append_val(c->attention, p);
	}
	g_string_truncate(t->where, 0);
	if (c->attention->len == 0)
		kvt_taker_refuse(t, "attention", "points");
}

static void take_all(kvt_taker *t, kvt_calibration *c, const json_t *value)
{
	c->cpu = kvt_take_text(t, value, "cpu");
	c->kernel = kvt_take_text(t, value, "kernel");
	c->isa = kvt_take_text(t, value, "isa");
	c->cores = (unsigned)kvt_take_count(t, value, "cores", 65536);
	c->threads = (unsigned)kvt_take_count(t, value, "threads", 65536);
	c->memory = kvt_take_count(t, value, "memory", INT64_C(1) << 60);
	c->cache = kvt_take_count(t, value, "cache", INT64_C(1) << 60);
	const json_t *gpu = json_object_get(value, "gpu"), *host = json_object_get(value, "host");
	for (unsigned i = 0; i < KVT_HOST_FIGURES && !t->error; i++) {
		bool there = json_object_get(host, kvt_host_figures[i].key) != NULL;
		if (gpu && !there && i >= KVT_HOST_CALL && i <= KVT_HOST_MERGE)
			continue;
		g_string_printf(t->where, "host.%s.", kvt_host_figures[i].key);
		c->host[i] = kvt_take_measured(t, json_object_get(host, kvt_host_figures[i].key));
	}
	bool network = json_object_get(value, "network") != NULL;
	if (network)
		take_network(t, c, value);
	if ((!network && !gpu) || json_object_get(value, "drive"))
		take_drive(t, c, value);
	if (gpu)
		c->gpu = kvt_take_gpu_calibration(t, gpu);
	else
		take_attention(t, c, json_object_get(value, "attention"));
}

/* A profile is called by its name in files: no folder of its own, nothing to quote. */
static gboolean check_name(const char *file, const char *name, GError **error)
{
	if (name && *name &&
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			     "0123456789._-") == strlen(name) &&
		*name != '.')
		return TRUE;
	return kvt_error_usage(
		error, "%s: name: missing or impossible, expected letters, digits, . _ -", file);
}

kvt_calibration *kvt_calibration_from_json(const char *name, const json_t *value, GError **error)
{
	const char *schema = json_string_value(json_object_get(value, "schema"));
	if (!schema || !g_str_has_prefix(schema, SCHEMA)) {
		kvt_error_usage(error, "%s: not a record of a calibration, expected schema %s%d",
			name, SCHEMA, VERSION);
		return NULL;
	}
	if (g_strcmp0(schema + strlen(SCHEMA), G_STRINGIFY(1)) != 0) {
		g_autofree char *quoted = kvt_error_quote(schema);
		kvt_error_usage(error,
			"%s: schema %s is of another version, expected %s%d: measure again with "
			"\"kvtier calibrate\"",
			name, quoted, SCHEMA, VERSION);
		return NULL;
	}
	const char *called = json_string_value(json_object_get(value, "name"));
	if (!check_name(name, called, error))
		return NULL;
	g_autoptr(kvt_calibration) c = kvt_calibration_new(called);
	kvt_taker t = { .file = name, .where = g_string_new("") };
	take_all(&t, c, value);
	g_string_free(t.where, TRUE);
	if (t.error) {
		g_propagate_error(error, t.error);
		return NULL;
	}
	return g_steal_pointer(&c);
}

kvt_calibration *kvt_calibration_load(const char *path, GError **error)
{
	json_error_t why;
	json_t *value = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
	if (!value) {
		if (why.line > 0)
			kvt_error_at(error, path, (unsigned)why.line, "not JSON: %s", why.text);
		else
			kvt_error_usage(error, "%s: cannot be read: %s", path, why.text);
		return NULL;
	}
	kvt_calibration *c = kvt_calibration_from_json(path, value, error);
	json_decref(value);
	return c;
}
