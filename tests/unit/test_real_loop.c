/*
 * test_real_loop.c: what loop.h promises, on both loops; and of the real one alone: batches, posts
 * from threads, sources, holds, waits. Nothing here depends on how fast the machine is.
 */
#include "emu/loop/real_loop.h"

#include <glib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sim/base/rng.h"

static kvt_loop *new_real(void)
{
	kvt_loop *loop = kvt_real_loop_new(NULL);
	g_assert_nonnull(loop);
	return loop;
}

static kvt_loop *new_spinning(void)
{
	const kvt_real_loop_settings settings = { .spin = 200 * KVT_MICROSECOND };
	kvt_loop *loop = kvt_real_loop_new(&settings);
	g_assert_nonnull(loop);
	return loop;
}

typedef struct note {
	kvt_loop *loop;
	GArray *ids; /* in the order they ran; shared */
	int id;
	kvt_time when; /* not to run before */
	bool stops;
	unsigned again;   /* times that it schedules itself in the past */
	kvt_event victim; /* cancelled when this runs */
	bool *inside;     /* set while a callback runs */
} note;

static void take_note(void *arg)
{
	note *n = arg;
	g_assert_false(*n->inside);
	*n->inside = true;
	g_assert_cmpint(kvt_loop_now(n->loop), >=, n->when);
	g_array_append_val(n->ids, n->id);
	if (n->victim)
		g_assert_true(kvt_loop_cancel(n->loop, n->victim));
	if (n->again > 0) {
		n->again--;
		guint before = n->ids->len;
		g_assert_cmpuint(kvt_loop_at(n->loop, -1, take_note, n), !=, 0);
		g_assert_cmpuint(n->ids->len, ==, before);
	}
	if (n->stops)
		kvt_loop_stop(n->loop);
	*n->inside = false;
}

typedef struct stage {
	kvt_loop *loop;
	GArray *ids;
	bool inside;
} stage;

static stage stage_new(kvt_loop *(*make)(void))
{
	return (stage){ .loop = make(), .ids = g_array_new(FALSE, FALSE, sizeof(int)) };
}

static void stage_clear(stage *s)
{
	kvt_loop_free(s->loop);
	g_array_unref(s->ids);
}

static note note_of(stage *s, int id)
{
	return (note){ .loop = s->loop, .ids = s->ids, .id = id, .inside = &s->inside };
}

static void check_ids(const stage *s, const int *expected, guint n)
{
	g_assert_cmpuint(s->ids->len, ==, n);
	for (guint i = 0; i < n; i++)
		g_assert_cmpint(g_array_index(s->ids, int, i), ==, expected[i]);
}

/* Random times, many alike, cancelled at random: (time, submission) order. */
static void test_order(gconstpointer make)
{
	enum { N = 3000, TICKS = 200 };
	stage s = stage_new((kvt_loop * (*)(void)) make);
	note *notes = g_new(note, N);
	kvt_event *events = g_new(kvt_event, N);
	kvt_rng rng = kvt_rng_init(1, 1);
	kvt_time base;
	/* again, should all this take so long that the first are due */
	do {
		g_array_set_size(s.ids, 0);
		base = kvt_loop_now(s.loop) + 100 * KVT_MILLISECOND;
		for (int i = 0; i < N; i++) {
			notes[i] = note_of(&s, i);
			notes[i].when =
				base + (kvt_time)kvt_rng_below(&rng, TICKS) * 50 * KVT_MICROSECOND;
			events[i] = kvt_loop_at(s.loop, notes[i].when, take_note, &notes[i]);
			g_assert_cmpuint(events[i], !=, 0);
		}
		for (int i = 0; i < N && kvt_loop_now(s.loop) >= base; i++)
			g_assert_true(kvt_loop_cancel(s.loop, events[i]));
	} while (kvt_loop_now(s.loop) >= base);
	bool *cancelled = g_new0(bool, N);
	guint left = N;
	for (int i = 0; i < N / 4; i++) {
		uint64_t victim = kvt_rng_below(&rng, N);
		g_assert_true(kvt_loop_cancel(s.loop, events[victim]) == !cancelled[victim]);
		left -= !cancelled[victim];
		cancelled[victim] = true;
	}
	g_assert_cmpuint(kvt_loop_run(s.loop), ==, left);
	g_assert_cmpuint(s.ids->len, ==, left);
	for (guint i = 1; i < left; i++) {
		const note *a = &notes[g_array_index(s.ids, int, i - 1)];
		const note *b = &notes[g_array_index(s.ids, int, i)];
		g_assert_true(a->when < b->when || (a->when == b->when && a->id < b->id));
	}
	for (guint i = 0; i < left; i++)
		g_assert_false(cancelled[g_array_index(s.ids, int, i)]);
	g_free(cancelled);
	g_free(events);
	g_free(notes);
	stage_clear(&s);
}

/* What is for the past runs as soon as possible, in order of submission, never inline. */
static void test_past(gconstpointer make)
{
	stage s = stage_new((kvt_loop * (*)(void)) make);
	note notes[] = { note_of(&s, 0), note_of(&s, 1), note_of(&s, 2) };
	notes[0].again = 2;
	for (guint i = 0; i < G_N_ELEMENTS(notes); i++)
		kvt_loop_at(s.loop, -(kvt_time)i, take_note, &notes[i]);
	g_assert_cmpuint(s.ids->len, ==, 0);
	g_assert_cmpuint(kvt_loop_run(s.loop), ==, 5);
	check_ids(&s, (const int[]){ 0, 1, 2, 0, 0 }, 5);
	g_assert_cmpuint(kvt_loop_run(s.loop), ==, 0);
	stage_clear(&s);
}

static void test_stop(gconstpointer make)
{
	stage s = stage_new((kvt_loop * (*)(void)) make);
	note notes[4];
	for (int i = 0; i < 4; i++) {
		notes[i] = note_of(&s, i);
		notes[i].stops = i == 1 || i == 2;
		kvt_loop_at(s.loop, 0, take_note, &notes[i]);
	}
	kvt_loop_stop(s.loop); /* nothing runs, so nothing stops */
	g_assert_cmpuint(kvt_loop_run(s.loop), ==, 2);
	g_assert_cmpuint(kvt_loop_run(s.loop), ==, 1);
	g_assert_cmpuint(kvt_loop_run(s.loop), ==, 1);
	check_ids(&s, (const int[]){ 0, 1, 2, 3 }, 4);
	stage_clear(&s);
}

static void test_cancel(gconstpointer make)
{
	stage s = stage_new((kvt_loop * (*)(void)) make);
	note first = note_of(&s, 1), second = note_of(&s, 2);
	kvt_event ran = kvt_loop_at(s.loop, 0, take_note, &first);
	first.victim = kvt_loop_at(s.loop, 0, take_note, &second);
	kvt_event victim = first.victim;
	kvt_event far = kvt_loop_after(s.loop, 3600 * KVT_SECOND, take_note, &second);
	g_assert_true(kvt_loop_cancel(s.loop, far));
	g_assert_cmpuint(kvt_loop_run(s.loop), ==, 1);
	const kvt_event past[] = { ran, victim, far, 0, 1, UINT64_MAX };
	for (guint i = 0; i < G_N_ELEMENTS(past); i++)
		g_assert_false(kvt_loop_cancel(s.loop, past[i]));
	check_ids(&s, (const int[]){ 1 }, 1);
	stage_clear(&s);
}

/* Times as far off as they go are kept and do not hinder what is near. */
static void test_far(gconstpointer make)
{
	stage s = stage_new((kvt_loop * (*)(void)) make);
	note near = note_of(&s, 1), far = note_of(&s, 2);
	near.stops = true;
	kvt_event events[] = {
		kvt_loop_at(s.loop, KVT_TIME_NEVER - 1, take_note, &far),
		kvt_loop_after(s.loop, 3600 * KVT_SECOND, take_note, &far),
		kvt_loop_after(s.loop, KVT_TIME_NEVER / 2, take_note, &far),
	};
	for (unsigned i = 0; i < 200; i++) {
		kvt_loop_after(s.loop, (kvt_time)i * KVT_MICROSECOND, take_note, &near);
		g_assert_cmpuint(kvt_loop_run(s.loop), ==, 1);
	}
	for (guint i = 0; i < G_N_ELEMENTS(events); i++)
		g_assert_true(kvt_loop_cancel(s.loop, events[i]));
	g_assert_cmpuint(kvt_loop_run(s.loop), ==, 0);
	g_assert_cmpuint(kvt_loop_at(s.loop, KVT_TIME_NEVER, take_note, &far), ==, 0);
	g_assert_cmpuint(kvt_loop_after(s.loop, KVT_TIME_NEVER, take_note, &far), ==, 0);
	g_assert_cmpuint(s.ids->len, ==, 200);
	stage_clear(&s);
}

typedef struct walker {
	kvt_loop *loop;
	kvt_rng rng;
	kvt_time due; /* of what runs next */
	unsigned left;
	kvt_event farther;
} walker;

static void nothing(void *arg)
{
	g_assert_not_reached();
}

/* Every event is scheduled before some that are known already. */
static void step(void *arg)
{
	walker *w = arg;
	kvt_time now = kvt_loop_now(w->loop);
	g_assert_cmpint(now, >=, w->due);
	if (w->farther)
		g_assert_true(kvt_loop_cancel(w->loop, w->farther));
	w->farther = 0;
	if (--w->left == 0)
		return;
	w->due = now + (kvt_time)kvt_rng_below(&w->rng, 20 * KVT_MICROSECOND);
	for (unsigned i = 0; i < 5; i++) {
		kvt_event event = kvt_loop_at(w->loop, now + KVT_SECOND * 1000, nothing, NULL);
		if (w->farther)
			g_assert_true(kvt_loop_cancel(w->loop, w->farther));
		w->farther = event;
	}
	kvt_loop_at(w->loop, w->due, step, w);
}

static void test_walk(gconstpointer make)
{
	walker w = { .loop = ((kvt_loop * (*)(void)) make)(), .left = 20000 };
	w.rng = kvt_rng_init(2, 2);
	kvt_loop_at(w.loop, 0, step, &w);
	g_assert_cmpuint(kvt_loop_run(w.loop), ==, 20000);
	kvt_loop_free(w.loop);
}

/* Posts: in order from each thread, all of them, also while the loop sleeps. */
enum { POSTERS = 3, POSTS = 20000 };

typedef struct poster {
	kvt_loop *loop;
	unsigned next, seen;
	GThread *thread;
	GThread *runner; /* of the loop */
	bool stops;      /* the loop, when all has been seen */
} poster;

static void receive(void *arg)
{
	poster *p = arg;
	g_assert_true(g_thread_self() == p->runner);
	p->seen++;
	if (p->seen == POSTS && p->stops)
		kvt_loop_stop(p->loop);
	else if (p->seen == POSTS)
		kvt_real_loop_release(p->loop);
}

static gpointer post_all(gpointer arg)
{
	poster *p = arg;
	kvt_rng rng = kvt_rng_init(3, (uint64_t)(uintptr_t)p->next);
	for (unsigned i = 0; i < POSTS; i++) {
		kvt_real_loop_post(p->loop, receive, p);
		if (kvt_rng_below(&rng, 1000) == 0)
			g_usleep(100);
	}
	return NULL;
}

static void test_posts(gconstpointer make)
{
	kvt_loop *loop = ((kvt_loop * (*)(void)) make)();
	poster posters[POSTERS];
	for (unsigned i = 0; i < POSTERS; i++) {
		posters[i] = (poster){ .loop = loop, .next = i, .runner = g_thread_self() };
		kvt_real_loop_hold(loop);
		posters[i].thread = g_thread_new("poster", post_all, &posters[i]);
	}
	g_assert_cmpuint(kvt_loop_run(loop), ==, POSTERS * POSTS);
	for (unsigned i = 0; i < POSTERS; i++) {
		g_thread_join(posters[i].thread);
		g_assert_cmpuint(posters[i].seen, ==, POSTS);
	}
	kvt_real_loop_stats stats;
	kvt_real_loop_get_stats(loop, &stats);
	g_assert_cmpuint(stats.callbacks, ==, POSTERS * POSTS);
	g_assert_cmpuint(stats.lateness.count, ==, POSTERS * POSTS);
	g_assert_cmpuint(stats.batches, <=, stats.callbacks);
	kvt_loop_free(loop);
}

static gpointer post_late(gpointer arg)
{
	poster *p = arg;
	g_usleep(20000);
	kvt_real_loop_post(p->loop, receive, p);
	return NULL;
}

/* A post ends a sleep that a far timer would have kept. */
static void test_post_wakes(void)
{
	kvt_loop *loop = new_real();
	poster p = { .loop = loop, .runner = g_thread_self(), .seen = POSTS - 1, .stops = true };
	kvt_event far = kvt_loop_after(loop, 3600 * KVT_SECOND, nothing, NULL);
	p.thread = g_thread_new("poster", post_late, &p);
	g_assert_cmpuint(kvt_loop_run(loop), ==, 1);
	g_assert_cmpuint(p.seen, ==, POSTS);
	g_assert_true(kvt_loop_cancel(loop, far));
	g_thread_join(p.thread);
	/* what was posted while nothing runs runs next time */
	p.seen = 0;
	kvt_real_loop_post(loop, receive, &p);
	g_assert_cmpuint(p.seen, ==, 0);
	g_assert_cmpuint(kvt_loop_run(loop), ==, 1);
	g_assert_cmpuint(p.seen, ==, 1);
	kvt_loop_free(loop);
}

/* A callback that goes on scheduling itself does not keep posts and timers waiting. */
typedef struct hog {
	kvt_loop *loop;
	bool over;
	uint64_t turns;
} hog;

static void take_turn(void *arg)
{
	hog *h = arg;
	h->turns++;
	if (!h->over)
		kvt_loop_at(h->loop, 0, take_turn, h);
}

static void end_hog(void *arg)
{
	hog *h = arg;
	h->over = true;
	kvt_real_loop_release(h->loop);
}

static gpointer post_end(gpointer arg)
{
	hog *h = arg;
	g_usleep(5000);
	kvt_real_loop_post(h->loop, end_hog, h);
	return NULL;
}

static void test_no_starvation(void)
{
	hog h = { .loop = new_real() };
	kvt_real_loop_hold(h.loop);
	kvt_loop_at(h.loop, 0, take_turn, &h);
	GThread *thread = g_thread_new("poster", post_end, &h);
	uint64_t n = kvt_loop_run(h.loop);
	g_assert_cmpuint(n, ==, h.turns + 1);
	g_thread_join(thread);
	kvt_loop_free(h.loop);
}

/* A source over an eventfd that a thread writes to. */
typedef struct fd_source {
	kvt_real_source source;
	kvt_loop *loop;
	int fd;
	uint64_t read, run;
	bool inside;
} fd_source;

enum { EVENTS = 200 };

static void on_event(void *arg)
{
	fd_source *s = arg;
	g_assert_false(s->inside);
	if (++s->run == EVENTS)
		kvt_real_loop_release(s->loop);
}

static unsigned poll_fd(void *arg)
{
	fd_source *s = arg;
	uint64_t n = 0;
	if (read(s->fd, &n, sizeof(n)) < 0)
		return 0;
	s->inside = true;
	for (uint64_t i = 0; i < n; i++)
		kvt_loop_at(s->loop, 0, on_event, s);
	s->inside = false;
	s->read += n;
	return (unsigned)n;
}

static gpointer write_fd(gpointer arg)
{
	const fd_source *s = arg;
	const uint64_t one = 1;
	for (unsigned i = 0; i < EVENTS; i++) {
		g_usleep(i % 10 == 0 ? 500 : 10);
		g_assert_cmpint(write(s->fd, &one, sizeof(one)), ==, sizeof(one));
	}
	return NULL;
}

static void test_source(gconstpointer make)
{
	fd_source s = { .loop = ((kvt_loop * (*)(void)) make)() };
	s.fd = eventfd(0, EFD_NONBLOCK);
	s.source = (kvt_real_source){ .poll = poll_fd, .wait_fd = s.fd, .arg = &s };
	kvt_real_loop_add_source(s.loop, &s.source);
	kvt_real_loop_hold(s.loop);
	GThread *thread = g_thread_new("writer", write_fd, &s);
	g_assert_cmpuint(kvt_loop_run(s.loop), ==, EVENTS);
	g_assert_cmpuint(s.read, ==, EVENTS);
	g_thread_join(thread);
	kvt_real_loop_remove_source(s.loop, &s.source);
	close(s.fd);
	kvt_loop_free(s.loop);
}

/* Sleep is not early, and is counted. */
static void test_sleep(void)
{
	stage s = stage_new(new_real);
	note n = note_of(&s, 1);
	n.when = kvt_loop_now(s.loop) + 30 * KVT_MILLISECOND;
	kvt_loop_at(s.loop, n.when, take_note, &n);
	kvt_loop_run(s.loop);
	kvt_real_loop_stats stats;
	kvt_real_loop_get_stats(s.loop, &stats);
	g_assert_cmpuint(stats.sleeps, >=, 1);
	g_assert_cmpint(stats.asleep, >, 0);
	g_assert_cmpint(stats.asleep, <=, kvt_loop_now(s.loop));
	g_assert_cmpint(stats.spinning, ==, 0);
	stage_clear(&s);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		kvt_loop *(*make)(void);
		bool real;
	} kinds[] = {
		{ "virtual", kvt_virtual_loop_new, false },
		{ "real", new_real, true },
		{ "spinning", new_spinning, true },
	};
	static const struct {
		const char *name;
		void (*run)(gconstpointer make);
		bool real; /* needs a real loop */
	} tests[] = {
		{ "order", test_order, false },
		{ "past", test_past, false },
		{ "stop", test_stop, false },
		{ "cancel", test_cancel, false },
		{ "far", test_far, false },
		{ "walk", test_walk, false },
		{ "posts", test_posts, true },
		{ "source", test_source, true },
	};
	g_test_init(&argc, &argv, NULL);
	for (guint k = 0; k < G_N_ELEMENTS(kinds); k++)
		for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
			g_autofree char *path =
				g_strdup_printf("/loop/%s/%s", kinds[k].name, tests[i].name);
			if (kinds[k].real || !tests[i].real)
				g_test_add_data_func(
					path, (gconstpointer)kinds[k].make, tests[i].run);
		}
	g_test_add_func("/loop/real/post-wakes", test_post_wakes);
	g_test_add_func("/loop/real/no-starvation", test_no_starvation);
	g_test_add_func("/loop/real/sleep", test_sleep);
	return g_test_run();
}
