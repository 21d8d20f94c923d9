/* test_virtual_loop.c: what loop.h promises, on the virtual loop: order, time, stop, cancel. */
#include <glib.h>

#include "sim/core/loop.h"

/* What a test's callbacks saw: ids in the order they ran, and when. */
typedef struct journal {
	kvt_loop *loop;
	GArray *ids, *times;
} journal;

typedef struct note {
	journal *journal;
	int id;
	kvt_event victim;  /* cancelled when this runs; 0: none */
	bool stops, again; /* again: schedules itself in the past once more, as id + 100 */
} note;

static void take_note(void *arg)
{
	note *n = arg;
	kvt_loop *loop = n->journal->loop;
	kvt_time now = kvt_loop_now(loop);
	g_array_append_val(n->journal->ids, n->id);
	g_array_append_val(n->journal->times, now);
	if (n->victim)
		g_assert_true(kvt_loop_cancel(loop, n->victim));
	if (n->again) {
		n->again = false;
		n->id += 100;
		guint before = n->journal->ids->len;
		g_assert_cmpuint(kvt_loop_at(loop, now / 2, take_note, n), !=, 0);
		g_assert_cmpuint(n->journal->ids->len, ==, before);
	}
	if (n->stops)
		kvt_loop_stop(loop);
}

static journal journal_new(void)
{
	return (journal){ kvt_virtual_loop_new(), g_array_new(FALSE, FALSE, sizeof(int)),
		g_array_new(FALSE, FALSE, sizeof(kvt_time)) };
}

static void journal_clear(journal *j)
{
	kvt_loop_free(j->loop);
	g_array_unref(j->ids);
	g_array_unref(j->times);
}

#define ID(j, i) g_array_index((j).ids, int, i)
#define TIME(j, i) g_array_index((j).times, kvt_time, i)

static void test_order(void)
{
	journal j = journal_new();
	const kvt_time when[] = { 30, 10, 20, 10, KVT_TIME_NEVER - 1, 0, 10 };
	const int expected[] = { 5, 1, 3, 6, 2, 0, 4 };
	note notes[G_N_ELEMENTS(when)];
	for (int i = 0; i < (int)G_N_ELEMENTS(when); i++) {
		notes[i] = (note){ .journal = &j, .id = i };
		g_assert_cmpuint(kvt_loop_at(j.loop, when[i], take_note, &notes[i]), !=, 0);
	}
	g_assert_cmpint(kvt_loop_now(j.loop), ==, 0);
	g_assert_cmpuint(kvt_loop_run(j.loop), ==, G_N_ELEMENTS(when));
	for (guint i = 0; i < G_N_ELEMENTS(when); i++) {
		g_assert_cmpint(ID(j, i), ==, expected[i]);
		g_assert_cmpint(TIME(j, i), ==, when[expected[i]]);
	}
	g_assert_cmpint(kvt_loop_now(j.loop), ==, KVT_TIME_NEVER - 1);
	journal_clear(&j);
}

/* An event for the past runs now, after what was pending now, and time does not go back. */
static void test_past(void)
{
	journal j = journal_new();
	note first = { .journal = &j, .id = 1, .again = true };
	note second = { .journal = &j, .id = 2 }, third = { .journal = &j, .id = 3 };
	kvt_loop_at(j.loop, 50, take_note, &first);
	kvt_loop_at(j.loop, 50, take_note, &second);
	kvt_loop_at(j.loop, 51, take_note, &third);
	g_assert_cmpuint(kvt_loop_run(j.loop), ==, 4);
	const int expected[] = { 1, 2, 101, 3 };
	const kvt_time times[] = { 50, 50, 50, 51 };
	for (int i = 0; i < 4; i++) {
		g_assert_cmpint(ID(j, i), ==, expected[i]);
		g_assert_cmpint(TIME(j, i), ==, times[i]);
	}
	/* Between runs too; negative times are past at any time. */
	kvt_loop_at(j.loop, 7, take_note, &second);
	kvt_loop_at(j.loop, -7, take_note, &third);
	g_assert_cmpuint(kvt_loop_run(j.loop), ==, 2);
	g_assert_cmpint(ID(j, 5), ==, 3);
	g_assert_cmpint(TIME(j, 5), ==, 51);
	journal_clear(&j);
}

static void test_stop_and_resume(void)
{
	journal j = journal_new();
	note notes[4];
	for (int i = 0; i < 4; i++) {
		notes[i] = (note){ .journal = &j, .id = i, .stops = i == 1 };
		kvt_loop_at(j.loop, 10 * (i / 2), take_note, &notes[i]);
	}
	kvt_loop_stop(j.loop); /* nothing runs, so nothing stops */
	g_assert_cmpuint(kvt_loop_run(j.loop), ==, 2);
	g_assert_cmpint(kvt_loop_now(j.loop), ==, 0);
	g_assert_cmpuint(kvt_loop_run(j.loop), ==, 2);
	g_assert_cmpint(kvt_loop_now(j.loop), ==, 10);
	g_assert_cmpuint(kvt_loop_run(j.loop), ==, 0);
	g_assert_cmpuint(j.ids->len, ==, 4);
	journal_clear(&j);
}

static void test_cancel(void)
{
	journal j = journal_new();
	note kept = { .journal = &j, .id = 1 }, dropped = { .journal = &j, .id = 2 };
	kvt_event early = kvt_loop_at(j.loop, 5, take_note, &dropped);
	kvt_event same = kvt_loop_at(j.loop, 20, take_note, &dropped);
	kvt_event ran = kvt_loop_at(j.loop, 10, take_note, &kept);
	kept.victim = same;
	g_assert_true(kvt_loop_cancel(j.loop, early));
	g_assert_false(kvt_loop_cancel(j.loop, early));
	g_assert_cmpuint(kvt_loop_run(j.loop), ==, 1);
	g_assert_cmpint(ID(j, 0), ==, 1);
	const kvt_event past[] = { early, same, ran, 0, 1, UINT64_MAX, ran + 1,
		ran ^ (1ull << 63) };
	for (guint i = 0; i < G_N_ELEMENTS(past); i++)
		g_assert_false(kvt_loop_cancel(j.loop, past[i]));
	/* A new event may reuse storage, never a handle. */
	kept.victim = 0;
	for (int i = 0; i < 1000; i++) {
		kvt_event next = kvt_loop_at(j.loop, 10, take_note, &kept);
		for (guint k = 0; k < 3; k++) {
			g_assert_cmpuint(next, !=, past[k]);
			g_assert_false(kvt_loop_cancel(j.loop, past[k]));
		}
		g_assert_true(kvt_loop_cancel(j.loop, next));
	}
	g_assert_cmpuint(kvt_loop_run(j.loop), ==, 0);
	journal_clear(&j);
}

static void test_never(void)
{
	journal j = journal_new();
	note n = { .journal = &j, .id = 1 };
	g_assert_cmpuint(kvt_loop_at(j.loop, KVT_TIME_NEVER, take_note, &n), ==, 0);
	g_assert_cmpuint(kvt_loop_after(j.loop, KVT_TIME_NEVER, take_note, &n), ==, 0);
	kvt_loop_at(j.loop, 5, take_note, &n);
	g_assert_cmpuint(kvt_loop_run(j.loop), ==, 1);
	g_assert_cmpuint(kvt_loop_after(j.loop, KVT_TIME_NEVER - 5, take_note, &n), ==, 0);
	g_assert_cmpuint(kvt_loop_after(j.loop, -3, take_note, &n), !=, 0);
	g_assert_cmpuint(kvt_loop_run(j.loop), ==, 1);
	g_assert_cmpint(TIME(j, 1), ==, 5);
	journal_clear(&j);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtual-loop/order", test_order);
	g_test_add_func("/virtual-loop/past", test_past);
	g_test_add_func("/virtual-loop/stop-and-resume", test_stop_and_resume);
	g_test_add_func("/virtual-loop/cancel", test_cancel);
	g_test_add_func("/virtual-loop/never", test_never);
	return g_test_run();
}
