/* test_store_device.c: a page store on a block device, for which a file stands: what is on it
 * before stays there unless told otherwise, its table outlives power cuts, bad sectors and kills,
 * and what the store names can be read at the device. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "emu/store/store_device.h"
#include "emu/store/store_format.h"
#include "sim/base/rng.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/store_power.h"

enum { RUNS = 20, MIB = 1 << 20, BLOCK = KVT_STORE_BLOCK };

typedef struct fixture {
	char *folder, *path;
} fixture;

static void set_up(fixture *f, gconstpointer data)
{
	f->folder = store_folder_new();
	f->path = store_device_new(f->folder);
}

static void tear_down(fixture *f, gconstpointer data)
{
	g_free(f->path);
	store_folder_free(f->folder);
}

static void put_byte(const char *path, uint64_t at, char byte)
{
	int fd = open(path, O_RDWR);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)at), ==, 1);
	close(fd);
}

/* --- Making one --- */

static gboolean create(
	const char *path, uint64_t capacity, uint64_t segment, bool overwrite, GError **error)
{
	const kvt_store_shape shape = { .capacity = capacity, .segment_bytes = segment };
	const kvt_store_settings settings = { .overwrite = overwrite };
	return kvt_store_create(path, &shape, &settings, error);
}

static void refused(const char *path, uint64_t capacity, uint64_t segment, const char *why)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *before = NULL, *after = NULL;
	gsize size;
	g_assert_true(g_file_get_contents(path, &before, &size, NULL));
	g_assert_false(create(path, capacity, segment, false, &error));
	g_assert_nonnull(error);
	if (!strstr(error->message, why))
		g_error("%s: expected %s", error->message, why);
	g_assert_true(g_file_get_contents(path, &after, &size, NULL));
	g_assert_cmpmem(before, size, after, size);
}

static void test_create(fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	static const uint64_t places[] = { 0, 1080, 65536 + 64, 5 * MIB - 1, 4 * MIB };
	for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
		put_byte(f->path, places[i], 0x53);
		refused(f->path, 0, 0, "holds something");
		put_byte(f->path, places[i], 0);
	}
	refused(f->path, 6 * MIB, 0, "has 5242880 bytes, expected");
	refused(f->path, 1000, 0, "expected room for four segments");
	g_assert_false(kvt_store_exists(f->path));
	g_assert_false(kvt_store_exists("/nowhere/at/all"));
	g_assert_null(kvt_store_open(f->path, NULL, &error));
	g_assert_nonnull(strstr(error->message, "holds no page store"));
	g_clear_error(&error);

	g_assert_true(create(f->path, 0, 64 << 10, false, &error));
	g_assert_true(kvt_store_exists(f->path));
	refused(f->path, 0, 0, "is a page store already");
	kvt_store *store = store_reopen(f->path, NULL);
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	/* all of it, but for what lies before the segments */
	g_assert_cmpuint(info.shape.capacity, >, 4 * MIB - 64 * 1024);
	g_assert_cmpuint(kvt_store_device_needs(&info.shape), <=, 5 * MIB);
	kvt_store_run run = store_run(0, 1, 0, 0, 4, 4096);
	g_assert_cmpint(store_put(store, &run, 1), ==, 0);

	/* who has it open keeps others out, also those who may overwrite it */
	g_assert_null(kvt_store_open(f->path, NULL, &error));
	g_assert_nonnull(strstr(error->message, "another process has it open"));
	g_clear_error(&error);
	g_assert_false(create(f->path, 0, 0, true, &error));
	g_assert_nonnull(strstr(error->message, "another process has it open"));
	g_clear_error(&error);
	store_close(store);

	put_byte(f->path, 300 << 10, 0x77);
	g_assert_true(create(f->path, 0, 64 << 10, true, &error));
	store = store_reopen(f->path, NULL);
	g_assert_false(kvt_store_holds(store, &run));
	store_close(store);
	g_assert_cmpint(truncate(f->path, 4 * MIB), ==, 0);
	g_assert_null(kvt_store_open(f->path, NULL, &error));
	g_assert_nonnull(strstr(error->message, "has 4194304 bytes, expected"));
}

static void test_folders(fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	g_assert_false(create(f->folder, 8 * MIB, 0, true, &error));
	g_assert_nonnull(strstr(error->message, "only devices are overwritten"));
}

/* --- What is on it --- */

static kvt_store_run run_of(unsigned i)
{
	return store_run(i % 2, i, i % 3, i, 1 + i % 5, i % 2 ? 4096 : 5000);
}

static void fill(const char *path)
{
	kvt_store *store = store_make(path, 2 * MIB, KVT_STORE_SYNC_DATA, NULL);
	for (unsigned i = 0; i < RUNS; i++) {
		kvt_store_run run = run_of(i);
		g_assert_cmpint(store_put(store, &run, 1), ==, 0);
		g_assert_cmpint(store_put(store, &run, 2), ==, 0);
	}
	store_close(store);
}

static void count_notice(void *arg, const char *line)
{
	(*(unsigned *)arg)++;
}

/* Opens it and returns how many runs are there, all of them whole and of the newest version. */
static unsigned verify(const char *path, unsigned *notices)
{
	kvt_store_settings settings = { .notice = count_notice, .arg = notices };
	kvt_store *store = store_reopen(path, &settings);
	unsigned there = 0;
	for (unsigned i = 0; i < RUNS; i++) {
		kvt_store_run run = run_of(i);
		if (!kvt_store_holds(store, &run))
			continue;
		store_expect(store, &run, 2);
		there++;
	}
	kvt_store_run more = store_run(9, 9, 0, 0, 3, 4096);
	g_assert_cmpint(store_put(store, &more, 1), ==, 0);
	store_expect(store, &more, 1);
	store_close(store);
	return there;
}

/* What others read at the descriptor and offset that the store names. */
static void test_pieces(fixture *f, gconstpointer data)
{
	fill(f->path);
	kvt_store *store = store_reopen(f->path, NULL);
	for (unsigned i = 1; i < RUNS; i += 2) {
		kvt_store_run run = run_of(i);
		kvt_store_piece piece;
		unsigned n;
		uint8_t page[4096];
		g_assert_cmpint(kvt_store_find(store, &run, &piece, 1, &n), ==, 0);
		int fd = open(f->path, O_RDONLY);
		for (uint64_t p = 0; p < piece.n_pages; p++) {
			off_t at = (off_t)(piece.offset + p * 4096);
			g_assert_cmpint(pread(piece.fd, page, 4096, at), ==, 4096);
			g_assert_cmpint(store_version(&run, piece.first_page + p, page), ==, 2);
			g_assert_cmpint(pread(fd, page, 4096, at), ==, 4096);
			g_assert_cmpint(store_version(&run, piece.first_page + p, page), ==, 2);
		}
		close(fd);
		kvt_store_release(store, &piece, n);
	}
	store_close(store);
}

/* Everything before the segments is there twice at least. */
static void test_bad_blocks(fixture *f, gconstpointer data)
{
	fill(f->path);
	g_autofree char *sound = NULL;
	gsize size;
	g_assert_true(g_file_get_contents(f->path, &sound, &size, NULL));
	for (uint64_t at = 0; at < MIB; at += BLOCK) {
		unsigned notices = 0;
		uint8_t noise[BLOCK];
		memset(noise, 0x5a, sizeof(noise));
		g_assert_true(g_file_set_contents(f->path, sound, (gssize)size, NULL));
		int fd = open(f->path, O_RDWR);
		g_assert_cmpint(pwrite(fd, noise, BLOCK, (off_t)at), ==, BLOCK);
		close(fd);
		g_assert_cmpuint(verify(f->path, &notices), ==, RUNS);
	}
}

static void test_table_lost(fixture *f, gconstpointer data)
{
	fill(f->path);
	unsigned notices = 0;
	for (uint64_t at = 16 << 10; at < 32 << 10; at += BLOCK)
		store_flip(f->path, at + 100, 1);
	g_assert_cmpuint(verify(f->path, &notices), ==, 0);
	g_assert_cmpuint(notices, ==, 2);
	g_assert_cmpuint(verify(f->path, &notices), ==, 0);
	g_assert_cmpuint(notices, ==, 2);
}

/* Evicted segments make room on it, again and again, for what is written next. */
static void test_reuse(fixture *f, gconstpointer data)
{
	kvt_store_settings settings = { .evict = true };
	kvt_store *store = store_make(f->path, MIB, KVT_STORE_SYNC_NONE, &settings);
	for (unsigned i = 0; i < 400; i++) {
		kvt_store_run run = store_run(0, i, 0, 0, 3, 4096);
		g_assert_cmpint(store_put(store, &run, i + 1), ==, 0);
		store_expect(store, &run, i + 1);
	}
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.evicted_segments, >, 50);
	g_assert_cmpuint(info.used, <=, MIB);
	kvt_store_drop(store);
	store = store_reopen(f->path, &settings);
	unsigned there = 0;
	for (unsigned i = 0; i < 400; i++) {
		kvt_store_run run = store_run(0, i, 0, 0, 3, 4096);
		if (kvt_store_holds(store, &run))
			store_expect(store, &run, i + 1);
		there += kvt_store_holds(store, &run);
	}
	g_assert_cmpuint(there, >, 30);
	store_close(store);
}

/* Without eviction it is full at its capacity, and says so beforehand. */
static void test_full(fixture *f, gconstpointer data)
{
	kvt_store *store = store_make(f->path, MIB, KVT_STORE_SYNC_NONE, NULL);
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	uint64_t promised = info.free, taken = 0;
	int status = 0;
	for (unsigned i = 0; status == 0; i++) {
		kvt_store_run run = store_run(0, i, 0, 0, 3, 4096);
		status = store_put(store, &run, 1);
		taken += status == 0 ? kvt_store_run_cost(&run) : 0;
	}
	g_assert_cmpint(status, ==, -ENOSPC);
	g_assert_cmpuint(taken, >, promised / 3 * 2);
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.used, <=, MIB);
	g_assert_cmpuint(info.free, <, 64 << 10);
	store_close(store);
}

/* --- The table --- */

/* Many places, so that a table is many sectors. */
static const kvt_store_shape many = {
	.capacity = 4 * MIB, .segment_bytes = BLOCK, .sync = KVT_STORE_SYNC_DATA, .key = 5
};

static void add_name(void *arg, const char *name)
{
	g_ptr_array_add(arg, g_strdup(name));
}

static int compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names and sizes that there are, as text. */
static char *state_of(kvt_store_device *device)
{
	const kvt_store_io *io = kvt_store_device_io(device);
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	GString *state = g_string_new(NULL);
	io->list(io->arg, -1, add_name, names);
	g_ptr_array_sort(names, compare_names);
	g_ptr_array_add(names, g_strdup("journal"));
	for (guint i = 0; i < names->len; i++) {
		const char *name = g_ptr_array_index(names, i);
		int fd = io->open(io->arg, -1, name, O_RDONLY, 0);
		bool journal = i + 1 == names->len;
		if (fd >= 0)
			g_string_append_printf(state, "%s %" G_GUINT64_FORMAT "\n", name,
				journal ? io->base(io->arg, fd) : (uint64_t)io->size(io->arg, fd));
		if (fd >= 0)
			io->close(io->arg, fd);
	}
	return g_string_free(state, FALSE);
}

/* What a device looked like after each change, and from which call of the log on. */
typedef struct moment {
	char *state;
	unsigned begun; /* calls before the change began */
	unsigned safe;  /* calls from which on it is durable, or UINT_MAX */
} moment;

/* One change; whether it and all before it are durable then. */
static bool change(const kvt_store_io *io, GArray *numbers, uint64_t *next, kvt_rng *rng)
{
	uint64_t kind = kvt_rng_below(rng, 10);
	bool any = numbers->len > 0;
	guint at = any ? (guint)kvt_rng_below(rng, numbers->len) : 0;
	uint64_t number = any ? g_array_index(numbers, uint64_t, at) : 0;
	g_autofree char *name = g_strdup_printf("%016" G_GINT64_MODIFIER "x.segment", number);
	if (kind == 0) {
		g_assert_cmpint(io->sync_dir(io->arg, -1), ==, 0);
		return true;
	}
	if (kind == 1) {
		g_assert_cmpint(io->rename(io->arg, -1, "journal.new", "journal"), ==, 0);
		return true;
	}
	if (kind == 2 && any) {
		g_assert_cmpint(io->unlink(io->arg, -1, name), ==, 0);
		g_array_remove_index_fast(numbers, at);
		return false;
	}
	bool add = kind > 4 || !any;
	if (add) {
		g_free(name);
		number = (*next)++;
		g_array_append_val(numbers, number);
		name = g_strdup_printf("%016" G_GINT64_MODIFIER "x.segment", number);
	}
	int fd = io->open(io->arg, -1, name, O_RDWR | (add ? O_CREAT | O_EXCL : 0), 0600);
	g_assert_cmpint(fd, >=, 0);
	uint64_t size = 1 + kvt_rng_below(rng, BLOCK);
	bool durable = kind % 2 == 0 && size != (uint64_t)io->size(io->arg, fd);
	int status =
		kind % 2 == 0 ? io->allocate(io->arg, fd, size) : io->truncate(io->arg, fd, size);
	g_assert_cmpint(status, ==, 0);
	io->close(io->arg, fd);
	return durable;
}

static GArray *live(store_power *power, const char *path, unsigned steps)
{
	GArray *moments = g_array_new(FALSE, FALSE, sizeof(moment)), *numbers;
	kvt_rng rng = kvt_rng_init(3, 3);
	kvt_store_device *device;
	uint64_t next = 1;
	numbers = g_array_new(FALSE, FALSE, sizeof(next));
	g_assert_cmpint(kvt_store_device_open(path, store_power_io(power), false, &device), ==, 0);
	g_assert_cmpint(kvt_store_device_format(device, &many), ==, 0);
	unsigned length = store_power_length(power);
	moment first = { state_of(device), 0, length };
	g_array_append_val(moments, first);
	for (unsigned i = 0; i < steps; i++) {
		moment m = { .begun = store_power_length(power), .safe = UINT_MAX };
		bool durable = change(kvt_store_device_io(device), numbers, &next, &rng);
		if (durable)
			m.safe = store_power_length(power);
		m.state = state_of(device);
		g_array_append_val(moments, m);
	}
	kvt_store_device_free(device);
	g_array_unref(numbers);
	return moments;
}

static void test_table_power(fixture *f, gconstpointer data)
{
	enum { STEPS = 250, CUTS = 500 };
	store_power *power = store_power_new();
	GArray *moments = live(power, f->path, STEPS);
	kvt_rng rng = kvt_rng_init(8, 8);
	unsigned made = g_array_index(moments, moment, 0).safe, length = store_power_length(power);
	for (unsigned i = 0; i < CUTS; i++) {
		unsigned n = made + i * (length - made) / (CUTS - 1), last = 0;
		char *after = store_folder_new();
		g_autofree char *path = g_build_filename(after, "device", NULL);
		store_power_cut(power, n, &rng, after);
		kvt_store_device *device;
		g_assert_cmpint(
			kvt_store_device_open(path, &kvt_store_system_io, false, &device), ==, 0);
		g_assert_cmpint(kvt_store_device_attach(device, &many), ==, 0);
		g_autofree char *state = state_of(device);
		for (guint k = 0; k < moments->len; k++)
			if (g_array_index(moments, moment, k).safe <= n)
				last = k;
		bool found = false;
		for (guint k = last; k < moments->len && !found; k++) {
			const moment *m = &g_array_index(moments, moment, k);
			found = m->begun <= n && strcmp(m->state, state) == 0;
		}
		g_assert_true(found);
		kvt_store_device_free(device);
		store_folder_free(after);
	}
	for (guint k = 0; k < moments->len; k++)
		g_free(g_array_index(moments, moment, k).state);
	g_array_unref(moments);
	store_power_free(power);
}

/* With sync = none every change is there for who comes next, without a sync. */
static void test_table_kill(fixture *f, gconstpointer data)
{
	kvt_rng rng = kvt_rng_init(4, 4);
	kvt_store_device *device, *next;
	kvt_store_shape shape = many;
	uint64_t number = 1;
	GArray *numbers = g_array_new(FALSE, FALSE, sizeof(number));
	shape.sync = KVT_STORE_SYNC_NONE;
	g_assert_cmpint(
		kvt_store_device_open(f->path, &kvt_store_system_io, false, &device), ==, 0);
	g_assert_cmpint(kvt_store_device_format(device, &shape), ==, 0);
	for (unsigned i = 0; i < 300; i++) {
		change(kvt_store_device_io(device), numbers, &number, &rng);
		g_assert_cmpint(
			kvt_store_device_open(f->path, &kvt_store_system_io, true, &next), ==, 0);
		g_assert_cmpint(kvt_store_device_attach(next, &shape), ==, 0);
		g_autofree char *one = state_of(device), *other = state_of(next);
		g_assert_cmpstr(one, ==, other);
		kvt_store_device_free(next);
	}
	kvt_store_device_free(device);
	g_array_unref(numbers);
}

/* Files keep to their places and lengths. */
static void test_bounds(fixture *f, gconstpointer data)
{
	kvt_store_device *device;
	uint8_t block[BLOCK] = { 1 };
	g_assert_cmpint(
		kvt_store_device_open(f->path, &kvt_store_system_io, false, &device), ==, 0);
	g_assert_cmpint(kvt_store_device_format(device, &many), ==, 0);
	const kvt_store_io *io = kvt_store_device_io(device);
	const char *name = "0000000000000007.segment";
	g_assert_cmpint(io->open(io->arg, -1, name, O_RDWR, 0), ==, -ENOENT);
	g_assert_cmpint(io->open(io->arg, -1, "journal", O_RDWR, 0), ==, -ENOENT);
	int fd = io->open(io->arg, -1, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(io->open(io->arg, -1, name, O_RDWR | O_CREAT | O_EXCL, 0600), ==, -EEXIST);
	g_assert_cmpint(io->allocate(io->arg, fd, BLOCK + 1), ==, -EFBIG);
	g_assert_cmpint(io->allocate(io->arg, fd, 100), ==, 0);
	g_assert_cmpint(io->write(io->arg, fd, block, BLOCK, 0), ==, BLOCK);
	g_assert_cmpint(io->write(io->arg, fd, block, BLOCK, 1), ==, -ENOSPC);
	g_assert_cmpint(io->read(io->arg, fd, block, BLOCK, 0), ==, 100);
	g_assert_cmpint(io->read(io->arg, fd, block, BLOCK, 100), ==, 0);
	io->close(io->arg, fd);
	kvt_store_device_free(device);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name, function)                                                                        \
	g_test_add("/store_device/" name, fixture, NULL, set_up, function, tear_down)
	ADD("create", test_create);
	ADD("folders", test_folders);
	ADD("pieces", test_pieces);
	ADD("bad_blocks", test_bad_blocks);
	ADD("table_lost", test_table_lost);
	ADD("reuse", test_reuse);
	ADD("full", test_full);
	ADD("table_power", test_table_power);
	ADD("table_kill", test_table_kill);
	ADD("bounds", test_bounds);
	return g_test_run();
}
