/* test_plan.c: plans of small fleets: the optimum of every fleet tried, bottlenecks of fleets that
 * are made to have them, wear, prices, bounds and break-even by hand. */
#include <glib/gstdio.h>
#include <math.h>

#include "models/llm_cost.h"
#include "sim/plan/plan.h"
#include "sim/plan/plan_bounds.h"
#include "sim/plan/plan_report.h"

static char *folder;

static char *write_file(const char *name, const char *text)
{
	char *path = g_build_filename(folder, name, NULL);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
	return path;
}

/* Round numbers: a GPU 1 USD an hour, a node 2, 100 GB of DRAM 1, a drive 0.5. */
static const char PRICES[] = "[electricity]\nsource = assumed: test\nkwh = 0.1USD\npue = 1\n"
			     "[dram]\nsource = assumed: test\nhour = 0.01USD\n"
			     "[gpu a100-80g]\nsource = assumed: test\nhour = 1USD\n"
			     "hour.uncertainty = 10%\n"
			     "[gpu h100-sxm]\nsource = assumed: test\nhour = 2.2USD\n"
			     "hour.uncertainty = 10%\n"
			     "[host pcie4-ddr4]\nsource = assumed: test\nhour = 2USD\n"
			     "[drive micron-9550]\nsource = assumed: test\nhour = 0.5USD\n"
			     "[drive samsung-pm9a3]\nsource = assumed: test\nhour = 0.3USD\n"
			     "[nic connectx-7-400g]\nsource = assumed: test\nhour = 0.1USD\n";

/* Turns of conversations that come back: prompts of some thousand tokens, half of them known. */
static void write_trace(unsigned requests, unsigned gap_ms, unsigned blocks)
{
	g_autoptr(GString) text = g_string_new(NULL);
	for (unsigned i = 0; i < requests; i++) {
		unsigned session = i % 8, turn = i / 8;
		unsigned n = blocks * (turn % 3 + 1);
		g_string_append_printf(text,
			"{\"timestamp\": %u, \"input_length\": %u, \"output_length\": 20, "
			"\"hash_ids\": [",
			i * gap_ms, n * 512);
		for (unsigned b = 0; b < n; b++)
			g_string_append_printf(text, "%s%u", b ? ", " : "",
				session * 100000 + turn / 3 * 1000 + b);
		g_string_append(text, "]}\n");
	}
	g_free(write_file("trace.jsonl", text->str));
}

static kvt_plan_settings *load(const char *plan, const char *const *sets)
{
	g_autofree char *text = g_strconcat("[model]\nname = yi-34b-200k\n[gpu]\nname = "
					    "a100-80g\ncount = 2\n[host]\nname = "
					    "pcie4-ddr4\n[traffic]\ntrace = trace.jsonl\n",
		plan, NULL);
	g_autofree char *path = write_file("plan.ini", text);
	g_free(write_file("prices.ini", PRICES));
	GError *error = NULL;
	kvt_plan_settings *settings = kvt_plan_settings_load(path, sets, &error);
	g_assert_no_error(error);
	return settings;
}

static const char GRID[] = "[fabric]\nnics = 0\n[tier dram]\nkind = dram\ncapacity = 100GB\n"
			   "[plan]\nprices = prices.ini\ngpu = a100-80g, h100-sxm\ncount = 2, 4\n"
			   "replicas = 1..5\ndram = 0B, 100GB\nttft = 2s\n";

/* Every fleet of the grid, one after the other. */
static double cheapest_of_all(const kvt_plan_settings *s)
{
	double best = INFINITY;
	for (unsigned shape = 0; shape < s->shapes->len; shape++) {
		for (int64_t replicas = s->low; replicas <= s->high; replicas++) {
			const kvt_plan_job job = {
				.shape = shape, .replicas = replicas, .raise = -1
			};
			kvt_plan_figures figures;
			if (kvt_plan_point_run(s, &job, &figures, NULL) &&
				kvt_plan_meets(s, &figures))
				best = MIN(best, figures.cost);
		}
	}
	return best;
}

static void test_optimum(void)
{
	static const char *const limits[] = { "plan.ttft=1s", "plan.ttft=2s", "plan.ttft=4s",
		"plan.ttft=10s" };
	write_trace(96, 350, 12);
	double last = INFINITY;
	unsigned met = 0;
	for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++) {
		const char *sets[] = { limits[i], NULL };
		GError *error = NULL;
		g_autoptr(kvt_plan_settings) s = load(GRID, sets);
		g_assert_cmpuint(s->shapes->len, ==, 8);
		g_autoptr(kvt_plan) plan = kvt_plan_new(s, 2, &error);
		g_assert_no_error(error);
		double expected = cheapest_of_all(s);
		g_assert_true(plan->complete);
		g_assert_true(plan->met == isfinite(expected));
		if (!plan->met)
			continue;
		met++;
		const kvt_plan_choice *answer = &plan->choices[plan->answer];
		g_assert_cmpfloat(answer->figures.cost, ==, expected);
		g_assert_true(answer->meets);
		/* who waits longer pays no more */
		g_assert_cmpfloat(expected, <=, last);
		last = expected;
		for (unsigned c = 1; c < plan->n_choices; c++) {
			g_assert_cmpfloat(plan->choices[c].figures.cost, >,
				plan->choices[c - 1].figures.cost);
			g_assert_cmpfloat(plan->choices[c].figures.p95_ttft, <,
				plan->choices[c - 1].figures.p95_ttft);
		}
	}
	g_assert_cmpuint(met, >=, 2);
}

/* The same whatever the number of threads. */
static void test_threads(void)
{
	write_trace(64, 350, 12);
	char *texts[2];
	for (unsigned i = 0; i < 2; i++) {
		g_autoptr(kvt_plan_settings) s = load(GRID, NULL);
		g_autoptr(kvt_plan) plan = kvt_plan_new(s, i ? 3 : 1, NULL);
		json_t *json = kvt_plan_report_json(plan);
		texts[i] = json_dumps(json, JSON_SORT_KEYS);
		json_decref(json);
	}
	g_assert_cmpstr(texts[0], ==, texts[1]);
	free(texts[0]);
	free(texts[1]);
}

/* A bound rules out only what a simulation would. */
static void test_bounds(void)
{
	write_trace(96, 150, 12);
	g_autoptr(kvt_plan_settings) s = load(GRID, NULL);
	kvt_plan_bounds *bounds = kvt_plan_bounds_new(s);
	unsigned ruled_out = 0;
	for (unsigned i = 0; i < s->shapes->len; i++) {
		for (int64_t r = s->low; r <= s->high; r++) {
			const kvt_plan_job job = { .shape = i, .replicas = r, .raise = -1 };
			kvt_plan_figures f;
			if (!kvt_plan_point_run(s, &job, &f, NULL)) {
				g_assert_false(bounds[i].fits);
				continue;
			}
			g_assert_cmpfloat(kvt_plan_cost_floor(&bounds[i], r), <=, f.cost);
			int64_t low =
				kvt_plan_bounds_low(s, &bounds[i], kvt_time_to_seconds(s->ttft));
			ruled_out += r < low;
			if (r < low)
				g_assert_false(kvt_plan_meets(s, &f));
			/* the list's bill is what the fleet itself says */
			const kvt_price_bill bill = kvt_plan_bill(&f);
			g_assert_cmpfloat_with_epsilon(
				kvt_price_fleet_hour(&bounds[i].prices, &bill), f.cost,
				1e-9 * f.cost);
		}
	}
	g_assert_cmpuint(ruled_out, >, 0);
	kvt_plan_bounds_free(bounds, s->shapes->len);
}

static void test_new_tokens(void)
{
	static const uint32_t blocks[] = { 0, 1, 0, 1, 2, 0, 1, 2 };
	const kvt_request requests[] = { { .n_blocks = 2, .input_tokens = 20 },
		{ .first_block = 2, .n_blocks = 3, .input_tokens = 25 },
		{ .first_block = 5, .n_blocks = 3, .input_tokens = 30 } };
	const kvt_request_trace trace = { .requests = requests,
		.n_requests = 3,
		.blocks = blocks,
		.n_blocks = 8,
		.n_ids = 3,
		.block_tokens = 10 };
	uint32_t tokens[3];
	kvt_plan_new_tokens(&trace, 3, tokens);
	g_assert_cmpuint(tokens[0], ==, 20);
	g_assert_cmpuint(tokens[1], ==, 5);
	g_assert_cmpuint(tokens[2], ==, 1); /* all is known: one is computed */
}

/* Fleets made so that one thing binds. */

static kvt_plan_sensitivity sensitivity_of(const char *text, const char *const *sets, double *p95)
{
	GError *error = NULL;
	g_autoptr(kvt_plan_settings) s = load(text, sets);
	g_autoptr(kvt_plan_runner) runner = kvt_plan_runner_new(s, 2, &error);
	g_assert_no_error(error);
	const kvt_plan_job job = { .replicas = 1, .raise = -1 };
	kvt_plan_result result;
	kvt_plan_runner_run(runner, &job, 1, &result);
	g_assert_true(result.ran);
	kvt_plan_sensitivity sensitivity;
	kvt_plan_sensitivity_measure(s, runner, &job, &result.figures, &sensitivity);
	g_assert_cmpint(sensitivity.bottleneck, ==,
		kvt_plan_bottleneck_of(&sensitivity, result.figures.p95_ttft));
	*p95 = result.figures.p95_ttft;
	return sensitivity;
}

static void test_bottlenecks(void)
{
	static const char common[] = "[plan]\nprices = prices.ini\nreplicas = 1..2\nttft = 2s\n";
	write_trace(48, 30000, 16);
	/* nothing is kept: what is asked is computed */
	g_autofree char *compute =
		g_strconcat("[fabric]\nnics = 0\n[cache]\nprefix_caching = no\n", common, NULL);
	double p95;
	kvt_plan_sensitivity computed = sensitivity_of(compute, NULL, &p95);
	g_assert_cmpint(computed.bottleneck, ==, KVT_PLAN_GPU_COMPUTE);
	/* a fifth more of it takes a sixth off, but for what does not depend on it */
	g_assert_cmpfloat(computed.raised_p95_ttft[KVT_PLAN_GPU_COMPUTE], <, 0.9 * p95);
	g_assert_cmpfloat(computed.raised_p95_ttft[KVT_PLAN_GPU_COMPUTE], >=, 0.8 * p95);
	g_assert_cmpfloat(computed.raised_p95_ttft[KVT_PLAN_HBM_CAPACITY], ==, p95);
	g_assert_false(computed.measured[KVT_PLAN_DRIVE_READ]);
	/* steps are free, and KV comes from one slow drive */
	g_autofree char *storage = g_strconcat(
		"[fabric]\nnics = 0\n[step]\nmodel = linear\nbase = 1us\n[cache]\nlayerwise = "
		"no\n[tier nvme]\nkind = nvme\ndrive = samsung-pm9a3\ndrives = 1\n",
		common, NULL);
	/* of HBM there is room for few of them */
	const char *little[] = { "gpu.activations=30GB", NULL };
	kvt_plan_sensitivity stored = sensitivity_of(storage, little, &p95);
	/* a fifth of the GPU's memory is several times that room, and nothing leaves it then */
	g_assert_cmpint(stored.bottleneck, ==, KVT_PLAN_HBM_CAPACITY);
	g_assert_cmpfloat(stored.raised_p95_ttft[KVT_PLAN_DRIVE_READ], <, 0.98 * p95);
	g_assert_cmpfloat(stored.raised_p95_ttft[KVT_PLAN_GPU_COMPUTE], ==, p95);
	stored.measured[KVT_PLAN_HBM_CAPACITY] = false;
	g_assert_cmpint(kvt_plan_bottleneck_of(&stored, p95), ==, KVT_PLAN_DRIVE_READ);
}

static void test_wear(void)
{
	/* 864 GB in a day's hundredth part over 4 drives of 10 TB, half of it after compression,
	 * with a quarter more for flash, 80% of the time */
	const kvt_drive_use use = { .bytes = 864e9,
		.seconds = 864,
		.drives = 4,
		.capacity = 10e12,
		.compression = 2,
		.amplification = 1.25,
		.share = 0.8,
		.endurance = 3,
		.warranty = 5 };
	kvt_drive_wear wear = kvt_drive_wear_of(&use);
	g_assert_cmpfloat_with_epsilon(wear.dwpd, 1.08, 1e-12);
	g_assert_cmpfloat_with_epsilon(wear.years, 15 / 1.08, 1e-9);
	kvt_drive_use none = use;
	none.bytes = 0;
	g_assert_cmpfloat(kvt_drive_wear_of(&none).dwpd, ==, 0);
	g_assert_true(isinf(kvt_drive_wear_of(&none).years));
}

static void test_prices(void)
{
	/* 8766 USD over four years, a quarter of it a year for maintenance, used half of the time:
	 * 8766 x (1/4 + 1/4) / 8766 h / (1/2) = 1 USD an hour */
	kvt_price_list list = { .value = { [KVT_PRICE_GPU] = 8766,
					[KVT_PRICE_YEARS] = 4,
					[KVT_PRICE_MAINTENANCE] = 0.25,
					[KVT_PRICE_UTILISATION] = 0.5,
					[KVT_PRICE_KWH] = 0.1,
					[KVT_PRICE_PUE] = 1.5 } };
	g_assert_cmpfloat_with_epsilon(kvt_price_hour(&list, KVT_PRICE_GPU), 1, 1e-12);
	list.value[KVT_PRICE_GPU_HOUR] = 3; /* rent goes before what it would be bought for */
	g_assert_cmpfloat_with_epsilon(kvt_price_hour(&list, KVT_PRICE_GPU), 6, 1e-12);
	const kvt_price_bill bill = { .gpus = 2, .watts = 2000 };
	g_assert_cmpfloat_with_epsilon(kvt_price_fleet_hour(&list, &bill), 12 + 0.3, 1e-12);
}

/* Steps on a line, DRAM over PCIe: t tokens take t x 1 ms or latency + bytes / rate. */
static void test_break_even(void)
{
	write_trace(8, 1000, 4);
	g_autoptr(kvt_plan_settings) s =
		load("[fabric]\nnics = 0\n[step]\nmodel = linear\nper_token = 1ms\n[tier dram]\n"
		     "kind = dram\ncapacity = 100GB\n[plan]\nprices = prices.ini\nttft = 1s\n",
			NULL);
	const kvt_plan_job job = { .replicas = 1, .raise = -1 };
	g_auto(kvt_plan_point) point = { 0 };
	g_assert_true(kvt_plan_point_open(s, &job, &point, NULL));
	const kvt_llm *llm = point.settings->experiment->llm;
	kvt_break_even small = kvt_break_even_of(point.fleet, 1000);
	kvt_break_even large = kvt_break_even_of(point.fleet, 100000);
	g_assert_cmpfloat_with_epsilon(small.compute_s, 1, 1e-9);
	g_assert_cmpfloat_with_epsilon(large.compute_s, 100, 1e-9);
	g_assert_cmpfloat(large.bytes, ==, 2.0 * (double)kvt_llm_kv_bytes(llm, 100000, 2));
	/* two ranks, each over its own link, in chunks that each take a copy */
	double link = kvt_host_link_rate(point.settings->experiment->host,
		point.settings->experiment->host->gpu_lanes, 4, 16);
	g_assert_cmpfloat(large.load_s[0], >, large.bytes / (2 * link));
	g_assert_cmpfloat(large.load_s[0], <, 1.5 * large.bytes / (2 * link));
	/* a token takes a millisecond to compute and some microseconds to load */
	uint64_t tokens = kvt_break_even_tokens(point.fleet, 0, 10000000);
	g_assert_cmpuint(tokens, <=, 2);
	/* the other way round, nothing pays */
	const char *fast[] = { "step.per_token=1ns", NULL };
	g_autoptr(kvt_plan_settings) other = load(
		"[fabric]\nnics = 0\n[step]\nmodel = linear\n[tier dram]\nkind = dram\ncapacity = "
		"100GB\n[plan]\nprices = prices.ini\nttft = 1s\n",
		fast);
	g_auto(kvt_plan_point) quick = { 0 };
	g_assert_true(kvt_plan_point_open(other, &job, &quick, NULL));
	g_assert_cmpuint(kvt_break_even_tokens(quick.fleet, 0, 10000000), ==, UINT64_MAX);
}

/* A spread holds the value, and says what moved it. */
static void test_spread(void)
{
	write_trace(48, 400, 12);
	g_autofree char *text =
		g_strconcat(GRID, "[uncertainty]\ntraffic.rate_scale = 0.8 1.3\n", NULL);
	g_autoptr(kvt_plan_settings) s = load(text, NULL);
	g_autoptr(kvt_plan) plan = kvt_plan_new(s, 2, NULL);
	const kvt_plan_choice *c = &plan->choices[plan->answer];
	g_assert_true(c->sensitivity.spread_known);
	for (int i = 0; i < KVT_PLAN_SPREADS; i++) {
		double value = kvt_plan_figure_of(&c->figures, (kvt_plan_figure)i);
		g_assert_cmpfloat(c->sensitivity.spread[i].low, <=, value);
		g_assert_cmpfloat(c->sensitivity.spread[i].high, >=, value);
	}
	g_assert_cmpstr(c->sensitivity.spread[KVT_PLAN_P95_TTFT].mover, ==, "traffic.rate_scale");
	g_assert_cmpfloat(c->sensitivity.spread[KVT_PLAN_COST].high, >, c->figures.cost);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	folder = g_dir_make_tmp("kvtier-plan-XXXXXX", NULL);
	g_test_add_func("/plan/optimum", test_optimum);
	g_test_add_func("/plan/threads", test_threads);
	g_test_add_func("/plan/bounds", test_bounds);
	g_test_add_func("/plan/new-tokens", test_new_tokens);
	g_test_add_func("/plan/bottlenecks", test_bottlenecks);
	g_test_add_func("/plan/wear", test_wear);
	g_test_add_func("/plan/prices", test_prices);
	g_test_add_func("/plan/break-even", test_break_even);
	g_test_add_func("/plan/spread", test_spread);
	int status = g_test_run();
	static const char *const names[] = { "trace.jsonl", "plan.ini", "prices.ini" };
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *path = g_build_filename(folder, names[i], NULL);
		g_unlink(path);
	}
	g_rmdir(folder);
	g_free(folder);
	return status;
}
