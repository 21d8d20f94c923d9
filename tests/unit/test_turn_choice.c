/* test_turn_choice.c: turns that load the pages of a choice: what they read, what that takes beside
 * an exact reload, and that waiting for queries and sketches costs time. */
#include <glib.h>
#include <glib/gstdio.h>

#include "sim/base/error.h"
#include "sim/engine/turn.h"

static char *curve; /* a file: half of the pages at any length, or a share of 1 for chooser "all" */

static const char *const scout = "[model]\nname = llama-4-scout-17b-16e-fp8\n"
				 "[gpu]\nname = l40s\ncount = 4\n"
				 "[context]\ntokens = 400000\n";

static kvt_turn run(const char *chooser, bool ahead, unsigned sketch_bytes, const char *more)
{
	g_autofree char *text = g_strdup_printf(
		"%s[select]\ncurve = %s\nchooser = %s\nahead = %s\nsketch_bytes = %uB\n%s", scout,
		curve, chooser, ahead ? "yes" : "no", sketch_bytes, more);
	g_autoptr(GError) error = NULL;
	kvt_config *config = kvt_config_parse("test.ini", chooser ? text : scout, &error);
	g_assert_no_error(error);
	g_autoptr(kvt_experiment) experiment = kvt_experiment_new(config, &error);
	g_assert_no_error(error);
	kvt_turn turn;
	kvt_turn_run(experiment, KVT_RUN_RESUME, NULL, &turn, &error);
	g_assert_no_error(error);
	return turn;
}

/* 12 global layers of 4,096 B a token; 36 local ones that hold the last 8,192-token chunk's. */
static const uint64_t global = UINT64_C(4096) * 12 * 400000;

static void test_bytes(void)
{
	kvt_turn exact = run(NULL, false, 0, ""), half = run("half", true, 0, "");
	uint64_t local = exact.read_bytes[0] - global;
	g_assert_false(exact.chooses);
	g_assert_true(half.chooses);
	g_assert_cmpfloat(half.selectivity.share, ==, 0.5);
	g_assert_true(half.selectivity.extrapolated);
	g_assert_cmpuint(half.read_bytes[0], ==, local + global / 2);
	g_assert_cmpuint(half.loads, ==, exact.loads);
	/* 37 bytes a token and each of the 8 KV heads, of all pages */
	kvt_turn sketched = run("half", false, 37, "");
	g_assert_cmpuint(
		sketched.read_bytes[0], ==, local + global / 2 + UINT64_C(37) * 8 * 12 * 400000);
	/* less of HBM, too */
	g_assert_cmpuint(half.hbm_peak, <, exact.hbm_peak - global / 2 + 10000000);
}

static void test_time(void)
{
	kvt_turn exact = run(NULL, false, 0, ""), all = run("all", true, 0, "");
	kvt_turn half = run("half", true, 0, ""), late = run("half", false, 0, "");
	kvt_turn sketched = run("half", false, 37, "");
	/* all pages, each KV head's apart, are an exact reload */
	g_assert_cmpfloat_with_epsilon(all.ttft / exact.ttft, 1, 0.02);
	g_assert_cmpuint(all.read_bytes[0], ==, exact.read_bytes[0]);
	g_assert_cmpfloat(half.ttft, <, exact.ttft);
	g_assert_cmpfloat(half.ttft, >, exact.ttft / 2);
	/* what cannot be loaded ahead is waited for, and so are sketches */
	g_assert_cmpfloat(late.ttft, >, half.ttft * 1.02);
	g_assert_cmpfloat(sketched.ttft, >, late.ttft);
	g_assert_cmpfloat(late.work[KVT_WORK_ATTENTION], <, exact.work[KVT_WORK_ATTENTION]);
}

/* Single pages cost more device I/Os than runs, where drives have few to give. */
static void test_scattered(void)
{
	const char *slow = "[host]\nio_rate = 1M/s\n";
	kvt_turn singles = run("singles", true, 0, slow), half = run("half", true, 0, slow);
	g_assert_cmpuint(singles.read_bytes[0], ==, half.read_bytes[0]);
	g_assert_cmpfloat(singles.ttft, >, 2 * half.ttft);
}

/* What does not fit streams, in as many windows fewer as there are fewer pages. */
static void test_streamed(void)
{
	const char *always = "[stream]\nmode = always\nwindow_tokens = 8192\n";
	kvt_turn all = run("all", true, 0, always), half = run("half", true, 0, always);
	kvt_turn late = run("half", false, 37, always);
	g_assert_true(all.streamed && half.streamed && late.streamed);
	/* 49 windows a global layer, or 25, and 36 local layers */
	g_assert_cmpuint(all.loads, ==, 12 * 49 + 36);
	g_assert_cmpuint(half.loads, ==, 12 * 25 + 36);
	g_assert_cmpuint(late.loads, ==, half.loads);
	g_assert_cmpfloat(half.ttft, <, all.ttft);
	g_assert_cmpfloat(half.ttft, <, late.ttft);
}

/* A tier that fails costs time, whether sketches or pages were on their way, and ends the turn only
 * where nothing may be recomputed. */
static void test_faults(void)
{
	for (unsigned seed = 1; seed <= 20; seed++) {
		bool fails = seed > 10, always = seed % 2 == 1;
		g_autofree char *text =
			g_strdup_printf("%s[experiment]\nseed = %u\n[select]\ncurve = %s\n"
					"chooser = half\nsketch_bytes = 37B\n[fault]\n"
					"read_error_rate = %u%%\n",
				scout, seed, curve, always ? 100 : 10);
		g_autoptr(GError) error = NULL;
		kvt_config *config = kvt_config_parse("test.ini", text, &error);
		g_autoptr(kvt_experiment) experiment = kvt_experiment_new(config, &error);
		g_assert_no_error(error);
		experiment->lost_pages = fails ? KVT_LOST_FAIL : KVT_LOST_RECOMPUTE;
		kvt_turn turn;
		if (!kvt_turn_run(experiment, KVT_RUN_RESUME, NULL, &turn, &error)) {
			g_assert_true(fails);
			g_assert_error(error, KVT_ERROR, KVT_ERROR_FAILED);
			continue;
		}
		g_assert_false(fails && always);
		if (!fails)
			g_assert_cmpuint(turn.lost.rereads, >, 0);
	}
}

static void test_refused(void)
{
	g_autofree char *text = g_strdup_printf("%s[select]\ncurve = nowhere.csv\n", scout);
	g_autoptr(GError) error = NULL;
	kvt_config *config = kvt_config_parse("test.ini", text, NULL);
	g_assert_null(kvt_experiment_new(config, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_true(g_str_has_prefix(error->message, "./nowhere.csv: cannot be read ("));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_autofree char *folder = g_dir_make_tmp("kvtier-XXXXXX", NULL);
	curve = g_build_filename(folder, "curve.csv", NULL);
	g_assert_true(g_file_set_contents(curve,
		"chooser,layer,scope,mass,kind,tokens,share,run_pages,mass_kept,trace\n"
		"half,7,token,0.99,recorded,1000,0.5,4,0.99,a\nall,7,token,0.99,recorded,1000,1,4,"
		"1,a\n"
		"singles,7,token,0.99,recorded,1000,0.5,1,0.99,a\n",
		-1, NULL));
	g_test_add_func("/turn-choice/bytes", test_bytes);
	g_test_add_func("/turn-choice/time", test_time);
	g_test_add_func("/turn-choice/scattered", test_scattered);
	g_test_add_func("/turn-choice/streamed", test_streamed);
	g_test_add_func("/turn-choice/faults", test_faults);
	g_test_add_func("/turn-choice/refused", test_refused);
	int status = g_test_run();
	g_remove(curve);
	g_rmdir(folder);
	g_free(curve);
	return status;
}
