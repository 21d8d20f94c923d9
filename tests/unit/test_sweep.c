/* test_sweep.c: axes, samples and plans of sweeps, and what they share between threads. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "models/model_store.h"
#include "sim/engine/experiment.h"
#include "sim/sweep/sweep_plan.h"
#include "sim/sweep/sweep_supply.h"

static const kvt_option *option_of(const char *name)
{
	g_auto(GStrv) words = g_strsplit(name, ".", 2);
	return kvt_experiment_option(words[0], words[1]);
}

/* All levels of an axis, separated by spaces. */
static char *levels(const char *name, const char *spec)
{
	g_autoptr(GError) error = NULL;
	kvt_sweep_axis *axis = kvt_sweep_axis_new(name, spec, option_of(name), &error);
	g_assert_no_error(error);
	GString *text = g_string_new(NULL);
	for (uint64_t i = 0; i < axis->levels; i++) {
		g_autofree char *level = kvt_sweep_axis_level(axis, i);
		g_string_append_printf(text, "%s%s", i > 0 ? " " : "", level);
	}
	kvt_sweep_axis_free(axis);
	return g_string_free(text, FALSE);
}

static void test_levels(void)
{
	const struct {
		const char *name, *spec, *expected;
	} rows[] = {
		{ "gpu.name", "l40s, h100", "l40s h100" },
		{ "gpu.count", "1,2,4", "1 2 4" },
		{ "gpu.count", "1..7:3", "1 4 7" },
		{ "context.tokens", "10K..1M:3:log", "10000 100000 1000000" },
		{ "context.tokens", "1..10:4:log", "1 2 5 10" },
		{ "gpu.activations", "1GiB..3GiB:3", "1073741824B 2147483648B 3221225472B" },
		{ "context.stored", "0%..100%:5", "0 0.25 0.5 0.75 1" },
		{ "resume.lookup", "1ms..3ms:3", "0.001s 0.002s 0.003s" },
		{ "host.checksum_rate", "10GB/s..30GB/s:2", "10000000000B/s 30000000000B/s" },
		{ "host.gpu_direct", "yes,no", "yes no" },
		{ "prefill.overlap", "none,full", "none full" },
		{ "nvme.drives", "1,2", "1 2" },
		{ "global.seed", "1..3:3", "1 2 3" },
		/* a name may have dots */
		{ "model.name", "../a..b,c", "../a..b c" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autofree char *found = levels(rows[i].name, rows[i].spec);
		g_assert_cmpstr(found, ==, rows[i].expected);
	}
}

static void test_refusals(void)
{
	const struct {
		const char *name, *spec, *expected;
	} rows[] = {
		{ "gpu.count", "1,x",
			"\"x\" is not a number, expected a whole number, like 4, 128 or "
			"400K" },
		{ "gpu.count", "1,2,1", "\"1\" is there twice, expected it once" },
		{ "gpu.count", "", "there is no value, expected v1,v2,... or low..high:n" },
		{ "gpu.count", "1,,2",
			"\"\" is empty, expected a whole number, like 4, 128 or 400K" },
		{ "gpu.count", "1..2000:3",
			"\"2000\" is out of range, expected between 1 and 1024" },
		{ "gpu.count", "8..1:3",
			"the range is empty, expected low..high with low below high" },
		{ "gpu.count", "1..4:5",
			"two of the 5 points are the same whole number, expected fewer points" },
		{ "gpu.count", "1..4:1", "1 points, expected from 2 to 100M" },
		{ "gpu.count", "1..4:2:3", "expected low..high:n or low..high:n:log" },
		{ "context.stored", "0%..100%:3:log",
			"no logarithmic scale begins at 0, expected more than that" },
		{ "resume.lookup", "1..2:3",
			"\"1\" has no unit, expected a time with a unit, like 350us, 1.3s or "
			"6.2min" },
		{ "prefill.overlap", "none,ful",
			"\"ful\" is not known, did you mean \"full\"? (one of none, two-batch, "
			"full)" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(GError) error = NULL;
		g_assert_null(kvt_sweep_axis_new(
			rows[i].name, rows[i].spec, option_of(rows[i].name), &error));
		g_assert_cmpstr(error->message, ==, rows[i].expected);
	}
}

/* Values between: each whole number equally often, whatever the share, never beyond the ends. */
static void test_between(void)
{
	kvt_sweep_axis *axis =
		kvt_sweep_axis_new("gpu.count", "3..6", option_of("gpu.count"), NULL);
	unsigned counts[8] = { 0 };
	for (unsigned i = 0; i < 400; i++) {
		g_autofree char *text = kvt_sweep_axis_at(axis, i / 400.0);
		counts[(unsigned)kvt_sweep_axis_number(axis, text)]++;
	}
	for (unsigned i = 0; i < 8; i++)
		g_assert_cmpuint(counts[i], ==, i >= 3 && i <= 6 ? 100 : 0);
	g_autofree char *last = kvt_sweep_axis_at(axis, nextafter(1, 0));
	g_assert_cmpstr(last, ==, "6");
	kvt_sweep_axis_free(axis);
	axis = kvt_sweep_axis_new(
		"context.tokens", "10K..1M:log", option_of("context.tokens"), NULL);
	g_autofree char *middle = kvt_sweep_axis_at(axis, 0.5);
	g_assert_cmpstr(middle, ==, "100000");
	g_assert_cmpuint(axis->levels, ==, 0);
	kvt_sweep_axis_free(axis);
}

/* One point in each of n parts of every axis, and another order on each. */
static void test_latin(void)
{
	const uint64_t sizes[] = { 1, 2, 3, 17, 64, 1000 };
	for (unsigned s = 0; s < G_N_ELEMENTS(sizes); s++) {
		const uint64_t n = sizes[s];
		g_autofree bool *seen = g_new0(bool, n);
		uint64_t moved = 0;
		for (uint64_t i = 0; i < n; i++) {
			double x = kvt_sample_coordinate(KVT_SAMPLE_LATIN, 7, 0, "a.b", i, n);
			double y = kvt_sample_coordinate(KVT_SAMPLE_LATIN, 7, 1, "a.c", i, n);
			g_assert_true(x >= 0 && x < 1);
			uint64_t part = (uint64_t)(x * (double)n);
			g_assert_false(seen[part]);
			seen[part] = true;
			moved += part != (uint64_t)(y * (double)n);
		}
		g_assert_true(n < 64 || moved > n * 9 / 10);
	}
}

/* Of the first b^k points each of b^k parts has one, in any base; a longer sample goes on. */
static void test_halton(void)
{
	const unsigned parts[] = { 64, 81, 125 };
	for (unsigned axis = 0; axis < G_N_ELEMENTS(parts); axis++) {
		bool seen[125] = { false };
		for (unsigned i = 0; i < parts[axis]; i++) {
			double x = kvt_sample_coordinate(KVT_SAMPLE_HALTON, 3, axis, "x", i, 1000);
			g_assert_cmpfloat(x, ==,
				kvt_sample_coordinate(KVT_SAMPLE_HALTON, 3, axis, "x", i, 2000));
			unsigned part = (unsigned)(x * parts[axis]);
			g_assert_false(seen[part]);
			seen[part] = true;
		}
	}
	double first = kvt_sample_coordinate(KVT_SAMPLE_HALTON, 3, 0, "x", 5, 10);
	double other = kvt_sample_coordinate(KVT_SAMPLE_HALTON, 4, 0, "x", 5, 10);
	g_assert_cmpfloat(first, !=, other);
}

static kvt_sweep_plan *plan_of(const char *text, const kvt_sweep_request *request, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_parse("x.ini", text, error);
	g_assert_nonnull(config);
	kvt_sweep_plan *plan = kvt_sweep_plan_new(config, request, kvt_experiment_option, error);
	/* what the experiment sees has no sweep in it */
	g_assert_true(!plan || !kvt_config_section(config, "sweep"));
	return plan;
}

static void test_grid(void)
{
	const char *over[] = { "gpu.count=1,2", "fabric.nics=1..3:3", NULL };
	const kvt_sweep_request request = { .over = over };
	g_autoptr(kvt_sweep_plan) plan = plan_of("[gpu]\n", &request, NULL);
	g_assert_cmpuint(plan->n_points, ==, 6);
	const char *expected[] = { "gpu.count=1 fabric.nics=1", "gpu.count=1 fabric.nics=2",
		"gpu.count=1 fabric.nics=3", "gpu.count=2 fabric.nics=1",
		"gpu.count=2 fabric.nics=2", "gpu.count=2 fabric.nics=3" };
	for (unsigned i = 0; i < 6; i++) {
		g_autofree char *point = kvt_sweep_plan_point(plan, i);
		g_assert_cmpstr(point, ==, expected[i]);
	}
	g_autofree char *text = kvt_sweep_plan_text(plan);
	g_assert_cmpstr(text, ==, "--over gpu.count=1,2 --over fabric.nics=1..3:3");
	g_autoptr(kvt_config) config = kvt_config_parse("x.ini", "[gpu]\ncount = 8\n", NULL);
	kvt_sweep_plan_apply(plan, 4, config);
	g_autofree char *applied = kvt_config_text(config);
	g_assert_cmpstr(applied, ==, "[gpu]\ncount = 2\n\n[fabric]\nnics = 2\n");
}

/* The same sweep in a file, and parts of it overridden. */
static void test_file(void)
{
	const char *file = "[sweep]\ngpu.count = 1,2\nsample = 4\nseed = 9\nmethod = halton\n"
			   "[sweep fabric]\nnics = 1..3:3\n";
	g_autoptr(kvt_sweep_plan) plan = plan_of(file, &(kvt_sweep_request){ 0 }, NULL);
	g_autofree char *text = kvt_sweep_plan_text(plan);
	g_assert_cmpstr(text, ==,
		"--over gpu.count=1,2 --over fabric.nics=1..3:3 --sample 4 --method halton --seed "
		"9");
	const char *over[] = { "gpu.count=4,8", NULL };
	g_autoptr(kvt_sweep_plan) other = plan_of(
		file, &(kvt_sweep_request){ .over = over, .sample = "6", .method = "latin" }, NULL);
	g_autofree char *changed = kvt_sweep_plan_text(other);
	g_assert_cmpstr(changed, ==,
		"--over gpu.count=4,8 --over fabric.nics=1..3:3 --sample 6 --method latin --seed "
		"9");
	g_autoptr(kvt_sweep_plan) lengths = plan_of(
		"[sweep]\nfrom = 10K\nto = 1M\npoints = 3\n", &(kvt_sweep_request){ 0 }, NULL);
	g_autofree char *point = kvt_sweep_plan_point(lengths, 1);
	g_assert_cmpstr(point, ==, "context.tokens=100000");
}

static void test_plan_refusals(void)
{
	const struct {
		const char *file, *over, *expected;
	} rows[] = {
		{ "", NULL,
			"nothing is varied, expected --over section.key=v1,v2,... or a section "
			"[sweep] with such keys" },
		{ "", "gpu.count",
			"--over \"gpu.count\": expected section.key=v1,v2,... or "
			"=low..high:n" },
		{ "", "gpu.cuont=1",
			"--over gpu.cuont: an experiment has no such key, see \"kvtier "
			"help experiment\"" },
		{ "", "gpu.count=1..4",
			"gpu.count: a range without a number of points, expected "
			"low..high:n, or a sample (--sample)" },
		{ "[sweep]\ngpu.count = 0\n", NULL,
			"x.ini:2: [sweep] gpu.count: \"0\" is out of range, expected between 1 and "
			"1024" },
		{ "[sweep]\nsmaple = 4\n", NULL,
			"x.ini:2: [sweep] smaple: unknown key, did you mean \"sample\"?" },
		{ "[sweep]\ncontext.tokens = 1..1M:100K\ngpu.activations = 1GB..2GB:100K\n", NULL,
			"the grid has 1e+10 points, expected at most 1G: sample it" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(GError) error = NULL;
		const char *over[] = { rows[i].over, NULL };
		g_assert_null(plan_of(rows[i].file, &(kvt_sweep_request){ .over = over }, &error));
		g_assert_cmpstr(error->message, ==, rows[i].expected);
	}
}

/* A copy is read as the original would be, messages with their places, and leaves it alone. */
static void test_config_copy(void)
{
	g_autoptr(kvt_config) config =
		kvt_config_parse("x.ini", "[global]\nseed = 2\n[a b]\nkey = 1\n[c]\n", NULL);
	g_autoptr(kvt_config) copy = kvt_config_copy(config);
	g_assert_true(kvt_config_set(copy, "a b.key=3", NULL));
	g_autofree char *left = kvt_config_text(config), *right = kvt_config_text(copy);
	g_assert_cmpstr(left, ==, "[global]\nseed = 2\n\n[a b]\nkey = 1\n\n[c]\n");
	g_assert_cmpstr(right, ==, "[global]\nseed = 2\n\n[a b]\nkey = 3\n\n[c]\n");
	g_assert_cmpstr(kvt_section_text(kvt_config_section(copy, "c"), "seed"), ==, "2");
	g_autoptr(GError) error = NULL;
	kvt_section_error(kvt_config_section(copy, "c"), "seed", &error, "no");
	g_assert_cmpstr(error->message, ==, "x.ini:2: [global] seed: no");
	kvt_config_remove(copy, "a");
	g_assert_null(kvt_config_section(copy, "a b"));
	g_assert_nonnull(kvt_config_section(config, "a b"));
	kvt_config_remove(copy, "global");
	g_assert_null(kvt_section_text(kvt_config_section(copy, "c"), "seed"));
}

static gpointer load_models(gpointer store)
{
	static const char *const names[] = { "l40s", "h100-sxm", "l40s" };
	const void *found = NULL;
	for (unsigned i = 0; i < 300; i++)
		found = kvt_model_store_gpu(store, names[i % 3], NULL);
	return (gpointer)found;
}

/* One copy of each model, whoever asks; what cannot be read is an error each time. */
static void test_model_store(void)
{
	g_autoptr(kvt_model_store) store = kvt_model_store_new();
	GThread *threads[4];
	for (unsigned i = 0; i < 4; i++)
		threads[i] = g_thread_new("models", load_models, store);
	const void *first = g_thread_join(threads[0]);
	g_assert_nonnull(first);
	for (unsigned i = 1; i < 4; i++)
		g_assert_true(g_thread_join(threads[i]) == first);
	const kvt_dtype fp8 = KVT_DTYPE_FP8;
	const char *name = "qwen2.5-7b-instruct-1m";
	const kvt_llm *plain = kvt_model_store_llm(store, name, NULL, NULL);
	const kvt_llm *small = kvt_model_store_llm(store, name, &fp8, NULL);
	g_assert_true(plain != small && plain->kv.format != KVT_DTYPE_FP8 &&
		      small->kv.format == KVT_DTYPE_FP8);
	for (unsigned i = 0; i < 2; i++) {
		g_autoptr(GError) error = NULL;
		g_assert_null(kvt_model_store_nic(store, "no-such-nic", &error));
		g_assert_nonnull(error);
	}
}

static gpointer take_all(gpointer supply)
{
	uint64_t sum = 0;
	for (uint64_t point; kvt_sweep_supply_take(supply, &point);)
		sum += point;
	return GSIZE_TO_POINTER(sum);
}

/* Every point once, taken by threads while ranges are added and cut. */
static void test_supply(void)
{
	kvt_sweep_supply *supply = kvt_sweep_supply_new();
	GThread *threads[3];
	for (unsigned i = 0; i < 3; i++)
		threads[i] = g_thread_new("supply", take_all, supply);
	uint64_t sum = 0, expected = 0;
	for (uint64_t i = 0; i < 100; i++) {
		kvt_sweep_supply_add(supply, (kvt_sweep_range){ i * 100, 50 });
		kvt_sweep_range cut = kvt_sweep_supply_cut(supply, 7);
		for (uint64_t k = 0; k < 50; k++)
			expected += i * 100 + k;
		for (uint64_t k = 0; k < cut.count; k++)
			sum += cut.first + k;
	}
	kvt_sweep_supply_end(supply, false);
	for (unsigned i = 0; i < 3; i++)
		sum += GPOINTER_TO_SIZE(g_thread_join(threads[i]));
	g_assert_cmpuint(sum, ==, expected);
	g_assert_cmpuint(kvt_sweep_supply_left(supply), ==, 0);
	kvt_sweep_supply_free(supply);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/sweep/axis/levels", test_levels);
	g_test_add_func("/sweep/axis/refusals", test_refusals);
	g_test_add_func("/sweep/axis/between", test_between);
	g_test_add_func("/sweep/sample/latin", test_latin);
	g_test_add_func("/sweep/sample/halton", test_halton);
	g_test_add_func("/sweep/plan/grid", test_grid);
	g_test_add_func("/sweep/plan/file", test_file);
	g_test_add_func("/sweep/plan/refusals", test_plan_refusals);
	g_test_add_func("/sweep/config-copy", test_config_copy);
	g_test_add_func("/sweep/model-store", test_model_store);
	g_test_add_func("/sweep/supply", test_supply);
	return g_test_run();
}
