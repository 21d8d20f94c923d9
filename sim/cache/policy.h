/*
 * policy.h: which page leaves a full tier. It decides only that: what is resident, pinned or being
 * moved is page_cache.h's. Pages are dense indices below a universe that is known when the policy
 * is created, so a policy keeps arrays, not pointers, and its decisions are reproducible.
 *
 * Adding a policy NAME:
 *   1. Write sim/cache/policy_NAME.c with `const kvt_policy_ops kvt_policy_NAME`; policy_lru.c is
 *      the shortest example. The build finds the file by itself.
 *   2. Add X(NAME) to the list in policy_registry.c. That is the one line: `--policy NAME`, its
 *      help and the tests of every policy (tests/unit/test_policy.c) follow from it.
 */
#ifndef KVT_POLICY_H
#define KVT_POLICY_H

#include <glib.h>
#include <stdint.h>

typedef struct kvt_policy kvt_policy;

typedef struct kvt_policy_ops {
	const char *name;
	const char *summary;
	gboolean needs_future; /* Belady: next_use is called for every admit and touch */
	gboolean counts_pages; /* it decides by how many pages fit: not for a capacity in bytes */
	/* An object that begins with a kvt_policy; kvt_policy_new fills that in. At most `capacity`
	 * pages, all below `universe`, are resident at a time. */
	kvt_policy *(*create)(uint32_t universe, uint32_t capacity);
	void (*free)(kvt_policy *policy);
	/* The page, which was absent, enters for an access that `touch` is not called for. */
	void (*admit)(kvt_policy *policy, uint32_t page);
	void (*touch)(kvt_policy *policy, uint32_t page); /* another access to a resident page */
	/* It leaves: right after `victim` has named it because it is evicted, else for another
	 * reason, such as that nothing will ever use it. */
	void (*remove)(kvt_policy *policy, uint32_t page);
	/* The resident page that should leave next; it stays resident until `remove`. Pages for
	 * which pinned[page] is set (they are being read) are passed over; UINT32_MAX when all
	 * are. */
	uint32_t (*victim)(kvt_policy *policy, const uint8_t *pinned);
	/* Only with needs_future: the number of the access at which the page is used next
	 * (UINT64_MAX: never); called after admit or touch. */
	void (*next_use)(kvt_policy *policy, uint32_t page, uint64_t access);
	/* The others may be NULL. The access that a page was admitted for, where it takes place
	 * some time after that: its recency is renewed, and it is not counted a second time. */
	void (*first_use)(kvt_policy *policy, uint32_t page);
	/* The absent page that `admit` will be called for next, said before
	 * `victim` makes room for it. */
	void (*announce)(kvt_policy *policy, uint32_t page);
	/* Pages that may be resident from now on; until then as many as it was created for. */
	void (*resize)(kvt_policy *policy, uint32_t capacity);
	/* Attention at a step gave a page, resident or not, a share of its mass, in units of
	 * 1 / KVT_MASS_ONE (top_pages.h); said for pages that were attended, when attention is
	 * over. Steps rise. */
	void (*mass)(
		kvt_policy *policy, uint32_t page, gboolean resident, uint32_t step, uint32_t mass);
} kvt_policy_ops;

/* A policy begins with its operations; an implementation embeds this first. */
struct kvt_policy {
	const kvt_policy_ops *ops;
};

static inline kvt_policy *kvt_policy_new(
	const kvt_policy_ops *ops, uint32_t universe, uint32_t capacity)
{
	kvt_policy *policy = ops->create(universe, capacity);
	policy->ops = ops;
	return policy;
}

/* Every policy, NULL-terminated. */
const kvt_policy_ops *const *kvt_policy_registry(void);

/* The policy of that name, or an error with a suggestion. */
const kvt_policy_ops *kvt_policy_find(const char *name, GError **error);

#endif
