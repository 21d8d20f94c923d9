/* tier_registry.c: every tier kind by name; a new kind is one line in `registry`. */
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
	kvt_error_usage(error, "no tier \"%s\"%s%s%s, expected one of %s", name,
		near ? " (did you mean " : "", near ? near : "", near ? "?)" : "", all);
	return NULL;
}

kvt_tier *kvt_tier_open(
	const char *name, const kvt_tier_env *env, kvt_section *section, GError **error)
{
	const kvt_tier_ops *ops = kvt_tier_find(name, error);
	if (!ops)
		return NULL;
	g_autofree void *settings = g_malloc0(ops->settings_size);
	if (!kvt_section_read(section, ops->options, settings, TRUE, error))
		return NULL;
	kvt_tier *tier = ops->open(env, settings, error);
	kvt_option_clear(ops->options, settings);
	return tier;
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
