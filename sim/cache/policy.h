/*
 * policy.h: which page leaves a full tier. A policy is one file and one line in the registry
 * (policy_registry.c). Pages are dense indices below a universe that is known when the policy is
 * created, so a policy keeps arrays, not pointers, and its decisions are reproducible.
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
	kvt_policy *(*create)(uint32_t universe, uint32_t capacity);
	void (*free)(kvt_policy *policy);
	void (*admit)(kvt_policy *policy, uint32_t page);  /* the page enters; it was absent */
	void (*touch)(kvt_policy *policy, uint32_t page);  /* an access to a resident page */
	void (*remove)(kvt_policy *policy, uint32_t page); /* it left for another reason */
	/* The resident page that should leave next; it stays resident until `remove`. Pages for
	 * which pinned(page) is set (they are being read) are passed over; UINT32_MAX when all
	 * are. */
	uint32_t (*victim)(kvt_policy *policy, const uint8_t *pinned);
	/* Only with needs_future: the number of the access at which the page is used next
	 * (UINT64_MAX: never); called after admit or touch. */
	void (*next_use)(kvt_policy *policy, uint32_t page, uint64_t access);
} kvt_policy_ops;

struct kvt_policy {
	const kvt_policy_ops *ops;
};

/* Every policy, NULL-terminated. */
const kvt_policy_ops *const *kvt_policy_registry(void);

/* The policy of that name, or an error with a suggestion. */
const kvt_policy_ops *kvt_policy_find(const char *name, GError **error);

#endif
