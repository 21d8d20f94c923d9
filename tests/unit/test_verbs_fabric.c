/*
 * test_verbs_fabric.c: the conformance suite over RDMA devices, both ends in this process, and what
 * only verbs have. Where there are no two devices on a wire (RXE_IP0 and RXE_IP1 name their
 * addresses, as tests/rxe/ sets them) it skips what needs them, and says so.
 */
#include "emu/fabric/verbs_fabric.h"

#include <errno.h>
#include <string.h>

#include "emu/fabric/key_quarantine.h"
#include "emu/loop/real_loop.h"
#include "tests/unit/fabric_conformance.h"

/* --- The pair --- */

static const char *make_at(fabric_pair *pair, const char *far, const char *second, unsigned linked)
{
	GError *error = NULL;
	pair->loop = kvt_real_loop_new(NULL);
	pair->near = kvt_verbs_fabric_new(
		pair->loop, &(kvt_verbs_settings){ .peer = far, .linked = linked }, &error);
	g_assert_no_error(error);
	pair->far =
		kvt_verbs_fabric_new(pair->loop, &(kvt_verbs_settings){ .address = far }, &error);
	g_assert_no_error(error);
	pair->far_address = far;
	pair->second_address = second;
	return NULL;
}

static const char *make_pair(fabric_pair *pair)
{
	const char *far = g_getenv("RXE_IP1");
	if (!far)
		return "there are no RDMA devices: RXE_IP0 and RXE_IP1 are not set";
	return make_at(pair, far, g_getenv("RXE_IP6_1"), 0);
}

/* Over IPv6, and with work requests linked as other devices than soft-RoCE take them. */
static const char *make_pair_6(fabric_pair *pair)
{
	return make_at(pair, g_getenv("RXE_IP6_1"), NULL, 32);
}

static void free_pair(fabric_pair *pair)
{
	pair->near->ops->free(pair->near);
	pair->far->ops->free(pair->far);
	kvt_loop_free(pair->loop);
}

static void wire(const char *arguments)
{
	g_autofree char *line = g_strdup_printf("/bin/sh tests/rxe/wire.sh %s", arguments);
	int status;
	g_assert_true(g_spawn_command_line_sync(line, NULL, NULL, &status, NULL));
	g_assert_cmpint(status, ==, 0);
}

static void cut(fabric_pair *pair)
{
	wire("cut");
}

static void mend(fabric_pair *pair)
{
	wire("clear");
}

static void set_link(fabric_pair *pair, bool up)
{
	wire(up ? "up 1" : "down 1");
	if (up)
		g_usleep(200000);
}

/* --- No device --- */

static void test_no_device(void)
{
	kvt_loop *loop = kvt_real_loop_new(NULL);
	GError *error = NULL;
	kvt_verbs_settings settings = { .device = "kvtier-none" };
	g_assert_null(kvt_verbs_fabric_new(loop, &settings, &error));
	g_assert_nonnull(error);
	g_assert_null(strchr(error->message, '\n'));
	g_assert_nonnull(strstr(error->message, "RDMA device"));
	g_clear_error(&error);
	settings = (kvt_verbs_settings){ .address = "127.0.0.1" };
	g_assert_null(kvt_verbs_fabric_new(loop, &settings, &error));
	g_assert_nonnull(error);
	g_clear_error(&error);
	kvt_loop_free(loop);
}

/* --- Keys --- */

static void test_quarantine(void)
{
	kvt_key_quarantine *q = kvt_key_quarantine_new(10 * KVT_SECOND, 4);
	g_assert_false(kvt_key_quarantine_has(q, 7, 0));
	kvt_key_quarantine_add(q, 7, 1 * KVT_SECOND);
	kvt_key_quarantine_add(q, 8, 2 * KVT_SECOND);
	kvt_key_quarantine_add(q, 7, 3 * KVT_SECOND);
	g_assert_true(kvt_key_quarantine_has(q, 7, 12 * KVT_SECOND));
	g_assert_false(kvt_key_quarantine_has(q, 8, 12 * KVT_SECOND));
	g_assert_false(kvt_key_quarantine_has(q, 7, 13 * KVT_SECOND));
	/* the oldest makes room */
	for (uint32_t key = 1; key <= 5; key++)
		kvt_key_quarantine_add(q, key, 20 * KVT_SECOND);
	g_assert_false(kvt_key_quarantine_has(q, 1, 20 * KVT_SECOND));
	for (uint32_t key = 2; key <= 5; key++)
		g_assert_true(kvt_key_quarantine_has(q, key, 20 * KVT_SECOND));
	kvt_key_quarantine_free(q);
}

int main(int argc, char **argv)
{
	static const fabric_kind verbs = { .name = "verbs",
		.make = make_pair,
		.free = free_pair,
		.cut = cut,
		.mend = mend,
		.link = set_link };
	static const fabric_kind verbs6 = { .name = "verbs6",
		.make = make_pair_6,
		.free = free_pair,
		.cut = cut,
		.mend = mend,
		.link = set_link };
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/verbs/no-device", test_no_device);
	g_test_add_func("/verbs/quarantine", test_quarantine);
	fabric_conformance_add(&verbs);
	if (g_getenv("RXE_IP6_1"))
		fabric_conformance_add(&verbs6);
	return g_test_run();
}
