/* model_file.c: finds model files by name and holds them to the rule that constants have sources.
 */
#include "models/model_file.h"

#include <string.h>

#include "sim/base/datadir.h"
#include "sim/base/error.h"

const char *const kvt_model_kind_names[KVT_MODEL_KINDS + 1] = { "llm", "gpu", "drive", "nic",
	"host", NULL };

static const char *const source_kinds[] = { "datasheet", "published", "measured", "derived",
	"fitted", "imported", "assumed", NULL };

/* Keys that describe the file and are no constants. */
static const char *const descriptive[] = { "title", "note", "source", NULL };

static char *kind_folder(kvt_model_kind kind)
{
	return g_strconcat("models/", kvt_model_kind_names[kind], NULL);
}

char *kvt_model_name_of(const char *path)
{
	char *name = g_path_get_basename(path);
	if (g_str_has_suffix(name, ".ini"))
		name[strlen(name) - 4] = '\0';
	return name;
}

char **kvt_model_names(kvt_model_kind kind, GError **error)
{
	g_autofree char *folder = kind_folder(kind);
	return kvt_datadir_list(folder, ".ini", error);
}

/* A name that is none of the shipped models: the nearest, or all of them. */
static void refuse_name(kvt_model_kind kind, const char *name, char **names, GError **error)
{
	const char *kind_name = kvt_model_kind_names[kind];
	const char *near = kvt_error_suggest(name, (const char *const *)names);
	g_autofree char *quoted = kvt_error_quote(name);
	g_autofree char *all = g_strjoinv(", ", names);
	if (near != NULL)
		kvt_error_usage(
			error, "%s is no %s model, did you mean \"%s\"?", quoted, kind_name, near);
	else
		kvt_error_usage(error, "%s is no %s model, expected one of %s, or a file's path",
			quoted, kind_name, all);
}

/* The one of `names` that is meant: the same but for case, or the only one that goes on after
 * `name` with a dash, as a100-80g does after a100. NULL when there is none, or several. */
static const char *match_name(char **names, const char *name)
{
	const char *longer = NULL;
	unsigned count = 0;
	size_t length = strlen(name);
	for (char **other = names; *other != NULL; other++) {
		if (g_ascii_strcasecmp(*other, name) == 0)
			return *other;
		if (length > 0 && g_ascii_strncasecmp(*other, name, length) == 0 &&
			(*other)[length] == '-') {
			longer = *other;
			count++;
		}
	}
	return count == 1 ? longer : NULL;
}

char *kvt_model_path(kvt_model_kind kind, const char *name, GError **error)
{
	if (strchr(name, '/') != NULL || g_str_has_suffix(name, ".ini"))
		return g_strdup(name);
	g_auto(GStrv) names = kvt_model_names(kind, error);
	if (names == NULL)
		return NULL;
	const char *meant = match_name(names, name);
	if (meant == NULL) {
		refuse_name(kind, name, names, error);
		return NULL;
	}
	g_autofree char *folder = kind_folder(kind);
	g_autofree char *path = g_strconcat(folder, "/", meant, ".ini", NULL);
	return kvt_datadir_find(path, error);
}

static gboolean check_source(
	const kvt_section *section, const char *key, const char *source, GError **error)
{
	const char *colon = strchr(source, ':');
	g_autofree char *kind = colon != NULL ? g_strndup(source, (gsize)(colon - source)) : NULL;
	if (kind == NULL || !g_strv_contains(source_kinds, kind) || colon[1] != ' ' ||
		colon[2] == '\0') {
		g_autofree char *quoted = kvt_error_quote(source);
		g_autofree char *kinds = g_strjoinv(", ", (char **)source_kinds);
		return kvt_section_error(section, key, error,
			"%s is no source, expected \"kind: what and where\", the kind one of %s",
			quoted, kinds);
	}
	return TRUE;
}

/* KEY when `name` is KEY.suffix, else NULL; to be freed. */
static char *without_suffix(const char *name, const char *suffix)
{
	return g_str_has_suffix(name, suffix) ? g_strndup(name, strlen(name) - strlen(suffix))
					      : NULL;
}

static void constant_free(void *data)
{
	kvt_constant *constant = data;
	g_free(constant->section);
	g_free(constant->key);
	g_free(constant->value);
	g_free(constant->source);
	g_free(constant);
}

/* Appends the constants of one section; checks sources and that each KEY.source has its KEY. */
static gboolean section_constants(kvt_section *section, GPtrArray *constants, GError **error)
{
	g_autofree const char **keys = kvt_section_keys(section);
	const char *whole = kvt_section_text(section, "source");
	if (whole != NULL && !check_source(section, "source", whole, error))
		return FALSE;
	for (const char **key = keys; *key != NULL; key++) {
		g_autofree char *sourced = without_suffix(*key, ".source");
		g_autofree char *uncertain = without_suffix(*key, ".uncertainty");
		const char *of = sourced != NULL ? sourced : uncertain;
		if (of != NULL && !g_strv_contains(keys, of))
			return kvt_section_error(section, *key, error,
				"there is no \"%s\" here for it to be of", of);
		if (of != NULL || g_strv_contains(descriptive, *key))
			continue;
		g_autofree char *source_key = g_strconcat(*key, ".source", NULL);
		g_autofree char *uncertainty_key = g_strconcat(*key, ".uncertainty", NULL);
		const char *source = kvt_section_text(section, source_key);
		if (source != NULL && !check_source(section, source_key, source, error))
			return FALSE;
		if (source == NULL)
			source = whole;
		if (source == NULL)
			return kvt_section_error(section, *key, error,
				"no source, expected %s or a source for the section", source_key);
		double uncertainty = 0;
		const char *text = kvt_section_text(section, uncertainty_key);
		g_autoptr(GError) why = NULL;
		if (text != NULL && !kvt_unit_parse(text, KVT_UNIT_SHARE, &uncertainty, &why))
			return kvt_section_error(
				section, uncertainty_key, error, "%s", why->message);
		kvt_constant *constant = g_new0(kvt_constant, 1);
		constant->section = g_strdup(kvt_section_name(section));
		constant->key = g_strdup(*key);
		constant->value = g_strdup(kvt_section_text(section, *key));
		constant->source = g_strdup(source);
		constant->uncertainty = uncertainty;
		g_ptr_array_add(constants, constant);
	}
	return TRUE;
}

GPtrArray *kvt_model_constants(kvt_config *config, GError **error)
{
	g_autoptr(GPtrArray) constants = g_ptr_array_new_with_free_func(constant_free);
	g_autofree const char **sections = kvt_config_section_names(config, "");
	for (const char **name = sections; *name != NULL; name++) {
		if (!section_constants(kvt_config_section(config, *name), constants, error))
			return NULL;
	}
	return g_steal_pointer(&constants);
}

static gboolean refuse_unknown(kvt_section *section, const kvt_option *options, GError **error)
{
	g_autoptr(GPtrArray) known = g_ptr_array_new();
	for (const kvt_option *option = options; option->name != NULL; option++)
		g_ptr_array_add(known, (void *)option->name);
	g_ptr_array_add(known, "title");
	g_ptr_array_add(known, "note");
	g_ptr_array_add(known, "source");
	g_ptr_array_add(known, NULL);
	const char *const *names = (const char *const *)known->pdata;

	g_autofree const char **keys = kvt_section_keys(section);
	for (const char **key = keys; *key != NULL; key++) {
		if (g_strv_contains(names, *key) || g_str_has_suffix(*key, ".source") ||
			g_str_has_suffix(*key, ".uncertainty"))
			continue;
		const char *near = kvt_error_suggest(*key, names);
		if (near != NULL)
			return kvt_section_error(
				section, *key, error, "unknown key, did you mean \"%s\"?", near);
		return kvt_section_error(section, *key, error, "unknown key");
	}
	return TRUE;
}

gboolean kvt_model_read_section(kvt_config *config, const char *name, gboolean required,
	const kvt_option *options, void *target, GError **error)
{
	kvt_section *section = required ? kvt_config_section_required(config, name, error)
					: kvt_config_section(config, name);
	if (section == NULL && required)
		return FALSE;
	if (section != NULL) {
		g_autoptr(GPtrArray) constants = g_ptr_array_new_with_free_func(constant_free);
		if (!refuse_unknown(section, options, error) ||
			!section_constants(section, constants, error))
			return FALSE;
		kvt_section_text(section, "title");
		kvt_section_text(section, "note");
	}
	return kvt_section_read(section, options, target, FALSE, error);
}
