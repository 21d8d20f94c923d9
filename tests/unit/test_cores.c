/* test_cores.c: where threads may run before, while and after the engine has its own processor. */
#include <glib.h>
#include <sched.h>

#include "emu/loop/cores.h"

static unsigned may_use(pthread_t thread)
{
	cpu_set_t set;
	g_assert_cmpint(pthread_getaffinity_np(thread, sizeof(set), &set), ==, 0);
	return (unsigned)CPU_COUNT(&set);
}

static void *wait_for_end(void *arg)
{
	while (!g_atomic_int_get((int *)arg))
		g_usleep(1000);
	return NULL;
}

static void test_place(void)
{
	g_autofree kvt_cores *cores = g_new(kvt_cores, 1);
	pthread_t helper, compute;
	int over = 0;
	kvt_cores_init(cores);
	const unsigned n = cores->n;
	g_assert_cmpuint(n, ==, may_use(pthread_self()));
	g_assert_cmpuint(kvt_cores_compute(cores), ==, n > 1 ? n - 1 : 1);
	g_assert_cmpint(pthread_create(&helper, NULL, wait_for_end, &over), ==, 0);
	g_assert_cmpint(pthread_create(&compute, NULL, wait_for_end, &over), ==, 0);
	/* nothing moves before the engine has its place, or where it can have none */
	kvt_cores_place_compute(cores, compute);
	g_assert_cmpuint(may_use(compute), ==, n);
	bool placed = kvt_cores_place_engine(cores);
	g_assert_true(placed == (n > 1));
	if (placed) {
		kvt_cores_place_compute(cores, compute);
		g_assert_cmpuint(may_use(pthread_self()), ==, 1);
		g_assert_cmpuint(may_use(helper), ==, 1);
		g_assert_cmpuint(may_use(compute), ==, n - 1);
		cpu_set_t engine, others;
		pthread_getaffinity_np(helper, sizeof(engine), &engine);
		pthread_getaffinity_np(compute, sizeof(others), &others);
		CPU_AND(&others, &others, &engine);
		g_assert_cmpint(CPU_COUNT(&others), ==, 0);
	}
	kvt_cores_release(cores);
	g_assert_cmpuint(may_use(pthread_self()), ==, n);
	g_assert_cmpuint(may_use(helper), ==, n);
	g_assert_cmpuint(may_use(compute), ==, n);
	g_atomic_int_set(&over, 1);
	pthread_join(helper, NULL);
	pthread_join(compute, NULL);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cores/place", test_place);
	return g_test_run();
}
