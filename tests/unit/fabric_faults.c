/*
 * fabric_faults.c: memory that may not be touched, keys, ends in mid-transfer, and a wire that
 * fails: every transfer ends once, with a reason, and what failed can be had again.
 */
#include "tests/unit/fabric_faults.h"

#include <errno.h>
#include <string.h>

#include "emu/loop/real_loop.h"

enum {
	MOST = 1500,
	REGION = 64 << 10,
	WAITING = 1000, /* far more than queues take while a fault is being made */
};

/* --- Keys --- */

typedef enum wrong_way {
	RIGHT, /* which shows that the others are refused for their own reason */
	WRONG_KEY,
	PAST_END,
	BEFORE_BEGIN,
	OTHER_DOMAIN,
	READ_ONLY,
	WRITE_ONLY,
	LOCAL_ONLY,
	CLOSED,
	WAYS,
} wrong_way;

/* What far registers, and whether near's operation must fail. */
typedef struct attempt {
	wrong_way way;
	kvt_transfer_op op;
	kvt_fabric_access access;
	bool fails;
} attempt;

static const attempt attempts[] = {
	{ RIGHT, KVT_TRANSFER_READ, KVT_FABRIC_REMOTE_READ, false },
	{ RIGHT, KVT_TRANSFER_WRITE, KVT_FABRIC_REMOTE_WRITE, false },
	{ WRONG_KEY, KVT_TRANSFER_READ, KVT_FABRIC_REMOTE_BOTH, true },
	{ WRONG_KEY, KVT_TRANSFER_WRITE, KVT_FABRIC_REMOTE_BOTH, true },
	{ PAST_END, KVT_TRANSFER_READ, KVT_FABRIC_REMOTE_BOTH, true },
	{ PAST_END, KVT_TRANSFER_WRITE, KVT_FABRIC_REMOTE_BOTH, true },
	{ BEFORE_BEGIN, KVT_TRANSFER_READ, KVT_FABRIC_REMOTE_BOTH, true },
	{ OTHER_DOMAIN, KVT_TRANSFER_READ, KVT_FABRIC_REMOTE_BOTH, true },
	{ OTHER_DOMAIN, KVT_TRANSFER_WRITE, KVT_FABRIC_REMOTE_BOTH, true },
	{ READ_ONLY, KVT_TRANSFER_WRITE, KVT_FABRIC_REMOTE_READ, true },
	{ WRITE_ONLY, KVT_TRANSFER_READ, KVT_FABRIC_REMOTE_WRITE, true },
	{ LOCAL_ONLY, KVT_TRANSFER_READ, KVT_FABRIC_LOCAL, true },
	{ LOCAL_ONLY, KVT_TRANSFER_WRITE, KVT_FABRIC_LOCAL, true },
	{ CLOSED, KVT_TRANSFER_READ, KVT_FABRIC_REMOTE_BOTH, true },
	{ CLOSED, KVT_TRANSFER_WRITE, KVT_FABRIC_REMOTE_BOTH, true },
};

static void aim(kvt_transfer *x, const attempt *a, const kvt_fabric_region *region)
{
	x->remote_address = region->address + 128;
	x->remote_key = region->key;
	switch (a->way) {
	case WRONG_KEY:
		x->remote_key ^= 1;
		break;
	case PAST_END:
		x->remote_address = region->address + REGION - x->length + 1;
		break;
	case BEFORE_BEGIN:
		x->remote_address = region->address - 1;
		break;
	default:
		break;
	}
}

/* Far's own memory beside what it has registered for all. */
static void try(fabric_trial *t, const attempt *a)
{
	const kvt_fabric_ops *ops = t->far.fabric->ops;
	kvt_fabric_region region;
	trial_transfer x;
	GError *error = NULL;
	uint8_t *at = t->far.memory + (1 << 20);
	g_autofree uint8_t *near = g_malloc(8192), *far = g_malloc(REGION + 8192);
	kvt_fabric_domain *other = ops->domain_new(t->far.fabric, &error);
	g_assert_no_error(error);
	trial_fill(t->near.memory, 8192, 1);
	trial_fill(at - 4096, REGION + 8192, 2);
	memcpy(near, t->near.memory, 8192);
	memcpy(far, at - 4096, REGION + 8192);
	kvt_fabric_domain *domain = a->way == OTHER_DOMAIN ? other : t->far.domain;
	g_assert_cmpint(ops->region_open(domain, at, REGION, a->access, &region), ==, 0);
	trial_open(t, 2);
	trial_make(&x, t, a->op, 0, 0, 8192);
	aim(&x.transfer, a, &region);
	if (a->way == CLOSED)
		ops->region_close(&region);
	int status = trial_do(&x);
	g_assert_cmpint(status, ==, a->fails ? -EACCES : 0);
	bool moved = memcmp(near, t->near.memory, 8192) != 0 ||
		     memcmp(far, at - 4096, REGION + 8192) != 0;
	g_assert_true(moved != a->fails);
	if (a->fails) {
		trial_run(t, trial_both_down);
		g_assert_cmpint(t->near.status, ==, -ECONNRESET);
	}
	trial_close(t);
	if (a->way != CLOSED)
		ops->region_close(&region);
	ops->domain_free(other);
}

static void test_access(gconstpointer kind)
{
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	for (unsigned i = 0; i < G_N_ELEMENTS(attempts); i++)
		try(&t, &attempts[i]);
	trial_end_all(&t);
}

/* A key that was in use does not come back soon. */
static void test_fresh_keys(gconstpointer kind)
{
	fabric_trial t;
	kvt_fabric_region region;
	if (!trial_begin(&t, kind))
		return;
	const kvt_fabric_ops *ops = t.far.fabric->ops;
	g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
	for (unsigned i = 0; i < 1000; i++) {
		int error = ops->region_open(
			t.far.domain, t.far.memory, 4096, KVT_FABRIC_REMOTE_READ, &region);
		g_assert_cmpint(error, ==, 0);
		g_assert_true(g_hash_table_add(seen, GUINT_TO_POINTER(region.key)));
		ops->region_close(&region);
	}
	trial_end_all(&t);
}

/* --- Ends in mid-transfer --- */

static trial_transfer *submit_many(fabric_trial *t, unsigned n, uint64_t bytes)
{
	trial_transfer *all = g_new0(trial_transfer, n);
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = (i * 4096) % (FABRIC_MEMORY - bytes);
		trial_make(&all[i], t,
			(kvt_transfer_op)(i % 3 == 2 && bytes <= 4096 ? KVT_TRANSFER_MESSAGE
								      : i % 2),
			at, at, bytes);
		all[i].transfer.priority = i % KVT_PRIORITY_CLASSES;
		trial_submit(&all[i]);
	}
	return all;
}

/* All ended once, some well and the others for one of these reasons; all before down. */
static unsigned check_ended(fabric_trial *t, const trial_transfer *all, unsigned n, int reason)
{
	unsigned failed = 0;
	g_assert_cmpuint(t->near.downs, ==, 1);
	for (unsigned i = 0; i < n; i++) {
		int status = all[i].transfer.status;
		g_assert_cmpuint(all[i].done, ==, 1);
		g_assert_true(status == 0 || status == -ECONNRESET || status == reason);
		failed += status != 0;
	}
	t->done = t->failed = 0;
	return failed;
}

static bool some_done(fabric_trial *t)
{
	return t->done >= 20;
}

static void test_cut_short(gconstpointer kind)
{
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	for (unsigned i = 0; i < 4; i++) {
		trial_open(&t, 1 + i);
		g_autofree trial_transfer *all = submit_many(&t, MOST, 4096);
		trial_end *end = i % 2 ? &t.far : &t.near;
		if (i >= 2)
			trial_run(&t, some_done);
		end->fabric->ops->disconnect(end->connection);
		trial_run(&t, trial_near_down);
		/* not one is done after down */
		g_assert_cmpuint(t.done, ==, MOST);
		unsigned failed = check_ended(&t, all, MOST, -ECONNRESET);
		g_assert_cmpuint(failed, >, 0);
		g_assert_true(i < 2 || failed < MOST);
		/* what comes later is done too */
		all[0].done = 0;
		g_assert_cmpint(trial_do(&all[0]), ==, -ECONNRESET);
		trial_say(&t.near, 0, "nobody", 6);
		t.done = t.failed = 0;
		trial_close(&t);
	}
	trial_end_all(&t);
}

/* Submitted from the done of one that failed. */
static void submit_once_more(kvt_transfer *transfer)
{
	trial_transfer *x = transfer->arg;
	x->trial->done++;
	g_assert_cmpuint(x->trial->near.downs, ==, 0);
	if (++x->done == 1)
		trial_submit(x);
}

static void test_after_end(gconstpointer kind)
{
	fabric_trial t;
	trial_transfer x;
	if (!trial_begin(&t, kind))
		return;
	trial_open(&t, 1);
	trial_make(&x, &t, KVT_TRANSFER_READ, 0, 0, 8 << 20);
	x.transfer.done = submit_once_more;
	trial_submit(&x);
	t.near.fabric->ops->disconnect(t.near.connection);
	trial_run(&t, trial_near_down);
	g_assert_cmpuint(x.done, ==, 2);
	g_assert_cmpint(x.transfer.status, ==, -ECONNRESET);
	t.done = 0;
	trial_end_all(&t);
}

/* --- The wire --- */

/* Every fault ends what is under way within the time of its retries; then all goes on. */
static void fail_and_mend(fabric_trial *t, void (*fail)(fabric_pair *), void (*mend)(fabric_pair *))
{
	t->settings.timeout = t->far_settings.timeout = 65 * KVT_MILLISECOND;
	t->settings.retries = 3;
	t->settings.connect_timeout = 20 * KVT_SECOND;
	for (unsigned i = 0; i < 2; i++) {
		trial_open(t, 1 + i);
		g_autofree trial_transfer *all = submit_many(t, WAITING, 256 << 10);
		trial_run(t, some_done);
		fail(&t->pair);
		trial_run(t, trial_near_down);
		g_assert_cmpuint(t->done, ==, WAITING);
		unsigned failed = 0, timed_out = 0;
		for (unsigned j = 0; j < WAITING; j++) {
			timed_out += all[j].transfer.status == -ETIMEDOUT;
			failed += all[j].transfer.status != 0;
			g_assert_cmpuint(all[j].done, ==, 1);
		}
		g_test_message("%u of %u failed, %u timed out, status %d", failed, WAITING,
			timed_out, t->near.status);
		g_assert_cmpuint(failed, >, 0);
		g_assert_true(t->near.status == -ETIMEDOUT || t->near.status == -ECONNRESET ||
			      t->near.status == -ENETUNREACH);
		t->done = t->failed = 0;
		mend(&t->pair);
		trial_close(t);
		trial_transfer x;
		trial_open(t, 1);
		trial_fill(t->far.memory, 4096, i);
		trial_make(&x, t, KVT_TRANSFER_READ, 0, 0, 4096);
		g_assert_cmpint(trial_do(&x), ==, 0);
		g_assert_true(memcmp(t->near.memory, t->far.memory, 4096) == 0);
		t->done = 0;
		trial_close(t);
	}
}

static void test_cut(gconstpointer data)
{
	const fabric_kind *kind = data;
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	if (!kind->cut) {
		g_test_skip("this wire cannot be cut");
		trial_end_all(&t);
		return;
	}
	fail_and_mend(&t, kind->cut, kind->mend);
	/* nobody answers */
	t.settings.connect_timeout = 300 * KVT_MILLISECOND;
	kind->cut(&t.pair);
	trial_connect(&t);
	kvt_time begin = kvt_loop_now(t.pair.loop);
	trial_run(&t, trial_near_down);
	g_assert_true(t.near.status == -ETIMEDOUT || t.near.status == -ENETUNREACH);
	g_test_message("after %g s: %s", (double)(kvt_loop_now(t.pair.loop) - begin) / KVT_SECOND,
		g_strerror(-t.near.status));
	kind->mend(&t.pair);
	trial_end_all(&t);
}

static void link_down(fabric_pair *pair)
{
	((fabric_trial *)((char *)pair - G_STRUCT_OFFSET(fabric_trial, pair)))
		->kind->link(pair, false);
}

static void link_up(fabric_pair *pair)
{
	((fabric_trial *)((char *)pair - G_STRUCT_OFFSET(fabric_trial, pair)))
		->kind->link(pair, true);
}

static void test_link(gconstpointer data)
{
	const fabric_kind *kind = data;
	fabric_trial t;
	if (!trial_begin(&t, kind))
		return;
	if (kind->link)
		fail_and_mend(&t, link_down, link_up);
	else
		g_test_skip("this wire has no link that goes down");
	trial_end_all(&t);
}

void fabric_faults_add(const fabric_kind *kind)
{
	static const struct {
		const char *name;
		void (*run)(gconstpointer kind);
	} tests[] = {
		{ "access", test_access },
		{ "fresh-keys", test_fresh_keys },
		{ "cut-short", test_cut_short },
		{ "after-end", test_after_end },
		{ "cut", test_cut },
		{ "link", test_link },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
		g_autofree char *path = g_strdup_printf("/fabric/%s/%s", kind->name, tests[i].name);
		g_test_add_data_func(path, kind, tests[i].run);
	}
}
