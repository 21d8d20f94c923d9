/* test_validation.c: how turns of two worlds are judged: medians, shares, tolerances, noise. The
 * turns are made up; nothing runs. */
#include "emu/turn/validation.h"

#include <math.h>
#include <string.h>

static const kvt_validate_settings settings = {
	.ttft = 0.1, .tpot = 0.1, .stage = 0.15, .least_share = 0.05
};

/* A turn of 1 s: 0.6 of attention, 0.3 of products, 0.04 of merges. */
static kvt_turn turn(double scale)
{
	kvt_turn t = { .ttft = scale, .tpot = 0.1 * scale, .loading = 0.5 * scale };
	t.work[KVT_WORK_ATTENTION] = 0.6 * scale;
	t.work[KVT_WORK_MLP] = 0.3;
	t.work[KVT_WORK_MERGE] = 0.04 * scale;
	t.step_work[KVT_WORK_ATTENTION] = 0.08 * scale;
	return t;
}

static const kvt_validation_row *row(const GArray *rows, const char *name)
{
	for (unsigned i = 0; i < rows->len; i++) {
		const kvt_validation_row *r = &g_array_index(rows, kvt_validation_row, i);
		if (strcmp(r->name, name) == 0)
			return r;
	}
	g_error("no row %s", name);
}

static void test_medians(void)
{
	kvt_turn model[] = { turn(1.05) };
	kvt_turn measured[] = { turn(1.02), turn(3), turn(1), turn(0.98), turn(0.99) };
	g_autoptr(GArray) rows = kvt_validation_judge(&settings, model, 1, measured, 5);
	const kvt_validation_row *ttft = row(rows, "ttft");
	g_assert_cmpfloat(ttft->measured.value, ==, 1);
	g_assert_cmpfloat(ttft->measured.low, ==, 0.98);
	g_assert_cmpfloat(ttft->measured.high, ==, 3);
	g_assert_cmpfloat_with_epsilon(ttft->error, 0.05, 1e-9);
	g_assert_true(ttft->within);
	g_assert_true(ttft->noisy);
	g_assert_cmpfloat_with_epsilon(row(rows, "attention")->share, 0.63, 1e-9);
	g_assert_cmpfloat_with_epsilon(row(rows, "step.attention")->share, 0.84, 1e-9);
	g_assert_true(row(rows, "attention")->real);
	g_assert_false(row(rows, "mlp")->real);
}

static void test_tolerances(void)
{
	kvt_turn model[] = { turn(1.12) }, measured[] = { turn(1) };
	model[0].work[KVT_WORK_MERGE] = 0.001;
	model[0].work[KVT_WORK_MLP] = 0.9;
	g_autoptr(GArray) rows = kvt_validation_judge(&settings, model, 1, measured, 1);
	g_assert_false(row(rows, "ttft")->within);
	g_assert_false(row(rows, "ttft")->noisy);
	g_assert_false(row(rows, "tpot")->within);
	/* 12% is within what a stage may be off */
	g_assert_true(row(rows, "attention")->within);
	g_assert_cmpfloat(row(rows, "attention")->tolerance, ==, 0.15);
	/* small, or a timed wait: shown, not judged */
	g_assert_true(row(rows, "merge")->within);
	g_assert_cmpfloat(row(rows, "merge")->tolerance, ==, 0);
	g_assert_cmpfloat(row(rows, "merge")->error, <, -0.9);
	g_assert_true(row(rows, "mlp")->within);
	model[0].work[KVT_WORK_ATTENTION] = 0.5;
	g_autoptr(GArray) again = kvt_validation_judge(&settings, model, 1, measured, 1);
	g_assert_false(row(again, "attention")->within);
}

/* A stage that only one world has is as wrong as can be, if it is large enough in that one. */
static void test_only_one_world(void)
{
	kvt_turn model[] = { turn(1) }, measured[] = { turn(1) };
	model[0].waiting = 0.2;
	measured[0].step_waiting = 0.02;
	g_autoptr(GArray) rows = kvt_validation_judge(&settings, model, 1, measured, 1);
	g_assert_false(row(rows, "waiting")->within);
	g_assert_true(isnan(row(rows, "waiting")->error));
	g_assert_cmpfloat(row(rows, "step.waiting")->error, ==, -1);
	g_assert_false(row(rows, "step.waiting")->within);
	/* what neither has is not there */
	for (unsigned i = 0; i < rows->len; i++)
		g_assert_cmpstr(g_array_index(rows, kvt_validation_row, i).name, !=, "all_reduce");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/validation/medians", test_medians);
	g_test_add_func("/validation/tolerances", test_tolerances);
	g_test_add_func("/validation/only-one-world", test_only_one_world);
	return g_test_run();
}
