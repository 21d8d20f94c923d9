/*
 * config.c: the sections and keys of a read configuration, who used them, and what was never used.
 * Reading files is config_file.c; turning text into values is config_option.c.
 */
#include "sim/base/config.h"

#include <string.h>

#include "sim/base/config_internal.h"
#include "sim/base/error.h"

static void section_free(gpointer data)
{
	kvt_section *section = data;
	g_ptr_array_free(section->entries, TRUE);
	g_ptr_array_free(section->wanted, TRUE);
	g_hash_table_destroy(section->by_key);
	g_hash_table_destroy(section->wanted_set);
	g_free(section);
}

kvt_config *kvt_config_new(const char *path)
{
	kvt_config *config = g_new0(kvt_config, 1);
	config->path = g_strdup(path);
	config->sections = g_ptr_array_new_with_free_func(section_free);
	config->by_name = g_hash_table_new(g_str_hash, g_str_equal);
	config->strings = g_string_chunk_new(4096);
	return config;
}

void kvt_config_free(kvt_config *config)
{
	if (config == NULL)
		return;
	g_ptr_array_free(config->sections, TRUE);
	g_hash_table_destroy(config->by_name);
	g_string_chunk_free(config->strings);
	g_free(config->path);
	g_free(config);
}

/* A file's name as the copy keeps it. */
static kvt_origin copy_origin(kvt_config *copy, kvt_origin origin)
{
	if (origin.file != NULL)
		origin.file = g_string_chunk_insert_const(copy->strings, origin.file);
	return origin;
}

kvt_config *kvt_config_copy(const kvt_config *config)
{
	kvt_config *copy = kvt_config_new(config->path);
	for (guint i = 0; i < config->sections->len; i++) {
		const kvt_section *from = g_ptr_array_index(config->sections, i);
		kvt_section *to =
			kvt_config_add_section(copy, from->name, copy_origin(copy, from->origin));
		for (guint j = 0; j < from->entries->len; j++) {
			const kvt_entry *entry = g_ptr_array_index(from->entries, j);
			kvt_section_put(
				to, entry->key, entry->text, copy_origin(copy, entry->origin));
		}
	}
	return copy;
}

static gboolean has_kind(const char *name, const char *kind)
{
	size_t length = strlen(kind);
	return length == 0 ||
	       (strncmp(name, kind, length) == 0 && (name[length] == '\0' || name[length] == ' '));
}

void kvt_config_remove(kvt_config *config, const char *kind)
{
	for (guint i = config->sections->len; i-- > 0;) {
		const kvt_section *section = g_ptr_array_index(config->sections, i);
		if (!has_kind(section->name, kind))
			continue;
		g_hash_table_remove(config->by_name, section->name);
		if (section == config->global)
			config->global = NULL;
		g_ptr_array_remove_index(config->sections, i);
	}
}

char *kvt_config_text(const kvt_config *config)
{
	GString *text = g_string_new(NULL);
	for (guint i = 0; i < config->sections->len; i++) {
		const kvt_section *section = g_ptr_array_index(config->sections, i);
		g_string_append_printf(text, "%s[%s]\n", i > 0 ? "\n" : "", section->name);
		for (guint j = 0; j < section->entries->len; j++) {
			const kvt_entry *entry = g_ptr_array_index(section->entries, j);
			g_string_append_printf(text, "%s = %s\n", entry->key, entry->text);
		}
	}
	return g_string_free(text, FALSE);
}

const char *kvt_config_path(const kvt_config *config)
{
	return config->path;
}

kvt_section *kvt_config_peek(const kvt_config *config, const char *name)
{
	return g_hash_table_lookup(config->by_name, name);
}

kvt_entry *kvt_section_peek(const kvt_section *section, const char *key)
{
	return g_hash_table_lookup(section->by_key, key);
}

kvt_section *kvt_config_add_section(kvt_config *config, const char *name, kvt_origin origin)
{
	kvt_section *section = g_new0(kvt_section, 1);
	section->config = config;
	section->name = g_string_chunk_insert_const(config->strings, name);
	section->origin = origin;
	section->entries = g_ptr_array_new_with_free_func(g_free);
	section->by_key = g_hash_table_new(g_str_hash, g_str_equal);
	section->wanted = g_ptr_array_new();
	section->wanted_set = g_hash_table_new(g_str_hash, g_str_equal);
	g_ptr_array_add(config->sections, section);
	g_hash_table_insert(config->by_name, (gpointer)section->name, section);
	if (strcmp(name, "global") == 0)
		config->global = section;
	return section;
}

void kvt_section_put(kvt_section *section, const char *key, const char *text, kvt_origin origin)
{
	GStringChunk *strings = section->config->strings;
	kvt_entry *entry = kvt_section_peek(section, key);
	if (entry == NULL) {
		entry = g_new0(kvt_entry, 1);
		entry->key = g_string_chunk_insert_const(strings, key);
		g_ptr_array_add(section->entries, entry);
		g_hash_table_insert(section->by_key, (gpointer)entry->key, entry);
	}
	entry->text = g_string_chunk_insert(strings, text);
	entry->origin = origin;
}

static void want(kvt_section *section, const char *key)
{
	const char *name = g_string_chunk_insert_const(section->config->strings, key);
	if (g_hash_table_add(section->wanted_set, (gpointer)name))
		g_ptr_array_add(section->wanted, (gpointer)name);
}

kvt_entry *kvt_section_use(kvt_section *section, const char *key)
{
	if (section == NULL)
		return NULL;
	want(section, key);
	kvt_entry *own = kvt_section_peek(section, key);
	if (own != NULL)
		own->used = true;
	kvt_section *global = section->config->global;
	if (global == NULL)
		return own;
	/* A default that every section happens to override is still a known key. */
	kvt_entry *inherited = kvt_section_peek(global, key);
	if (inherited != NULL)
		inherited->used = true;
	return own != NULL ? own : inherited;
}

kvt_section *kvt_config_section(kvt_config *config, const char *name)
{
	kvt_section *section = kvt_config_peek(config, name);
	if (section != NULL)
		section->used = true;
	return section;
}

kvt_section *kvt_config_section_or_empty(kvt_config *config, const char *name)
{
	kvt_section *section = kvt_config_section(config, name);
	if (section == NULL) {
		section =
			kvt_config_add_section(config, name, (kvt_origin){ .file = config->path });
		section->used = true;
	}
	return section;
}

kvt_section *kvt_config_section_required(kvt_config *config, const char *name, GError **error)
{
	kvt_section *section = kvt_config_section(config, name);
	if (section != NULL)
		return section;
	g_autofree const char **names = kvt_config_section_names(config, "");
	const char *near = kvt_error_suggest(name, names);
	if (near != NULL)
		kvt_error_at(error, config->path, kvt_config_peek(config, near)->origin.line,
			"[%s]: unknown section, did you mean [%s]?", near, name);
	else
		kvt_error_at(error, config->path, 0, "section [%s] is missing", name);
	return NULL;
}

const char **kvt_config_section_names(kvt_config *config, const char *prefix)
{
	GPtrArray *names = g_ptr_array_new();
	for (guint i = 0; i < config->sections->len; i++) {
		const kvt_section *section = g_ptr_array_index(config->sections, i);
		if (has_kind(section->name, prefix))
			g_ptr_array_add(names, (gpointer)section->name);
	}
	g_ptr_array_add(names, NULL);
	return (const char **)g_ptr_array_free(names, FALSE);
}

const char *kvt_section_name(const kvt_section *section)
{
	return section->name;
}

const char *kvt_section_text(kvt_section *section, const char *key)
{
	const kvt_entry *entry = kvt_section_use(section, key);
	return entry != NULL ? entry->text : NULL;
}

bool kvt_section_overridden(kvt_section *section, const char *key)
{
	const kvt_entry *entry = kvt_section_use(section, key);
	return entry != NULL && entry->origin.reading == 0 && entry->origin.file == NULL;
}

const char **kvt_section_keys(kvt_section *section)
{
	const char **keys = g_new(const char *, section->entries->len + 1);
	for (guint i = 0; i < section->entries->len; i++)
		keys[i] = ((const kvt_entry *)g_ptr_array_index(section->entries, i))->key;
	keys[section->entries->len] = NULL;
	return keys;
}

/* The message with the place of an entry, of a section when there is none, before it. */
static gboolean error_at_origin(const kvt_section *section, const char *key, kvt_origin origin,
	const char *message, GError **error)
{
	const char *dot = key != NULL ? " " : "";
	const char *name = key != NULL ? key : "";
	if (origin.file == NULL)
		return kvt_error_usage(error, "--set %s%s%s: %s", section->name,
			key != NULL ? "." : "", name, message);
	return kvt_error_at(
		error, origin.file, origin.line, "[%s]%s%s: %s", section->name, dot, name, message);
}

gboolean kvt_section_error(
	const kvt_section *section, const char *key, GError **error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	g_autofree char *message = g_strdup_vprintf(format, args);
	va_end(args);

	const kvt_section *holder = section, *global = section->config->global;
	const kvt_entry *entry = key != NULL ? kvt_section_peek(section, key) : NULL;
	if (entry == NULL && key != NULL && global != NULL) {
		entry = kvt_section_peek(global, key);
		holder = entry != NULL ? global : section;
	}
	return error_at_origin(
		holder, key, entry != NULL ? entry->origin : section->origin, message, error);
}

/* The nearest of the names to a section's, by its whole name or by its kind alone. */
static const char *suggest_section(const char *name, const char *const *known)
{
	if (known == NULL)
		return NULL;
	const char *near = kvt_error_suggest(name, known);
	if (near != NULL)
		return near;
	g_autofree char *kind = g_strndup(name, strcspn(name, " "));
	return kvt_error_suggest(kind, known);
}

static gboolean refuse_section(const kvt_section *section, const char *const *known, GError **error)
{
	const char *near = suggest_section(section->name, known);
	/* A section that --set made has keys and no line; its first key names the option. */
	const kvt_entry *first =
		section->entries->len > 0 ? g_ptr_array_index(section->entries, 0) : NULL;
	const char *key = section->origin.file == NULL && first != NULL ? first->key : NULL;
	g_autofree char *message =
		near != NULL ? g_strdup_printf("unknown section, did you mean [%s]?", near)
			     : g_strdup("unknown section, nothing here reads it");
	return error_at_origin(section, key, section->origin, message, error);
}

static gboolean refuse_key(const kvt_section *section, const kvt_entry *entry, GError **error)
{
	GPtrArray *wanted = g_ptr_array_new();
	const GPtrArray *sections = section->config->sections;
	if (section != section->config->global)
		g_ptr_array_extend(wanted, section->wanted, NULL, NULL);
	else
		for (guint i = 0; i < sections->len; i++) {
			const kvt_section *other = g_ptr_array_index(sections, i);
			g_ptr_array_extend(wanted, other->wanted, NULL, NULL);
		}
	g_ptr_array_add(wanted, NULL);
	const char *near = kvt_error_suggest(entry->key, (const char *const *)wanted->pdata);
	g_ptr_array_free(wanted, TRUE);

	g_autofree char *message =
		near != NULL ? g_strdup_printf("unknown key, did you mean \"%s\"?", near)
			     : g_strdup("unknown key, nothing here reads it");
	return error_at_origin(section, entry->key, entry->origin, message, error);
}

gboolean kvt_config_check_used(kvt_config *config, const char *const *known, GError **error)
{
	for (guint i = 0; i < config->sections->len; i++) {
		const kvt_section *section = g_ptr_array_index(config->sections, i);
		if (!section->used && section != config->global)
			return refuse_section(section, known, error);
		for (guint j = 0; j < section->entries->len; j++) {
			const kvt_entry *entry = g_ptr_array_index(section->entries, j);
			if (!entry->used)
				return refuse_key(section, entry, error);
		}
	}
	return TRUE;
}
