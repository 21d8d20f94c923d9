/* tier_registry.c: every tier kind by name; a new kind is one line in `registry`. */
#include <string.h>

#include "sim/base/error.h"
#include "sim/tier/builtin_tiers.h"

static const kvt_tier_ops *const registry[] = {
	&kvt_tier_hbm,
	&kvt_tier_dram,
	&kvt_tier_remote_dram,
	&kvt_tier_nvme,
	&kvt_tier_remote_nvme,
	&kvt_tier_null,
	NULL,
};

const kvt_tier_ops *const *kvt_tier_registry(void)
{
	return registry;
}

const kvt_tier_ops *kvt_tier_find(const char *name, GError **error)
{
	const char *names[G_N_ELEMENTS(registry)];
	for (unsigned i = 0; i < G_N_ELEMENTS(registry); i++) {
		names[i] = registry[i] ? registry[i]->name : NULL;
		if (registry[i] && g_str_equal(name, registry[i]->name))
			return registry[i];
	}
	const char *near = kvt_error_suggest(name, names);
	g_autofree char *all = g_strjoinv(", ", (char **)names);
	g_autofree char *quoted = kvt_error_quote(name);
	kvt_error_usage(error, "no tier %s%s%s%s, expected one of %s", quoted,
		near ? " (did you mean " : "", near ? near : "", near ? "?)" : "", all);
	return NULL;
}

/* An error of open, "key: reason" or "reason", as one of the section: at the key's line. */
static void place_error(
	const kvt_tier_ops *ops, kvt_section *section, const char *message, GError **error)
{
	if (!section) {
		kvt_error_usage(error, "tier %s: %s", ops->name, message);
		return;
	}
	for (const kvt_option *option = ops->options; option->name; option++) {
		size_t length = strlen(option->name);
		if (strncmp(message, option->name, length) == 0 &&
			strncmp(message + length, ": ", 2) == 0) {
			kvt_section_error(section, option->name, error, "%s", message + length + 2);
			return;
		}
	}
	kvt_section_error(section, NULL, error, "%s", message);
}

kvt_tier *kvt_tier_open(
	const char *name, const kvt_tier_env *env, kvt_section *section, GError **error)
{
	const kvt_tier_ops *ops = kvt_tier_find(name, error);
	return ops ? kvt_tier_open_kind(ops, env, section, error) : NULL;
}

kvt_tier *kvt_tier_open_kind(
	const kvt_tier_ops *ops, const kvt_tier_env *env, kvt_section *section, GError **error)
{
	g_autofree void *settings = g_malloc0(ops->settings_size);
	if (!kvt_section_read(section, ops->options, settings, TRUE, error))
		return NULL;
	g_autoptr(GError) reason = NULL;
	kvt_tier *tier = ops->open(env, settings, &reason);
	kvt_option_clear(ops->options, settings);
	if (tier)
		return tier;
	place_error(ops, section, reason->message, error);
	return NULL;
}

gboolean kvt_tier_check(const char *name, kvt_section *section, GError **error)
{
	const kvt_tier_ops *ops = kvt_tier_find(name, error);
	if (!ops)
		return FALSE;
	g_autofree void *settings = g_malloc0(ops->settings_size);
	if (!kvt_section_read(section, ops->options, settings, TRUE, error))
		return FALSE;
	kvt_option_clear(ops->options, settings);
	return TRUE;
}
