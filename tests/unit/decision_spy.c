/* decision_spy.c: operations that are passed on, and what came of them. */
#include "tests/unit/decision_spy.h"

/* Operations have no argument for the state of a test. */
static struct {
	GString *chosen;
	const kvt_policy_ops *policy;
	const kvt_prefetcher_ops *prefetcher;
	kvt_policy_ops policy_ops;
	kvt_prefetcher_ops prefetcher_ops;
} spy;

char *decision_spy_take(void)
{
	char *chosen = spy.chosen ? g_string_free(spy.chosen, FALSE) : g_strdup("");
	spy.chosen = g_string_new(NULL);
	return chosen;
}

/* --- The policy --- */

typedef struct spied_policy {
	kvt_policy base;
	kvt_policy *inner;
} spied_policy;

static kvt_policy *inner_policy(kvt_policy *base)
{
	return ((spied_policy *)base)->inner;
}

static kvt_policy *policy_create(uint32_t universe, uint32_t capacity)
{
	spied_policy *policy = g_new0(spied_policy, 1);
	policy->inner = kvt_policy_new(spy.policy, universe, capacity);
	return &policy->base;
}

static void policy_free(kvt_policy *base)
{
	kvt_policy *inner = inner_policy(base);
	inner->ops->free(inner);
	g_free(base);
}

static void policy_admit(kvt_policy *base, uint32_t page)
{
	inner_policy(base)->ops->admit(inner_policy(base), page);
}

static void policy_touch(kvt_policy *base, uint32_t page)
{
	inner_policy(base)->ops->touch(inner_policy(base), page);
}

static void policy_remove(kvt_policy *base, uint32_t page)
{
	g_string_append_printf(spy.chosen, "remove %u\n", page);
	inner_policy(base)->ops->remove(inner_policy(base), page);
}

static uint32_t policy_victim(kvt_policy *base, const uint8_t *pinned)
{
	uint32_t page = inner_policy(base)->ops->victim(inner_policy(base), pinned);
	g_string_append_printf(spy.chosen, "victim %u\n", page);
	return page;
}

static void policy_next_use(kvt_policy *base, uint32_t page, uint64_t access)
{
	inner_policy(base)->ops->next_use(inner_policy(base), page, access);
}

static void policy_first_use(kvt_policy *base, uint32_t page)
{
	inner_policy(base)->ops->first_use(inner_policy(base), page);
}

static void policy_announce(kvt_policy *base, uint32_t page)
{
	inner_policy(base)->ops->announce(inner_policy(base), page);
}

static void policy_resize(kvt_policy *base, uint32_t capacity)
{
	inner_policy(base)->ops->resize(inner_policy(base), capacity);
}

static void policy_mass(
	kvt_policy *base, uint32_t page, gboolean resident, uint32_t step, uint32_t mass)
{
	inner_policy(base)->ops->mass(inner_policy(base), page, resident, step, mass);
}

const kvt_policy_ops *decision_spy_policy(const kvt_policy_ops *inner)
{
	spy.policy = inner;
	spy.policy_ops = (kvt_policy_ops){ .name = inner->name,
		.summary = inner->summary,
		.needs_future = inner->needs_future,
		.create = policy_create,
		.free = policy_free,
		.admit = policy_admit,
		.touch = policy_touch,
		.remove = policy_remove,
		.victim = policy_victim,
		.next_use = inner->next_use ? policy_next_use : NULL,
		.first_use = inner->first_use ? policy_first_use : NULL,
		.announce = inner->announce ? policy_announce : NULL,
		.resize = inner->resize ? policy_resize : NULL,
		.mass = inner->mass ? policy_mass : NULL };
	return &spy.policy_ops;
}

/* --- The prefetcher --- */

typedef struct spied_prefetcher {
	kvt_prefetcher base;
	kvt_prefetcher *inner;
} spied_prefetcher;

static kvt_prefetcher *inner_prefetcher(kvt_prefetcher *base)
{
	return ((spied_prefetcher *)base)->inner;
}

static void copy_stats(kvt_prefetcher *base)
{
	base->stats = inner_prefetcher(base)->stats;
}

static kvt_prefetcher *prefetcher_create(const kvt_prefetcher_spec *spec)
{
	spied_prefetcher *prefetcher = g_new0(spied_prefetcher, 1);
	prefetcher->inner = kvt_prefetcher_new(spy.prefetcher, spec);
	copy_stats(&prefetcher->base);
	return &prefetcher->base;
}

static void prefetcher_free(kvt_prefetcher *base)
{
	kvt_prefetcher *inner = inner_prefetcher(base);
	inner->ops->free(inner);
	g_free(base);
}

static void prefetcher_train(kvt_prefetcher *base, uint32_t head, const kvt_page_keys *sample)
{
	inner_prefetcher(base)->ops->train(inner_prefetcher(base), head, sample);
	copy_stats(base);
}

static void prefetcher_write(kvt_prefetcher *base, uint32_t head, const kvt_page_keys *keys)
{
	inner_prefetcher(base)->ops->write(inner_prefetcher(base), head, keys);
	copy_stats(base);
}

static void prefetcher_query(
	kvt_prefetcher *base, uint32_t step, uint32_t head, const float *queries)
{
	inner_prefetcher(base)->ops->query(inner_prefetcher(base), step, head, queries);
	copy_stats(base);
}

static void prefetcher_observe(
	kvt_prefetcher *base, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
	inner_prefetcher(base)->ops->observe(inner_prefetcher(base), step, head, row);
	copy_stats(base);
}

static void prefetcher_plan(kvt_prefetcher *base, const kvt_plan_request *request, kvt_plan *plan)
{
	inner_prefetcher(base)->ops->plan(inner_prefetcher(base), request, plan);
	copy_stats(base);
	g_string_append_printf(spy.chosen, "plan %u %u:", request->step, request->head);
	for (uint32_t i = 0; i < plan->n; i++)
		g_string_append_printf(
			spy.chosen, "%s%u", i == plan->select ? " | " : " ", plan->pages[i]);
	g_string_append_c(spy.chosen, '\n');
}

const kvt_prefetcher_ops *decision_spy_prefetcher(const kvt_prefetcher_ops *inner)
{
	spy.prefetcher = inner;
	spy.prefetcher_ops = (kvt_prefetcher_ops){ .name = inner->name,
		.summary = inner->summary,
		.sees_future = inner->sees_future,
		.reads_keys = inner->reads_keys,
		.estimates = inner->estimates,
		.unfit = inner->unfit,
		.create = prefetcher_create,
		.free = prefetcher_free,
		.train = inner->train ? prefetcher_train : NULL,
		.write = inner->write ? prefetcher_write : NULL,
		.query = inner->query ? prefetcher_query : NULL,
		.observe = inner->observe ? prefetcher_observe : NULL,
		.plan = prefetcher_plan };
	return &spy.prefetcher_ops;
}
