/* policy_registry.c: the list of eviction policies, and finding one by name. */
#include "sim/cache/policy.h"

#include <string.h>

#include "sim/base/error.h"

/* One line a policy, in the order help shows them. */
#define POLICIES(X)                                                                                \
	X(lru)                                                                                     \
	X(fifo)                                                                                    \
	X(clock)                                                                                   \
	X(lfu)                                                                                     \
	X(arc)                                                                                     \
	X(s3fifo)                                                                                  \
	X(sieve)                                                                                   \
	X(attention)                                                                               \
	X(belady)

#define DECLARE(name) extern const kvt_policy_ops kvt_policy_##name;
POLICIES(DECLARE)

#define ENTRY(name) &kvt_policy_##name,
static const kvt_policy_ops *const registry[] = { POLICIES(ENTRY) NULL };

const kvt_policy_ops *const *kvt_policy_registry(void)
{
	return registry;
}

const kvt_policy_ops *kvt_policy_find(const char *name, GError **error)
{
	const char *names[G_N_ELEMENTS(registry)] = { NULL };
	for (size_t i = 0; registry[i]; i++) {
		if (strcmp(registry[i]->name, name) == 0)
			return registry[i];
		names[i] = registry[i]->name;
	}
	const char *near = kvt_error_suggest(name, names);
	g_autofree char *quoted = kvt_error_quote(name);
	g_autofree char *all = g_strjoinv(", ", (char **)names);
	if (near)
		kvt_error_usage(error, "%s is not known, did you mean \"%s\"? (one of %s)", quoted,
			near, all);
	else
		kvt_error_usage(error, "%s is not known, expected one of %s", quoted, all);
	return NULL;
}
