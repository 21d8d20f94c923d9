/*
 * test_emulated_migration.c: a session that goes on at another node, in real time: every turn of it
 * is exact, whatever the pools are; what the first node lost is stored again and lost no more; and
 * once the session has moved, the first node may go.
 */
#include <glib.h>
#include <string.h>

#include "emu/loop/real_loop.h"
#include "emu/tier/pinned_tier.h"
#include "emu/turn/validation.h"
#include "tests/unit/lossy_tier.h"
#include "tests/unit/remote_fixture.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/tiny_model.h"

/* 3 layers of 37 pages are stored. */
enum { LAYERS = 3, PAGES = 37, PAGE_BYTES = 16 * 2 * 2 * 64 * 2 };
static const uint64_t CONTEXT_BYTES = LAYERS * PAGES * PAGE_BYTES;

#define STREAM "[stream]\nmode = always\nwindow_tokens = 96\nbuffers = 3\n"
#define KEEP "[migrate]\nkeep_tier = dram\n"
#define CHECKS "[emulation]\nchecks = 200\n"

static kvt_experiment *make(const char *more)
{
	g_autofree char *text =
		g_strconcat(more, strstr(more, "[emulation]\n") ? "" : CHECKS, NULL);
	kvt_experiment *experiment = tiny_experiment("bf16", text);
	experiment->kind = KVT_RUN_MIGRATE;
	return experiment;
}

static void run(const char *more, const kvt_emulation_hooks *hooks, kvt_emulation_result *result)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_experiment) experiment = make(more);
	g_assert_true(kvt_emulation_run(experiment, hooks, NULL, result, &error));
	g_assert_no_error(error);
	g_assert_true(result->migration.ran);
	const kvt_attention_errors *errors;
	g_assert_true(kvt_emulation_exact(result, &errors));
	for (unsigned i = 0; i < KVT_MIGRATION_TURNS; i++) {
		errors = &result->migration.errors[i];
		if (i == KVT_MIGRATION_SETTLED && !result->migration.migration.settled)
			continue;
		/* 28 and 3 tokens are computed, or 620 and 3 */
		uint64_t tokens = i == KVT_MIGRATION_RECOMPUTE ? 623 : 31;
		g_assert_cmpuint(errors->outputs, ==, LAYERS * 2 * tokens);
		g_assert_cmpuint(errors->compared, ==, MIN(errors->outputs, 200));
		g_assert_cmpfloat(errors->rms, >, 0);
		g_assert_true(kvt_attention_errors_pass(errors));
	}
}

static uint64_t lost_pages(const kvt_turn *turn)
{
	uint64_t pages = 0;
	for (unsigned i = 0; i < KVT_LOSSES; i++)
		pages += turn->lost.pages[i];
	return pages;
}

/* Pools in memory and in files, resident and through windows, kept and not. */
static void test_exact(void)
{
	static const char *const modes[] = { "", KEEP, STREAM, STREAM KEEP };
	for (unsigned i = 0; i < 2 * G_N_ELEMENTS(modes); i++) {
		const char *mode = modes[i / 2];
		char *first = store_folder_new(), *other = store_folder_new();
		g_autofree char *files = g_strdup_printf(
			"%s" CHECKS "tier = store\n[emulation store]\npath = %s\ncapacity = 32MiB\n"
			"[emulation migrate]\nkeep_tier = store\n"
			"[emulation keep store]\npath = %s\ncapacity = 32MiB\n",
			mode, first, other);
		g_auto(kvt_emulation_result) result = { 0 };
		run(i % 2 ? files : mode, NULL, &result);
		const kvt_turn *turns = result.migration.migration.turns;
		const kvt_turn *fetch = &turns[KVT_MIGRATION_FETCH];
		bool streams = strstr(mode, "stream") != NULL, keeps = strstr(mode, "keep") != NULL;
		/* what streams is brought back once for the prompt; then for every token */
		g_assert_cmpuint(fetch->read_bytes[0], ==, CONTEXT_BYTES);
		g_assert_cmpuint(turns[KVT_MIGRATION_STAY].read_bytes[0], ==, CONTEXT_BYTES);
		g_assert_cmpuint(fetch->streamed, ==, streams);
		g_assert_cmpuint(fetch->kept.bytes, ==, keeps ? CONTEXT_BYTES : 0);
		g_assert_cmpuint(fetch->kept.failed_bytes, ==, 0);
		g_assert_true(result.migration.migration.settled == keeps);
		g_assert_cmpuint(
			turns[KVT_MIGRATION_SETTLED].read_bytes[0], ==, keeps ? CONTEXT_BYTES : 0);
		g_assert_true(turns[KVT_MIGRATION_RECOMPUTE].recomputed);
		for (unsigned t = 0; t < KVT_MIGRATION_TURNS; t++)
			g_assert_cmpuint(lost_pages(&turns[t]), ==, 0);
		store_folder_free(first);
		store_folder_free(other);
	}
}

typedef struct damage {
	bool drop, lossy_reads;
	lossy_settings lossy;
} damage;

/* The second layer's page 7 goes, or a bit of it changes. */
static void damage_page(void *arg, kvt_tier *tier)
{
	damage *d = arg;
	kvt_extent extent = { 1, 1, 7, 1, PAGE_BYTES };
	d->lossy.mends = true;
	if (d->lossy_reads)
		return;
	if (d->drop) {
		g_assert_cmpuint(tier->ops->discard(tier, 0, &extent), ==, PAGE_BYTES);
		return;
	}
	uint8_t *page = kvt_pinned_tier_page(tier, 0, &extent);
	g_assert_nonnull(page);
	page[1000] ^= 0x10;
}

static kvt_tier *wrap_lossy(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier)
{
	damage *d = arg;
	return d->lossy_reads && g_str_equal(section, "emulation memory")
		       ? lossy_tier_new(tier, &d->lossy)
		       : tier;
}

/* What the first turn lost, the next one over the same pool does not: it was stored again. */
static void assert_mended(const kvt_emulation_result *result, uint64_t least)
{
	const kvt_turn *turns = result->migration.migration.turns;
	const kvt_turn *stay = &turns[KVT_MIGRATION_STAY], *fetch = &turns[KVT_MIGRATION_FETCH];
	g_assert_cmpuint(lost_pages(stay), >=, least);
	g_assert_cmpuint(stay->lost.tokens, >, 0);
	g_assert_cmpuint(stay->stored_again.bytes, >=, least * PAGE_BYTES);
	g_assert_cmpuint(stay->stored_again.failed_bytes, ==, 0);
	g_assert_cmpuint(stay->written_bytes[0], ==, stay->stored_again.bytes);
	g_assert_cmpuint(lost_pages(fetch) + fetch->lost.rereads + fetch->lost.tokens, ==, 0);
	g_assert_cmpuint(fetch->stored_again.bytes, ==, 0);
	g_assert_cmpuint(fetch->kept.bytes, ==, CONTEXT_BYTES);
}

static void test_stored_again(void)
{
	static const char *const modes[] = { KEEP, STREAM KEEP };
	for (unsigned m = 0; m < G_N_ELEMENTS(modes); m++) {
		for (int drop = 0; drop < 2 && m == 0; drop++) {
			g_auto(kvt_emulation_result) result = { 0 };
			damage d = { .drop = drop };
			kvt_emulation_hooks hooks = { .stored = damage_page, .arg = &d };
			run(modes[m], &hooks, &result);
			assert_mended(&result, 1);
		}
		static const double rates[] = { 0.05, 1 };
		for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
			g_auto(kvt_emulation_result) result = { 0 };
			g_autoptr(GHashTable) mended = g_hash_table_new(NULL, NULL);
			damage d = { .lossy_reads = true,
				.lossy = { .seed = i, .rate = rates[i], .mended = mended } };
			kvt_emulation_hooks hooks = {
				.wrap = wrap_lossy, .stored = damage_page, .arg = &d
			};
			run(modes[m], &hooks, &result);
			const kvt_turn *stay =
				&result.migration.migration.turns[KVT_MIGRATION_STAY];
			/* what streams from its beginning goes to storage chunk by chunk */
			if (!(stay->given_up > 0 && stay->streamed))
				assert_mended(&result, 1);
			g_assert_cmpuint(lost_pages(&result.turn), ==, 0);
		}
	}
}

/* Two nodes on a wire, the turns' engines at its other end. */
typedef struct service {
	memory_wire *wire;
	kvt_fabric *near;
	struct service_node {
		kvt_fabric *fabric;
		kvt_node *node;
		uint16_t port;
		node_setup setup;
		bool drained;
	} nodes[2];
	kvt_loop *loop;
	kvt_tier_ops ops; /* the tier's, but for close */
	unsigned closed;
	uint64_t verified;
} service;

static service *current;
static const char *const addresses[] = { "10.0.0.2", "10.0.0.3" };

static void on_drained(void *arg)
{
	((struct service_node *)arg)->drained = true;
	kvt_loop_stop(current->loop);
}

static void stop_node(service *s, unsigned which)
{
	struct service_node *n = &s->nodes[which];
	kvt_real_loop_hold(s->loop);
	kvt_node_drain(n->node, on_drained, n);
	while (!n->drained)
		kvt_loop_run(s->loop);
	kvt_node_free(n->node);
	n->fabric->ops->free(n->fabric);
}

static void start(service *s, kvt_loop *loop)
{
	g_autoptr(GError) error = NULL;
	s->loop = loop;
	s->wire = memory_wire_new(loop);
	s->near = memory_fabric_new(s->wire, "10.0.0.1", NULL);
	for (unsigned i = 0; i < 2; i++) {
		struct service_node *n = &s->nodes[i];
		n->fabric = memory_fabric_new(s->wire, addresses[i], NULL);
		n->setup = remote_setup(false);
		n->setup.settings.tenants = n->setup.tenants;
		n->setup.settings.address = addresses[i];
		n->node = kvt_node_new(loop, n->fabric, &n->setup.settings, &error);
		g_assert_no_error(error);
		n->port = kvt_node_port(n->node);
		kvt_real_loop_release(loop);
	}
}

/* The last tier of the last turn ends it all. */
static void close_tier(kvt_tier *tier)
{
	service *s = current;
	s->verified += kvt_remote_tier_counts(tier).verified_pages;
	kvt_tier_remote_node.close(tier);
	/* stay, fetch and keep, settled, recompute */
	if (++s->closed < 5)
		return;
	stop_node(s, 1);
	s->near->ops->free(s->near);
	memory_wire_free(s->wire);
}

static kvt_tier *serve(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier)
{
	service *s = arg;
	g_autoptr(GError) error = NULL;
	kvt_tier_close(tier);
	current = s;
	if (!s->wire)
		start(s, env->loop);
	unsigned which = g_str_has_prefix(section, "emulation keep ");
	kvt_remote_tenant tenant = { .number = 0 };
	memcpy(tenant.key, s->nodes[which].setup.tenants[0].key, KVT_REMOTE_KEY);
	const kvt_remote_settings settings = { .address = addresses[which],
		.port = s->nodes[which].port,
		.tenants = &tenant,
		.n_tenants = 1,
		.may_be_down = true,
		.helpers = 1,
		.pause = KVT_MILLISECOND,
		.longest_pause = KVT_MILLISECOND,
		.connection = { .queues = 2, .retries = 1, .timeout = 20 * KVT_MILLISECOND } };
	kvt_tier *remote = kvt_remote_tier_new(env, s->near, &settings, &error);
	g_assert_no_error(error);
	s->ops = kvt_tier_remote_node;
	s->ops.close = close_tier;
	remote->ops = &s->ops;
	return remote;
}

/* The first node goes when the session has moved. */
static void begins(void *arg, kvt_migration_turn which)
{
	if (which == KVT_MIGRATION_SETTLED)
		stop_node(arg, 0);
}

/* Pages that lie at nodes: read from the first one's memory, kept in the other's, and there when
 * the first one is gone. */
static void test_nodes(void)
{
	service s = { 0 };
	g_auto(kvt_emulation_result) result = { 0 };
	kvt_emulation_hooks hooks = { .wrap = serve, .begins = begins, .arg = &s };
	run(KEEP, &hooks, &result);
	const kvt_turn *turns = result.migration.migration.turns;
	g_assert_cmpuint(s.closed, ==, 5);
	g_assert_cmpuint(s.verified, ==, 3 * LAYERS * PAGES);
	g_assert_cmpuint(turns[KVT_MIGRATION_FETCH].kept.bytes, ==, CONTEXT_BYTES);
	for (unsigned i = 0; i < KVT_MIGRATION_TURNS; i++)
		g_assert_cmpuint(lost_pages(&turns[i]), ==, 0);
	g_assert_cmpuint(turns[KVT_MIGRATION_SETTLED].read_bytes[0], ==, CONTEXT_BYTES);
}

/* Both worlds, all turns of it. */
static void test_validated(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_experiment) experiment = make(
		KEEP "[validate]\nrepeats = 1\nwarm_ups = 0\nttft = 0%\ntpot = 0%\nstage = 0%\n");
	g_auto(kvt_validation) v = { 0 };
	g_assert_true(kvt_validation_run(experiment, NULL, NULL, &v, &error));
	g_assert_no_error(error);
	g_assert_true(v.exact && v.passed);
	static const char *const names[] = { "ttft", "stay.ttft", "settled.ttft",
		"recompute.ttft" };
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
		unsigned found = 0;
		for (guint r = 0; r < v.rows->len; r++) {
			const kvt_validation_row *row =
				&g_array_index(v.rows, kvt_validation_row, r);
			if (!g_str_equal(row->name, names[i]))
				continue;
			found++;
			g_assert_cmpfloat(row->model.value, >, 0);
			g_assert_cmpfloat(row->measured.value, >, 0);
		}
		g_assert_cmpuint(found, ==, 1);
	}
}

static void assert_refused(const char *more, const char *reason)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	g_autoptr(kvt_experiment) experiment = make(more);
	g_assert_false(kvt_emulation_run(experiment, NULL, NULL, &result, &error));
	g_assert_nonnull(strstr(error->message, reason));
}

static void test_refused(void)
{
	assert_refused(CHECKS "tier = null\n", "expected a tier of the emulation");
	assert_refused(KEEP "[emulation migrate]\nkeep_tier = tape\n", "no tier");
	assert_refused(
		"[emulation migrate]\nhome_tier = dram\n", "expected a tier of the emulation");
	assert_refused("[emulation migrate]\npool = memory\n", "pool");
	assert_refused(CHECKS "trace = code-32k-window.h5\n", "no queries to be computed again");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	tiny_model_make();
	g_test_add_func("/emulated-migration/exact", test_exact);
	g_test_add_func("/emulated-migration/stored-again", test_stored_again);
	g_test_add_func("/emulated-migration/nodes", test_nodes);
	g_test_add_func("/emulated-migration/validated", test_validated);
	g_test_add_func("/emulated-migration/refused", test_refused);
	int status = g_test_run();
	tiny_model_remove();
	return status;
}
