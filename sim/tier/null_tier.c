/*
 * null_tier.c: a tier that costs nothing: unbounded, infinitely fast, but as asynchronous as any
 * other. For testing the engine itself and for bounds ("what if storage were free").
 */
#include <stddef.h>

#include "sim/tier/builtin_tiers.h"
#include "sim/tier/modelled_tier.h"

typedef struct null_settings {
	uint64_t capacity;
} null_settings;

static const kvt_option null_options[] = {
	{ "capacity", KVT_OPTION_BYTES, 0, offsetof(null_settings, capacity), "0B", 0, 0, NULL,
		"bytes that it holds; 0B: unbounded" },
	{ 0 },
};

static kvt_tier *null_open(const kvt_tier_env *env, const void *settings, GError **error)
{
	const null_settings *null = settings;
	kvt_modelled_spec spec = { .capacity = null->capacity > 0 ? null->capacity : UINT64_MAX };
	return kvt_modelled_tier_new(&kvt_tier_null, env, &spec);
}

const kvt_tier_ops kvt_tier_null = {
	.name = "null",
	.summary = "unbounded and infinitely fast; for bounds and tests",
	.flags = KVT_TIER_MODELLED,
	.options = null_options,
	.settings_size = sizeof(null_settings),
	.open = null_open,
	KVT_MODELLED_OPS,
};
