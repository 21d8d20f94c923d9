/*
 * test_remote_faults.c: the remote tier when something is wrong with its node, with what is between
 * them, with memory, or with the bytes: every I/O ends, with a cause that is counted; nothing wrong
 * is served; and what can be had again later is.
 */
#include <errno.h>
#include <string.h>

#include "emu/loop/real_loop.h"
#include "tests/unit/remote_fixture.h"

enum { PAGE = 4096, IOS = 40 };

static const kvt_extent RUN = { 1, 2, 0, 64, PAGE };

typedef struct fixture {
	remote_rig rig;
	uint8_t *memory; /* of RUN, registered */
} fixture;

static kvt_remote_counts counts_of(const fixture *f)
{
	return kvt_remote_tier_counts(f->rig.tier);
}

static int move(fixture *f, kvt_io_op op, kvt_extent run)
{
	return remote_rig_move(&f->rig, op, 0, &run, f->memory);
}

/* Writes the run as of that version. */
static void put(fixture *f, unsigned version)
{
	remote_fill(0, &RUN, version, f->memory);
	g_assert_cmpint(move(f, KVT_IO_WRITE, RUN), ==, 0);
}

static void expect(fixture *f, unsigned version)
{
	memset(f->memory, 0, kvt_extent_bytes(&RUN));
	g_assert_cmpint(move(f, KVT_IO_READ, RUN), ==, 0);
	g_assert_true(remote_is(0, &RUN, version, f->memory));
}

static void set_up(fixture *f, gconstpointer store)
{
	node_setup setup = remote_setup(store != NULL);
	remote_rig_init_hasty(&f->rig, &setup);
	remote_rig_open(&f->rig);
	f->memory = g_malloc(kvt_extent_bytes(&RUN));
	g_assert_cmpint(
		f->rig.tier->ops->register_memory(f->rig.tier, f->memory, kvt_extent_bytes(&RUN)),
		==, 0);
	put(f, 1);
	expect(f, 1);
}

static void tear_down(fixture *f, gconstpointer store)
{
	remote_rig_close(&f->rig);
	g_free(f->memory);
}

/* Waits until the node is there again; the pauses are a few milliseconds. */
static void come_back(fixture *f)
{
	kvt_time end = kvt_loop_now(f->rig.host->loop) + 20 * KVT_SECOND;
	while (!f->rig.tier->ops->holds(f->rig.tier, 0, &RUN)) {
		g_assert_cmpint(kvt_loop_now(f->rig.host->loop), <, end);
		node_host_run(f->rig.host, KVT_MILLISECOND);
	}
}

/* --- Connections --- */

typedef struct crowd {
	test_io ios[IOS];
	kvt_extent runs[IOS];
	unsigned ended, failed;
} crowd;

static void count_end(test_io *io)
{
	crowd *c = io->hook_arg;
	c->ended++;
	c->failed += io->io.status != 0;
}

/* Reads and writes without memory, all at once. */
static void submit_crowd(fixture *f, crowd *c)
{
	*c = (crowd){ 0 };
	for (unsigned i = 0; i < IOS; i++) {
		kvt_extent run = RUN;
		run.layer += i % 2 ? 0 : i + 1;
		c->runs[i] = run;
		test_io_init(&c->ios[i], i % 2 ? KVT_IO_READ : KVT_IO_WRITE, run);
		c->ios[i].hook = count_end;
		c->ios[i].hook_arg = c;
		test_io_submit(f->rig.tier, &c->ios[i]);
	}
}

/* All of them end, with -EIO where they fail, within the time that the settings allow. */
static void end_crowd(fixture *f, crowd *c)
{
	kvt_time begin = kvt_loop_now(f->rig.host->loop);
	kvt_loop_run(f->rig.host->loop);
	g_assert_cmpuint(c->ended, ==, IOS);
	g_assert_cmpuint(c->failed, >, 0);
	for (unsigned i = 0; i < IOS; i++) {
		g_assert_cmpuint(c->ios[i].done, ==, 1);
		g_assert_true(c->ios[i].io.status == 0 || c->ios[i].io.status == -EIO);
	}
	g_assert_cmpint(kvt_loop_now(f->rig.host->loop) - begin, <, 20 * KVT_SECOND);
}

static void test_cut(fixture *f, gconstpointer data)
{
	crowd c;
	for (unsigned i = 0; i < 3; i++) {
		submit_crowd(f, &c);
		memory_fabric_cut(f->rig.host->far, true);
		end_crowd(f, &c);
		g_assert_cmpuint(c.failed, ==, IOS);
		g_assert_false(kvt_remote_tier_up(f->rig.tier));
		g_assert_false(f->rig.tier->ops->holds(f->rig.tier, 0, &RUN));
		/* nobody is asked who cannot be reached */
		g_assert_cmpint(move(f, KVT_IO_READ, RUN), ==, -EIO);
		memory_fabric_cut(f->rig.host->far, false);
		come_back(f);
		expect(f, 1);
	}
	kvt_remote_counts counts = counts_of(f);
	g_assert_cmpuint(counts.connects, ==, 4);
	g_assert_cmpuint(
		counts.losses[KVT_REMOTE_LOSS_TIMED_OUT] + counts.losses[KVT_REMOTE_LOSS_SILENT],
		==, 3);
	g_assert_cmpuint(counts.failures[KVT_REMOTE_FAILURE_LOST], ==, 3 * IOS);
	g_assert_cmpuint(counts.failures[KVT_REMOTE_FAILURE_DOWN], >=, 3);
	g_assert_nonnull(strstr(f->rig.tier->ops->notice(f->rig.tier), "10.0.0.2"));
}

/* The node's process is stopped: its device goes on, and it says nothing. */
static void test_stopped(fixture *f, gconstpointer data)
{
	crowd c;
	submit_crowd(f, &c);
	memory_fabric_stop(f->rig.host->far, true);
	end_crowd(f, &c);
	g_assert_cmpuint(counts_of(f).losses[KVT_REMOTE_LOSS_SILENT], ==, 1);
	memory_fabric_stop(f->rig.host->far, false);
	come_back(f);
	expect(f, 1);
}

/* What was discarded while the node could not be told does not come back. */
static void test_discarded_meanwhile(fixture *f, gconstpointer data)
{
	kvt_extent half = RUN, rest = RUN;
	half.n_pages = rest.n_pages /= 2;
	rest.first_page += half.n_pages;
	memory_fabric_cut(f->rig.host->far, true);
	g_assert_cmpuint(
		f->rig.tier->ops->discard(f->rig.tier, 0, &half), ==, kvt_extent_bytes(&half));
	g_assert_cmpint(move(f, KVT_IO_READ, rest), ==, -EIO);
	memory_fabric_cut(f->rig.host->far, false);
	while (!f->rig.tier->ops->holds(f->rig.tier, 0, &rest))
		node_host_run(f->rig.host, KVT_MILLISECOND);
	g_assert_cmpint(move(f, KVT_IO_READ, half), ==, -ENOENT);
	g_assert_cmpint(move(f, KVT_IO_READ, rest), ==, 0);
	kvt_tier_close(f->rig.tier);
	remote_rig_open(&f->rig);
	g_assert_false(f->rig.tier->ops->holds(f->rig.tier, 0, &half));
	g_assert_true(f->rig.tier->ops->holds(f->rig.tier, 0, &rest));
}

static void test_close_early(fixture *f, gconstpointer data)
{
	crowd c;
	submit_crowd(f, &c);
	kvt_tier_close(f->rig.tier);
	g_assert_cmpuint(c.ended, ==, 0);
	remote_rig_open(&f->rig);
	f->rig.tier->ops->register_memory(f->rig.tier, f->memory, kvt_extent_bytes(&RUN));
	expect(f, 1);
}

/* --- Bytes --- */

static void test_flipped(fixture *f, gconstpointer data)
{
	kvt_extent page = RUN;
	page.n_pages = 1;
	for (unsigned i = 0; i < 5; i++, page.first_page += 3) {
		memory_wire_flip(f->rig.host->wire, 1);
		g_assert_cmpint(move(f, KVT_IO_READ, page), ==, -EBADMSG);
		memory_wire_flip(f->rig.host->wire, 0);
		g_assert_cmpint(move(f, KVT_IO_READ, page), ==, -ENOENT);
		g_assert_false(f->rig.tier->ops->holds(f->rig.tier, 0, &page));
		kvt_extent next = page;
		next.first_page++;
		g_assert_cmpint(move(f, KVT_IO_READ, next), ==, 0);
		g_assert_true(remote_is(0, &next, 1, f->memory));
	}
	g_assert_cmpuint(counts_of(f).bad_pages, ==, 5);
	g_assert_cmpuint(counts_of(f).failures[KVT_REMOTE_FAILURE_CHECKSUM], ==, 5);
	put(f, 2);
	expect(f, 2);
	/* what is not what it was when it arrives is not stored, nor what it was to replace read */
	memory_wire_flip(f->rig.host->wire, 1);
	remote_fill(0, &RUN, 3, f->memory);
	g_assert_cmpint(move(f, KVT_IO_WRITE, RUN), ==, -EIO);
	memory_wire_flip(f->rig.host->wire, 0);
	g_assert_cmpint(move(f, KVT_IO_READ, RUN), ==, -ENOENT);
	put(f, 4);
	expect(f, 4);
}

/* --- Everything at once --- */

enum { READS = 10000, MOST = 8 };

static void mend(void *arg)
{
	fixture *f = arg;
	memory_fabric_cut(f->rig.host->far, false);
	memory_fabric_stop(f->rig.host->far, false);
}

/* Now and then the wire is cut or the node stopped, for a while. */
static void disturb(fixture *f, kvt_rng *rng)
{
	if (kvt_rng_below(rng, 2))
		memory_fabric_cut(f->rig.host->far, true);
	else
		memory_fabric_stop(f->rig.host->far, true);
	kvt_loop_after(f->rig.host->loop, kvt_rng_below(rng, 400) * KVT_MILLISECOND, mend, f);
}

/* What cannot be read is made again, as who reads for an engine would. */
static void test_random(fixture *f, gconstpointer data)
{
	kvt_rng rng = kvt_rng_init(4, 4);
	unsigned failed[3] = { 0 }, good = 0;
	for (unsigned i = 0; i < READS; i++) {
		kvt_extent run = RUN;
		run.first_page = kvt_rng_below(&rng, RUN.n_pages);
		run.n_pages = 1 + kvt_rng_below(&rng, MIN(MOST, RUN.n_pages - run.first_page));
		memory_wire_flip(f->rig.host->wire, i % 100 == 0 ? 1 : 0);
		if (i % 1000 == 500)
			disturb(f, &rng);
		memset(f->memory, 0, kvt_extent_bytes(&run));
		int status = move(f, KVT_IO_READ, run);
		memory_wire_flip(f->rig.host->wire, 0);
		if (status == 0) {
			g_assert_true(remote_is(0, &run, 1, f->memory));
			good++;
			continue;
		}
		g_assert_true(status == -EIO || status == -EBADMSG || status == -ENOENT);
		failed[status == -EIO ? 0 : status == -EBADMSG ? 1 : 2]++;
		while (!f->rig.tier->ops->holds(f->rig.tier, 0, &RUN)) {
			remote_fill(0, &RUN, 1, f->memory);
			if (move(f, KVT_IO_WRITE, RUN) != 0)
				node_host_run(f->rig.host, KVT_MILLISECOND);
		}
	}
	g_test_message("%u good, %u lost, %u wrong and noticed, %u gone", good, failed[0],
		failed[1], failed[2]);
	g_assert_cmpuint(good, >, READS * 9 / 10);
	g_assert_cmpuint(failed[0], >=, 2);
	g_assert_cmpuint(failed[1], >=, 20);
}

/* Pages that another client has discarded are misses, and known to be. */
static void test_gone(fixture *f, gconstpointer data)
{
	kvt_extent page = RUN;
	page.first_page = 5;
	page.n_pages = 1;
	kvt_tier *first = f->rig.tier;
	remote_rig_open(&f->rig);
	g_assert_cmpuint(f->rig.tier->ops->discard(f->rig.tier, 0, &page), ==, PAGE);
	/* until then the first may read what it was leased */
	node_host_run(f->rig.host, 2 * f->rig.host->setup.settings.lease);
	kvt_tier_close(f->rig.tier);
	f->rig.tier = first;
	g_assert_true(first->ops->holds(first, 0, &page));
	g_assert_cmpint(move(f, KVT_IO_READ, page), ==, -ENOENT);
	g_assert_false(first->ops->holds(first, 0, &page));
	g_assert_cmpuint(counts_of(f).lost_pages, ==, 1);
	g_assert_cmpuint(counts_of(f).failures[KVT_REMOTE_FAILURE_GONE], ==, 1);
}

/* --- Memory --- */

static void test_no_memory(fixture *f, gconstpointer data)
{
	kvt_extent run = RUN;
	uint64_t bytes = kvt_extent_bytes(&run);
	g_autofree uint8_t *other = g_malloc(bytes);
	memory_fabric_limit_regions(f->rig.host->near, 0);
	g_assert_cmpint(f->rig.tier->ops->register_memory(f->rig.tier, other, bytes), ==, -ENOMEM);
	/* memory that is known already is enough; for other pages there is no way */
	expect(f, 1);
	g_assert_cmpint(remote_rig_move(&f->rig, KVT_IO_READ, 0, &run, other), ==, -EIO);
	g_assert_cmpint(remote_rig_move(&f->rig, KVT_IO_WRITE, 0, &run, other), ==, -EIO);
	g_assert_cmpuint(counts_of(f).failures[KVT_REMOTE_FAILURE_MEMORY], ==, 2);
	memory_fabric_limit_regions(f->rig.host->near, UINT_MAX);
	g_assert_cmpint(remote_rig_move(&f->rig, KVT_IO_READ, 0, &run, other), ==, 0);
	g_assert_true(remote_is(0, &run, 1, other));
}

/* --- Being refused --- */

static void test_refused(void)
{
	remote_rig r;
	node_setup setup = remote_setup(false);
	g_autofree char *stranger = NULL, *key = NULL, *nobody = NULL, *way = NULL;
	remote_rig_init_hasty(&r, &setup);
	r.tenants[0].number = 99;
	stranger = remote_rig_refused(&r);
	g_assert_nonnull(strstr(stranger, "no such tenant"));
	r.tenants[0].number = 0;
	r.tenants[0].key[3] ^= 1;
	key = remote_rig_refused(&r);
	g_assert_nonnull(strstr(key, "key is not the node's"));
	r.tenants[0].key[3] ^= 1;
	r.settings.port++;
	nobody = remote_rig_refused(&r);
	g_assert_nonnull(strstr(nobody, "nobody listens"));
	r.settings.port--;
	r.settings.address = "10.0.0.77";
	way = remote_rig_refused(&r);
	g_assert_nonnull(strstr(way, "cannot be reached"));
	/* a tenant that is refused later is a tenant without pages */
	r.settings.address = "10.0.0.2";
	r.tenants[1].key[0] ^= 1;
	remote_rig_open(&r);
	g_assert_cmpint(remote_rig_move(&r, KVT_IO_WRITE, 1, &RUN, NULL), ==, -EIO);
	g_assert_cmpint(remote_rig_move(&r, KVT_IO_READ, 7, &RUN, NULL), ==, -ENOENT);
	g_assert_cmpint(remote_rig_move(&r, KVT_IO_WRITE, 0, &RUN, NULL), ==, 0);
	kvt_remote_counts counts = kvt_remote_tier_counts(r.tier);
	g_assert_cmpuint(counts.losses[KVT_REMOTE_LOSS_REFUSED], ==, 1);
	remote_rig_close(&r);
}

/* A node that need not be there is sought when it is wanted. */
static void test_down_at_first(void)
{
	remote_rig r;
	node_setup setup = remote_setup(false);
	remote_rig_init_hasty(&r, &setup);
	r.settings.may_be_down = true;
	memory_fabric_cut(r.host->far, true);
	remote_rig_open(&r);
	g_assert_false(kvt_remote_tier_up(r.tier));
	g_assert_cmpint(remote_rig_move(&r, KVT_IO_WRITE, 0, &RUN, NULL), ==, -EIO);
	memory_fabric_cut(r.host->far, false);
	kvt_time end = kvt_loop_now(r.host->loop) + 20 * KVT_SECOND;
	while (!kvt_remote_tier_up(r.tier) && kvt_loop_now(r.host->loop) < end) {
		r.tier->ops->holds(r.tier, 0, &RUN);
		node_host_run(r.host, KVT_MILLISECOND);
	}
	g_assert_cmpint(remote_rig_move(&r, KVT_IO_WRITE, 0, &RUN, NULL), ==, 0);
	remote_rig_close(&r);
}

/* --- A node that is none --- */

typedef struct impostor {
	remote_rig rig;
	kvt_fabric *fabric;
	kvt_fabric_domain *domain;
	kvt_connection *connection;
	kvt_fabric_listener *listener;
	const char *way;
	unsigned asked;
} impostor;

static void say(impostor *i, const void *bytes, size_t length)
{
	kvt_transfer transfer = {
		.op = KVT_TRANSFER_MESSAGE, .memory = (void *)bytes, .length = length
	};
	i->fabric->ops->submit(i->connection, &transfer);
}

/* Says that there are pages, and answers a question about them with nonsense. */
static void on_message(
	void *arg, kvt_connection *connection, int queue, const void *bytes, size_t length)
{
	impostor *i = arg;
	g_autofree kvt_remote_reader *reader = g_new(kvt_remote_reader, 1);
	kvt_remote_record record, answer = { 0 };
	uint8_t out[KVT_REMOTE_MESSAGE];
	kvt_remote_reader_init(reader, bytes, length);
	g_assert_cmpint(kvt_remote_next(reader, &record), ==, 1);
	answer.id = record.id;
	if (record.type == KVT_REMOTE_LIST) {
		answer.type = KVT_REMOTE_LISTED;
		answer.n = 1;
		answer.runs = &RUN;
		say(i, out, kvt_remote_encode(&answer, out));
		return;
	}
	i->asked++;
	if (g_str_equal(i->way, "killed")) {
		memory_fabric_kill(i->fabric);
		return;
	}
	const kvt_remote_piece piece = { .address = 1, .key = 5, .n_pages = 64, .lease = 1 };
	const uint64_t checksums[65] = { 0 };
	answer.type = KVT_REMOTE_FETCHED;
	answer.n = 1;
	answer.pieces = &piece;
	answer.n_checksums = 64;
	answer.checksums = checksums;
	size_t size = kvt_remote_encode(&answer, out);
	if (g_str_equal(i->way, "another"))
		out[8] ^= 1;
	if (g_str_equal(i->way, "rubbish"))
		memset(out, 0xa5, size);
	if (g_str_equal(i->way, "cut"))
		size -= 8;
	say(i, out, size);
}

static void on_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
}

static void on_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	impostor *i = arg;
	i->fabric->ops->connection_free(connection);
	i->connection = NULL;
}

static void on_asked(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes)
{
	static const kvt_connection_handlers handlers = { on_up, on_message, on_down };
	impostor *i = arg;
	uint8_t out[KVT_FABRIC_WELCOME];
	const kvt_remote_welcome welcome = { KVT_REMOTE_VERSION, 1000, 1 << 30, 0, 4 << 20 };
	size_t size = kvt_remote_welcome_encode(&welcome, out);
	if (g_str_equal(i->way, "version")) {
		size = kvt_remote_refusal_encode(KVT_REMOTE_OTHER_VERSION, out);
		out[4] = 9;
		i->fabric->ops->refuse(request, out, size);
		return;
	}
	i->connection = i->fabric->ops->accept(request, i->domain, NULL, out, size, &handlers, i);
}

/* Whatever it says, the read ends; a key that opens nothing, too. */
static void test_impostor(gconstpointer way)
{
	impostor i = { .way = way };
	node_setup setup = remote_setup(false);
	remote_rig_init_hasty(&i.rig, &setup);
	i.fabric = memory_fabric_new(i.rig.host->wire, "10.0.0.66", NULL);
	i.domain = i.fabric->ops->domain_new(i.fabric, NULL);
	i.listener = i.fabric->ops->listen(i.fabric, "10.0.0.66", 99, on_asked, &i, NULL);
	i.rig.settings.address = "10.0.0.66";
	i.rig.settings.port = 99;
	if (g_str_equal(way, "version")) {
		g_autofree char *text = remote_rig_refused(&i.rig);
		g_assert_nonnull(strstr(text, "the node speaks version 9 of the protocol"));
	} else {
		remote_rig_open(&i.rig);
		g_assert_true(i.rig.tier->ops->holds(i.rig.tier, 0, &RUN));
		g_assert_cmpint(remote_rig_move(&i.rig, KVT_IO_READ, 0, &RUN, NULL), ==, -EIO);
		g_assert_cmpuint(i.asked, ==, 1);
		node_host_run(i.rig.host, KVT_MILLISECOND);
		kvt_remote_counts counts = kvt_remote_tier_counts(i.rig.tier);
		kvt_remote_loss loss = g_str_equal(way, "key")      ? KVT_REMOTE_LOSS_DENIED
				       : g_str_equal(way, "killed") ? KVT_REMOTE_LOSS_RESET
								    : KVT_REMOTE_LOSS_PROTOCOL;
		g_assert_cmpuint(counts.losses[loss], ==, 1);
	}
	if (i.rig.tier)
		kvt_tier_close(i.rig.tier);
	i.rig.tier = NULL;
	node_host_run(i.rig.host, 10 * KVT_MILLISECOND);
	if (i.connection)
		i.fabric->ops->connection_free(i.connection);
	i.fabric->ops->listener_free(i.listener);
	i.fabric->ops->domain_free(i.domain);
	i.fabric->ops->free(i.fabric);
	remote_rig_close(&i.rig);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(fixture *f, gconstpointer data);
	} tests[] = {
		{ "cut", test_cut },
		{ "stopped", test_stopped },
		{ "discarded-meanwhile", test_discarded_meanwhile },
		{ "close-early", test_close_early },
		{ "flipped", test_flipped },
		{ "gone", test_gone },
		{ "random", test_random },
		{ "no-memory", test_no_memory },
	};
	static const char *const ways[] = { "version", "rubbish", "cut", "another", "key",
		"killed" };
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
		g_autofree char *path = g_strconcat("/remote-faults/", tests[i].name, NULL);
		g_test_add(path, fixture, NULL, set_up, tests[i].run, tear_down);
	}
	g_test_add_func("/remote-faults/refused", test_refused);
	g_test_add_func("/remote-faults/down-at-first", test_down_at_first);
	for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++) {
		g_autofree char *path = g_strconcat("/remote-faults/impostor/", ways[i], NULL);
		g_test_add_data_func(path, ways[i], test_impostor);
	}
	return g_test_run();
}
