/*
 * test_decision_log.c: logs of decisions: what is written down, answers that are held back until
 * their turn, and the first line that differs, with a made-up engine on loops and null tiers.
 */
#include "sim/engine/decision_log.h"

#include <errno.h>
#include <string.h>

#include "sim/base/error.h"
#include "tests/unit/tier_test_io.h"

enum { IOS = 4 };

/* An engine: timers and I/Os, and the order in which they came back. */
typedef struct engine {
	kvt_loop *inner, *loop;
	kvt_network *network;
	kvt_tier *inner_tier, *tier;
	test_io ios[IOS];
	GString *seen;
} engine;

static void engine_init(engine *e, kvt_decision_log *log)
{
	g_autoptr(GError) error = NULL;
	*e = (engine){ .inner = kvt_virtual_loop_new(), .seen = g_string_new(NULL) };
	e->network = kvt_network_new(e->inner);
	const kvt_tier_env env = { .loop = e->inner, .network = e->network };
	e->inner_tier = kvt_tier_open("null", &env, NULL, &error);
	g_assert_no_error(error);
	e->loop = kvt_decision_log_loop(log, e->inner);
	e->tier = kvt_decision_log_tier(log, e->inner_tier);
	const kvt_extent pages = { 1, 0, 0, 100, 4096 };
	g_assert_true(e->tier->ops->preload(e->tier, 0, &pages));
}

static void engine_clear(engine *e)
{
	kvt_tier_close(e->tier);
	kvt_tier_close(e->inner_tier);
	kvt_network_free(e->network);
	kvt_loop_free(e->loop);
	kvt_loop_free(e->inner);
	g_string_free(e->seen, TRUE);
}

static void see_io(test_io *io)
{
	engine *e = io->hook_arg;
	g_string_append_printf(e->seen, "%u:%d ", (unsigned)(io - e->ios), io->io.status);
}

static void see_timer(void *arg)
{
	engine *e = arg;
	g_string_append(e->seen, "t ");
}

static int ask_io(engine *e, unsigned i)
{
	test_io_init(&e->ios[i], KVT_IO_READ, (kvt_extent){ 1, 0, i, 2, 4096 });
	e->ios[i].hook = see_io;
	e->ios[i].hook_arg = e;
	return kvt_tier_submit(e->tier, &e->ios[i].io);
}

/* Three reads and a timer that is due before, at once. */
static void ask_all(engine *e)
{
	for (unsigned i = 0; i < 3; i++)
		g_assert_cmpint(ask_io(e, i), ==, 0);
	kvt_loop_after(e->loop, KVT_SECOND, see_timer, e);
	kvt_loop_run(e->loop);
}

static const char requests[] = "kvtier.decisions/1\n"
			       "read 0 0 1:0:0+2*4096\n"
			       "read 0 0 1:0:1+2*4096\n"
			       "read 0 0 1:0:2+2*4096\n"
			       "timer\n";

static void test_record(void)
{
	g_autoptr(kvt_decision_log) log = kvt_decision_log_new();
	engine e;
	engine_init(&e, log);
	ask_all(&e);
	g_assert_cmpstr(e.seen->str, ==, "0:0 1:0 2:0 t ");
	g_autofree char *all = g_strconcat(requests, "> 2 0\n> 3 0\n> 4 0\n> 5\n", NULL);
	g_assert_cmpstr(kvt_decision_log_text(log), ==, all);
	kvt_decision_counts counts = kvt_decision_log_counts(log);
	g_assert_cmpuint(counts.requests, ==, 4);
	g_assert_cmpuint(counts.answers, ==, 4);
	g_assert_cmpuint(counts.ios, ==, 3);
	g_assert_true(kvt_decision_log_end(log, NULL));
	engine_clear(&e);
}

/* Follows `answers` to the engine's requests: what it sees, and the error at the end or "". */
static void follow(const char *answers, const char *seen, const char *message)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strconcat(requests, answers, NULL);
	g_autoptr(kvt_decision_log) log = kvt_decision_log_parse("log", text, &error);
	g_assert_no_error(error);
	engine e;
	engine_init(&e, log);
	ask_all(&e);
	g_assert_cmpstr(e.seen->str, ==, seen);
	gboolean same = kvt_decision_log_end(log, &error);
	g_assert_cmpint(same, ==, error == NULL);
	g_assert_cmpstr(error ? error->message : "", ==, message);
	for (unsigned i = 0; i < 3; i++) {
		g_assert_cmpuint(e.ios[i].done, ==, 1);
		g_assert_cmpuint(e.ios[i].io.bytes, ==, e.ios[i].io.status == 0 ? 8192 : 0);
	}
	engine_clear(&e);
}

static void test_follow(void)
{
	follow("> 2 0\n> 3 0\n> 4 0\n> 5\n", "0:0 1:0 2:0 t ", "");
	follow("> 4 0\n> 2 0\n> 5\n> 3 0\n", "2:0 0:0 t 1:0 ", "");
	/* what failed there fails here; the last line's end may be missing */
	follow("> 5\n> 4 -5\n> 3 0\n> 2 -74", "t 2:-5 1:0 0:-74 ", "");
}

/* Whatever the log says, everything is answered once. */
static void test_difference(void)
{
	follow("> 3 0\n> 2 0\n> 4 0\n", "1:0 0:0 2:0 t ",
		"log:9: the engine asks nothing, expected the end as recorded");
	follow("> 3 0\n> 3 0\n> 2 0\n> 4 0\n> 5\n", "1:0 0:0 2:0 t ",
		"log:7: the engine waits for no such answer, expected \"> 3 0\" as recorded");
	follow("> 3 0\ntimer\n", "1:0 0:0 2:0 t ",
		"log:7: the engine asks nothing, expected \"timer\" as recorded");
	follow("> 5\n> 18446744073709551615 0\n", "t 0:0 1:0 2:0 ",
		"log:7: the engine waits for no such answer, expected \"> 18446744073709551615 "
		"0\" as recorded");
	follow("> 2 0\n> 3 0\n> 4 0\n> 5\nnotify\n", "0:0 1:0 2:0 t ",
		"log:10: the engine has ended, expected \"notify\" as recorded");
}

static void test_other_request(void)
{
	static const char *const logs[] = {
		"kvtier.decisions/1\nread 0 0 1:0:0+2*4096\nread 0 0 1:0:3+2*4096\n",
		"kvtier.decisions/1\nread 0 0 1:0:0+2*4096\nread 0 0 1:0:1+2*40961\n",
		"kvtier.decisions/1\nread 0 0 1:0:0+2*4096\nread 0 0\n",
		"kvtier.decisions/1\nread 0 0 1:0:0+2*4096\n> 2 0\n",
		"kvtier.decisions/1\nread 0 0 1:0:0+2*4096\n",
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(logs); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_decision_log) log = kvt_decision_log_parse("log", logs[i], &error);
		engine e;
		engine_init(&e, log);
		ask_all(&e);
		g_assert_cmpstr(e.seen->str, ==, "0:0 1:0 2:0 t ");
		g_assert_false(kvt_decision_log_end(log, &error));
		g_assert_true(g_str_has_prefix(error->message,
			"log:3: the engine asks \"read 0 0 1:0:1+2*4096\", expected "));
		engine_clear(&e);
	}
}

/* -EAGAIN is an answer too. */
static void test_refused(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_decision_log) log = kvt_decision_log_parse("log",
		"kvtier.decisions/1\n"
		"read 0 0 1:0:0+2*4096 refused\n"
		"read 0 0 1:0:0+2*4096\n"
		"read 0 0 1:0:1+2*4096\n"
		"> 4 0\n> 3 0\n",
		&error);
	g_assert_no_error(error);
	engine e;
	engine_init(&e, log);
	g_assert_cmpint(ask_io(&e, 0), ==, -EAGAIN);
	g_assert_cmpint(ask_io(&e, 0), ==, 0);
	g_assert_cmpint(ask_io(&e, 1), ==, 0);
	kvt_loop_run(e.loop);
	g_assert_cmpstr(e.seen->str, ==, "1:0 0:0 ");
	g_assert_true(kvt_decision_log_end(log, &error));
	engine_clear(&e);
}

static void test_cancel(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_decision_log) record = kvt_decision_log_new();
	for (int round = 0; round < 2; round++) {
		g_autoptr(kvt_decision_log) follows = NULL;
		if (round == 1)
			follows = kvt_decision_log_parse(
				"log", kvt_decision_log_text(record), &error);
		engine e;
		engine_init(&e, round == 0 ? record : follows);
		kvt_event event = kvt_loop_after(e.loop, KVT_SECOND, see_timer, &e);
		kvt_loop_after(e.loop, 0, see_timer, &e);
		g_assert_cmpuint(kvt_loop_after(e.loop, KVT_TIME_NEVER, see_timer, &e), ==, 0);
		g_assert_true(kvt_loop_cancel(e.loop, event));
		g_assert_false(kvt_loop_cancel(e.loop, event));
		kvt_loop_run(e.loop);
		g_assert_cmpstr(e.seen->str, ==, "t ");
		const kvt_extent page = { 1, 0, 7, 1, 4096 };
		g_assert_cmpuint(e.tier->ops->discard(e.tier, 0, &page), ==, 4096);
		g_assert_cmpstr(kvt_decision_log_text(record), ==,
			"kvtier.decisions/1\ntimer\ntimer\ncancel 2\ncancel 2\n> 3\n"
			"discard 0 1:0:7+1*4096\n");
		g_assert_true(kvt_decision_log_end(round == 0 ? record : follows, &error));
		g_assert_no_error(error);
		engine_clear(&e);
	}
}

static void test_no_log(void)
{
	static const char *const texts[] = { "", "\n", "kvtier.decisions/", "kvtier.decisions/2\n",
		"kvtier.decisions/1", "kvtier.decisions/10\n" };
	for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(GError) error = NULL;
		g_assert_null(kvt_decision_log_parse("log", texts[i], &error));
		g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
		g_assert_cmpstr(error->message, ==,
			"log:1: no log of decisions, expected \"kvtier.decisions/1\"");
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/decision-log/record", test_record);
	g_test_add_func("/decision-log/follow", test_follow);
	g_test_add_func("/decision-log/difference", test_difference);
	g_test_add_func("/decision-log/other-request", test_other_request);
	g_test_add_func("/decision-log/refused", test_refused);
	g_test_add_func("/decision-log/cancel", test_cancel);
	g_test_add_func("/decision-log/no-log", test_no_log);
	return g_test_run();
}
