/*
 * test_remote_turn.c: turns in real time whose pages lie at a storage node, on a fabric within the
 * process: exact, also when bits are turned over on the way, and when the node is out of reach for
 * a while.
 */
#include <glib.h>
#include <string.h>

#include "emu/turn/emulation.h"
#include "emu/loop/real_loop.h"
#include "tests/unit/remote_fixture.h"
#include "tests/unit/tiny_model.h"

/* A node on the turn's own loop, which goes with the tier. */
typedef struct service {
	memory_wire *wire;
	kvt_fabric *near, *far;
	kvt_node *node;
	kvt_loop *loop;
	kvt_tier *tier;
	kvt_tier_ops ops; /* the tier's, but for close */
	bool drained;
	unsigned flip; /* of every so many transfers of Turn 2 one */
	bool cut;      /* for a while, when Turn 2 begins */
	kvt_remote_counts counts;
	uint64_t flipped;
} service;

static service *current;

static void on_drained(void *arg)
{
	service *s = arg;
	s->drained = true;
	kvt_loop_stop(s->loop);
}

static void close_service(kvt_tier *tier)
{
	service *s = current;
	s->counts = kvt_remote_tier_counts(tier);
	s->flipped = memory_wire_get_counts(s->wire)->flipped;
	kvt_tier_remote_node.close(tier);
	kvt_real_loop_hold(s->loop);
	kvt_node_drain(s->node, on_drained, s);
	while (!s->drained)
		kvt_loop_run(s->loop);
	kvt_node_free(s->node);
	s->near->ops->free(s->near);
	s->far->ops->free(s->far);
	memory_wire_free(s->wire);
}

static kvt_tier *serve(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier)
{
	service *s = arg;
	g_autoptr(GError) error = NULL;
	kvt_tier_close(tier);
	current = s;
	s->loop = env->loop;
	s->wire = memory_wire_new(env->loop);
	s->near = memory_fabric_new(s->wire, "10.0.0.1", NULL);
	s->far = memory_fabric_new(s->wire, "10.0.0.2", NULL);
	node_setup setup = remote_setup(false);
	setup.settings.tenants = setup.tenants;
	s->node = kvt_node_new(env->loop, s->far, &setup.settings, &error);
	g_assert_no_error(error);
	kvt_real_loop_release(env->loop);
	kvt_remote_tenant tenant = { .number = 0 };
	memcpy(tenant.key, setup.tenants[0].key, KVT_REMOTE_KEY);
	const kvt_remote_settings settings = { .address = "10.0.0.2",
		.port = kvt_node_port(s->node),
		.tenants = &tenant,
		.n_tenants = 1,
		.helpers = 1,
		.pause = KVT_MILLISECOND,
		.longest_pause = KVT_MILLISECOND,
		.connection = { .queues = 2, .retries = 1, .timeout = 20 * KVT_MILLISECOND } };
	s->tier = kvt_remote_tier_new(env, s->near, &settings, &error);
	g_assert_no_error(error);
	s->ops = kvt_tier_remote_node;
	s->ops.close = close_service;
	s->tier->ops = &s->ops;
	return s->tier;
}

static void mend(void *arg)
{
	memory_fabric_cut(((service *)arg)->far, false);
}

static void stored(void *arg, kvt_tier *tier)
{
	service *s = arg;
	memory_wire_flip(s->wire, s->flip);
	if (s->cut) {
		memory_fabric_cut(s->far, true);
		kvt_loop_after(s->loop, 100 * KVT_MILLISECOND, mend, s);
	}
}

static void run(service *s, const char *more)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	kvt_emulation_hooks hooks = { .wrap = serve, .stored = stored, .arg = s };
	g_autoptr(kvt_experiment) experiment = tiny_experiment("bf16", more);
	g_assert_true(kvt_emulation_run(experiment, &hooks, NULL, &result, &error));
	g_assert_no_error(error);
	g_assert_cmpuint(result.errors.outputs, >=, 3 * 2 * (28 + 3));
	g_assert_cmpuint(result.errors.compared, ==, result.errors.outputs);
	g_assert_true(kvt_attention_errors_pass(&result.errors));
	g_assert_null(result.notice);
}

static const char *const modes[] = {
	"[emulation]\nchecks = 0\n",
	"[emulation]\nchecks = 0\n[stream]\nmode = always\nwindow_tokens = 48\nbuffers = 2\n",
};

static void test_exact(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
		service s = { 0 };
		run(&s, modes[i]);
		g_assert_cmpuint(s.counts.verified_pages, >=, 3 * 37);
		g_assert_cmpuint(s.counts.direct_bytes, >, 0);
		g_assert_cmpuint(s.counts.bad_pages, ==, 0);
	}
}

/* A page that is wrong when it comes is made again, and the output is what it was. */
static void test_flipped(void)
{
	service s = { .flip = 3 };
	run(&s, modes[0]);
	g_assert_cmpuint(s.flipped, >, 0);
	g_assert_cmpuint(s.counts.bad_pages, >, 0);
}

static void test_cut(void)
{
	service s = { .cut = true };
	run(&s, modes[0]);
	g_assert_cmpuint(s.counts.failures[KVT_REMOTE_FAILURE_LOST] +
				 s.counts.failures[KVT_REMOTE_FAILURE_DOWN],
		>, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	tiny_model_make();
	g_test_add_func("/remote-turn/exact", test_exact);
	g_test_add_func("/remote-turn/flipped", test_flipped);
	g_test_add_func("/remote-turn/cut", test_cut);
	int status = g_test_run();
	tiny_model_remove();
	return status;
}
