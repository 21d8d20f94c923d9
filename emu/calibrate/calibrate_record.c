/* calibrate_record.c: what was measured, as JSON that is kept, and back. Nothing is derived here:
 * the fits are made anew from what is read. */
#include <math.h>
#include <string.h>

#include "emu/calibrate/calibration.h"
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
	g_array_unref(c->drive);
	g_array_unref(c->attention);
	g_array_unref(c->network);
	g_array_unref(c->fetches);
	g_array_unref(c->remote);
	g_array_unref(c->perftest);
	g_free(c);
}

kvt_calibration *kvt_calibrate(
	const char *name, const kvt_calibrate_settings *settings, GError **error)
{
	g_autoptr(kvt_calibration) c = kvt_calibration_new(name);
	g_autofree kvt_cores *cores = g_new(kvt_cores, 1);
	kvt_calibrate_settings placed = *settings;
	placed.place = cores;
	kvt_cores_init(cores);
	gboolean good = (settings->node ? kvt_calibrate_network(c, &placed, error)
					: kvt_calibrate_drive(c, &placed, error)) &&
			kvt_calibrate_host(c, &placed, error) &&
			kvt_calibrate_attention(c, &placed, error) &&
			kvt_calibrate_calls(c, &placed, error);
	return good ? g_steal_pointer(&c) : NULL;
}

static void set_measured(json_t *object, const kvt_measured *m)
{
	json_object_set_new(object, "value", kvt_json_real(m->value));
	json_object_set_new(object, "low", kvt_json_real(m->low));
	json_object_set_new(object, "high", kvt_json_real(m->high));
}

static void set_integer(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *points_to_json(const GArray *from)
{
	json_t *points = json_array();
	for (unsigned i = 0; i < from->len; i++) {
		const kvt_drive_point *p = &g_array_index(from, kvt_drive_point, i);
		json_t *object = json_object();
		json_object_set_new(object, "op", json_string(p->write ? "write" : "read"));
		set_integer(object, "size", p->size);
		set_integer(object, "depth", p->depth);
		set_measured(object, &p->rate);
		json_object_set_new(object, "latency_s", kvt_json_real(p->latency));
		json_object_set_new(object, "latency_p99_s", kvt_json_real(p->latency_p99));
		json_object_set_new(object, "cpu_s", kvt_json_real(p->cpu));
		json_object_set_new(object, "busy_s", kvt_json_real(p->busy));
		json_object_set_new(object, "waited", kvt_json_real(p->waited));
		set_integer(object, "ios", p->ios);
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
		set_integer(object, "heads", p->heads);
		set_integer(object, "kv_heads", p->kv_heads);
		set_integer(object, "head_dim", p->head_dim);
		set_integer(object, "tokens", p->tokens);
		set_integer(object, "prefix", p->prefix);
		set_measured(object, &p->seconds);
		json_t *cpu = json_object();
		set_measured(cpu, &p->cpu);
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
	set_integer(result, "capacity", c->capacity);
	set_integer(result, "file_bytes", c->file_bytes);
	json_object_set_new(result, "mixed", kvt_json_real(c->mixed));
	json_object_set_new(result, "drive", points_to_json(c->drive));
}

static json_t *perftest_to_json(const kvt_calibration *c)
{
	json_t *points = json_array();
	for (unsigned i = 0; i < c->perftest->len; i++) {
		const kvt_perftest_point *p = &g_array_index(c->perftest, kvt_perftest_point, i);
		json_t *object = json_object();
		set_integer(object, "size", p->size);
		set_integer(object, "depth", p->depth);
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
	set_integer(result, "cores", c->cores);
	set_integer(result, "threads", c->threads);
	set_integer(result, "memory", c->memory);
	set_integer(result, "cache", c->cache);
	if (c->drive->len > 0)
		set_drive(result, c);
	if (c->network->len > 0)
		set_network(result, c);
	json_t *host = json_object();
	for (unsigned i = 0; i < KVT_HOST_FIGURES; i++) {
		json_t *figure = json_object();
		set_measured(figure, &c->host[i]);
		json_object_set_new(host, kvt_host_figures[i].key, figure);
	}
	json_object_set_new(result, "host", host);
	json_object_set_new(result, "attention", attention_to_json(c));
	return result;
}

/* Reads fields until one is missing or impossible, and remembers which. */
typedef struct taker {
	const char *file;
	GString *where; /* of the object being read */
	GError *error;
} taker;

static void refuse(taker *t, const char *key, const char *expected)
{
	if (!t->error)
		kvt_error_usage(&t->error, "%s: %s%s: missing or impossible, expected %s", t->file,
			t->where->str, key, expected);
}

static char *take_text(taker *t, const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	if (!text || strpbrk(text, "\n\r"))
		refuse(t, key, "a text of one line");
	return g_strdup(text ? text : "");
}

static uint64_t take_count(taker *t, const json_t *object, const char *key, int64_t high)
{
	const json_t *value = json_object_get(object, key);
	json_int_t count = json_integer_value(value);
	if (!json_is_integer(value) || count < 1 || count > high) {
		refuse(t, key, "a whole number above 0");
		return 1;
	}
	return (uint64_t)count;
}

static double take_number(taker *t, const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	double number = json_number_value(value);
	if (!json_is_number(value) || !(number > 0) || number > 1e18) {
		refuse(t, key, "a number above 0");
		return 1;
	}
	return number;
}

static kvt_measured take_measured(taker *t, const json_t *object)
{
	kvt_measured m = { take_number(t, object, "value"), take_number(t, object, "low"),
		take_number(t, object, "high") };
	if (m.low > m.value || m.high < m.value)
		refuse(t, "value", "a number between low and high");
	return m;
}

static bool take_choice(
	taker *t, const json_t *object, const char *key, const char *no, const char *yes)
{
	const char *text = json_string_value(json_object_get(object, key));
	bool is_yes = g_strcmp0(text, yes) == 0;
	if (!is_yes && g_strcmp0(text, no) != 0) {
		g_autofree char *expected = g_strdup_printf("%s or %s", no, yes);
		refuse(t, key, expected);
	}
	return is_yes;
}

static void take_points(taker *t, const json_t *result, const char *key, GArray *to)
{
	const json_t *points = json_object_get(result, key);
	for (size_t i = 0; i < json_array_size(points) && !t->error; i++) {
		const json_t *object = json_array_get(points, i);
		g_string_printf(t->where, "%s[%zu].", key, i);
		const json_t *busy = json_object_get(object, "busy_s");
		kvt_drive_point p = { .write = take_choice(t, object, "op", "read", "write"),
			.size = take_count(t, object, "size", 1 << 30),
			.depth = (unsigned)take_count(t, object, "depth", 1 << 20),
			.rate = take_measured(t, object),
			.latency = take_number(t, object, "latency_s"),
			.latency_p99 = take_number(t, object, "latency_p99_s"),
			.cpu = take_number(t, object, "cpu_s"),
			.busy = json_is_number(busy) ? json_number_value(busy) : NAN,
			.waited = json_number_value(json_object_get(object, "waited")),
			.ios = take_count(t, object, "ios", INT64_MAX) };
		if (!(p.waited >= 0 && p.waited <= 1))
			refuse(t, "waited", "a share");
		g_array_append_val(to, p);
	}
	g_string_truncate(t->where, 0);
	if (to->len == 0)
		refuse(t, key, "points");
}

static void take_drive(taker *t, kvt_calibration *c, const json_t *value)
{
	c->store = take_text(t, value, "store");
	c->filesystem = take_text(t, value, "filesystem");
	c->method = take_text(t, value, "method");
	c->direct = json_is_true(json_object_get(value, "direct"));
	c->capacity = take_count(t, value, "capacity", INT64_C(1) << 60);
	c->file_bytes = take_count(t, value, "file_bytes", INT64_C(1) << 60);
	c->mixed = take_number(t, value, "mixed");
	take_points(t, value, "drive", c->drive);
}

static void take_perftest(taker *t, kvt_calibration *c, const json_t *points)
{
	for (size_t i = 0; i < json_array_size(points) && !t->error; i++) {
		const json_t *object = json_array_get(points, i);
		g_string_printf(t->where, "perftest[%zu].", i);
		kvt_perftest_point p = { .size = take_count(t, object, "size", 1 << 30),
			.depth = (unsigned)take_count(t, object, "depth", 1 << 20) };
		p.ours = take_number(t, object, p.depth == 1 ? "ours_s" : "ours_rate");
		p.theirs = take_number(t, object, p.depth == 1 ? "theirs_s" : "theirs_rate");
		g_array_append_val(c->perftest, p);
	}
	g_string_truncate(t->where, 0);
}

static void take_network(taker *t, kvt_calibration *c, const json_t *value)
{
	c->node = take_text(t, value, "node");
	c->device = take_text(t, value, "device");
	take_points(t, value, "network", c->network);
	take_points(t, value, "fetches", c->fetches);
	take_points(t, value, "remote", c->remote);
	c->from_drives = json_number_value(json_object_get(value, "from_drives"));
	if (!(c->from_drives >= 0 && c->from_drives <= 1))
		refuse(t, "from_drives", "a share");
	take_perftest(t, c, json_object_get(value, "perftest"));
}

static void take_attention(taker *t, kvt_calibration *c, const json_t *points)
{
	for (size_t i = 0; i < json_array_size(points) && !t->error; i++) {
		const json_t *object = json_array_get(points, i);
		g_string_printf(t->where, "attention[%zu].", i);
		kvt_attention_point p = {
			.heads = (unsigned)take_count(t, object, "heads", 65536),
			.kv_heads = (unsigned)take_count(t, object, "kv_heads", 65536),
			.head_dim = (unsigned)take_count(t, object, "head_dim", 65536),
			.tokens = take_count(t, object, "tokens", INT64_C(1) << 40),
			.prefill = take_choice(t, object, "phase", "decode", "prefill"),
			.seconds = take_measured(t, object),
			.cpu = take_measured(t, json_object_get(object, "cpu")),
		};
		json_int_t prefix = json_integer_value(json_object_get(object, "prefix"));
		if (prefix < 0 || prefix > INT64_C(1) << 40)
			refuse(t, "prefix", "a whole number");
		p.prefix = (uint64_t)MAX(prefix, 0);
		g_array_append_val(c->attention, p);
	}
	g_string_truncate(t->where, 0);
	if (c->attention->len == 0)
		refuse(t, "attention", "points");
}

static void take_all(taker *t, kvt_calibration *c, const json_t *value)
{
	c->cpu = take_text(t, value, "cpu");
	c->kernel = take_text(t, value, "kernel");
	c->isa = take_text(t, value, "isa");
	c->cores = (unsigned)take_count(t, value, "cores", 65536);
	c->threads = (unsigned)take_count(t, value, "threads", 65536);
	c->memory = take_count(t, value, "memory", INT64_C(1) << 60);
	c->cache = take_count(t, value, "cache", INT64_C(1) << 60);
	for (unsigned i = 0; i < KVT_HOST_FIGURES && !t->error; i++) {
		g_string_printf(t->where, "host.%s.", kvt_host_figures[i].key);
		const json_t *host = json_object_get(value, "host");
		c->host[i] = take_measured(t, json_object_get(host, kvt_host_figures[i].key));
	}
	bool network = json_object_get(value, "network") != NULL;
	if (network)
		take_network(t, c, value);
	if (!network || json_object_get(value, "drive"))
		take_drive(t, c, value);
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
	taker t = { .file = name, .where = g_string_new("") };
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
