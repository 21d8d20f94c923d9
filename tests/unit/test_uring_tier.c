/*
 * test_uring_tier.c: the conformance suite over the tier of real drives, by io_uring and by
 * threads, with helper threads and with sync; and what is real about it: bytes come back as they
 * went, also from a store that was opened again, and nothing wrong is ever served.
 */
#include "emu/uring_tier.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "emu/real_loop.h"
#include "sim/base/rng.h"
#include "tests/unit/tier_conformance.h"
#include "tests/unit/tier_test_io.h"

/* A directory that holds one store, and what it is opened with. */
typedef struct place {
	char *path;
	const char *more;
} place;

static void remove_all(const char *path)
{
	GDir *dir = g_dir_open(path, 0, NULL);
	const char *name;
	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *file = g_build_filename(path, name, NULL);
		g_unlink(file);
	}
	if (dir)
		g_dir_close(dir);
	g_rmdir(path);
}

static kvt_tier *open_at(kvt_loop *loop, const place *p, uint64_t capacity)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text =
		g_strdup_printf("[store]\npath = %s\ncapacity = %" G_GUINT64_FORMAT "B\n%s\n",
			p->path, capacity, p->more);
	g_autoptr(kvt_config) config = kvt_config_parse("store", text, &error);
	g_assert_no_error(error);
	const kvt_tier_env env = { .loop = loop };
	kvt_tier *tier = kvt_tier_open_kind(
		&kvt_tier_store, &env, kvt_config_section(config, "store"), &error);
	g_assert_no_error(error);
	return tier;
}

/* In memory where there is a place for that, or else and if `disk` where temporary files go. */
static place *place_new(const char *more, bool disk)
{
	bool memory = !disk && access("/dev/shm", W_OK) == 0;
	place *p = g_new0(place, 1);
	p->path = g_build_filename(
		memory ? "/dev/shm" : g_get_tmp_dir(), "kvtier-store-XXXXXX", NULL);
	g_assert_nonnull(g_mkdtemp(p->path));
	p->more = more;
	return p;
}

static void place_free(place *p)
{
	remove_all(p->path);
	g_free(p->path);
	g_free(p);
}

static void make(tier_under_test *t, uint64_t capacity, const char *more, bool disk)
{
	t->loop = kvt_real_loop_new(NULL);
	t->more = place_new(more, disk);
	t->tier = open_at(t->loop, t->more, capacity);
}

static void free_kind(tier_under_test *t)
{
	kvt_tier_close(t->tier);
	kvt_loop_free(t->loop);
	place_free(t->more);
}

static void make_uring(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make(t, capacity, "method = auto", true);
}

static void make_threads(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make(t, capacity, "method = threads", false);
}

static void make_helpers(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make(t, capacity, "helpers = 2\nqueue_depth = 8\nmax_transfer = 128KiB", false);
}

static void make_sync(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make(t, capacity, "sync = data", false);
}

static const tier_kind kinds[] = {
	{ "store-uring", make_uring, free_kind },
	{ "store-threads", make_threads, free_kind },
	{ "store-helpers", make_helpers, free_kind },
	{ "store-sync", make_sync, free_kind },
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
		tier_conformance_add(&kinds[i]);
	return g_test_run();
}
