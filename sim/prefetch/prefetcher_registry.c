/* prefetcher_registry.c: the list of prefetchers, and finding one by name. */
#include "sim/prefetch/prefetcher.h"

#include <string.h>

#include "sim/base/error.h"

/* One line a prefetcher, in the order help shows them. */
#define PREFETCHERS(X)                                                                             \
	X(none)                                                                                    \
	X(random)                                                                                  \
	X(window)                                                                                  \
	X(last_step)                                                                               \
	X(smoothed)                                                                                \
	X(quest)                                                                                   \
	X(arkvale)                                                                                 \
	X(centroid)                                                                                \
	X(simhash)                                                                                 \
	X(pq)                                                                                      \
	X(codes)                                                                                   \
	X(slap)                                                                                    \
	X(slap_index)                                                                              \
	X(slap_hash)                                                                               \
	X(oracle)

#define DECLARE(name) extern const kvt_prefetcher_ops kvt_prefetcher_##name;
PREFETCHERS(DECLARE)

#define ENTRY(name) &kvt_prefetcher_##name,
static const kvt_prefetcher_ops *const registry[] = { PREFETCHERS(ENTRY) NULL };

const kvt_prefetcher_ops *const *kvt_prefetcher_registry(void)
{
	return registry;
}

const kvt_prefetcher_ops *kvt_prefetcher_find(const char *name, GError **error)
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
