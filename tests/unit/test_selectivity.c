/* test_selectivity.c: curves of pages by context length: what is read, what lies between and beyond
 * recordings, and what is refused. */
#include <glib.h>

#include "sim/base/error.h"
#include "sim/engine/selectivity.h"

#define HEADER "chooser,layer,scope,mass,kind,tokens,share,run_pages,mass_kept,trace\n"

static const kvt_selectivity_key slap_7 = { .chooser = "slap", .layers = "7", .mass = 0.99 };

static const char curves[] =
	"# measured\n\n" HEADER "slap,7,token,0.99,recorded,1000,0.5,4,0.99,a\n"
	"slap,7,token,0.99,recorded,16000,0.3,2,0.988,a\n"
	"slap,7,token,0.99,recorded,4000,0.3,3,0.98,a\n"
	"slap,7,token,0.99,recorded,4000,0.5,5,1,b\n"
	"slap,7,question,0.99,recorded,4000,0.9,9,0.99,a\n"
	"slap,7,token,0.9,recorded,4000,0.1,1,0.9,a\n"
	"slap,3,token,0.99,recorded,1000,0.9,9,0.97,a\n"
	"slap,3,token,0.99,recorded,4000,0.8,8,0.97,a\n"
	"oracle,7,token,0.99,recorded,4000,0.2,2,0.99,a\n";

static void check_at(const kvt_selectivity *selectivity, double tokens, double share,
	double run_pages, bool extrapolated)
{
	kvt_selectivity_point at = kvt_selectivity_at(selectivity, tokens);
	g_assert_cmpfloat_with_epsilon(at.share, share, 1e-12);
	g_assert_cmpfloat_with_epsilon(at.run_pages, run_pages, 1e-12);
	g_assert_true(at.extrapolated == extrapolated);
}

static kvt_selectivity *parse(const kvt_selectivity_key *key)
{
	g_autoptr(GError) error = NULL;
	kvt_selectivity *selectivity = kvt_selectivity_parse("c.csv", curves, key, &error);
	g_assert_no_error(error);
	return selectivity;
}

static void test_at(void)
{
	g_autoptr(kvt_selectivity) one = parse(&slap_7);
	check_at(one, 1000, 0.5, 4, false);
	check_at(one, 2000, 0.45, 4, false); /* half way, on a logarithmic scale */
	check_at(one, 4000, 0.4, 4, false);  /* two recordings */
	check_at(one, 8000, 0.35, 3, false);
	check_at(one, 16000, 0.3, 2, false);
	check_at(one, 16001, 0.3, 2, true);
	check_at(one, 1e7, 0.3, 2, true);
	check_at(one, 999, 0.5, 4, true);
	g_assert_cmpfloat(kvt_selectivity_at(one, 10).recorded_to, ==, 16000);
	g_assert_cmpfloat_with_epsilon(kvt_selectivity_at(one, 4000).mass_kept, 0.99, 1e-12);
}

/* Two kinds of layers: shares and runs are means, and the shorter recording is the limit. */
static void test_layers(void)
{
	kvt_selectivity_key key = slap_7;
	key.layers = "3, 7";
	g_autoptr(kvt_selectivity) both = parse(&key);
	/* 0.9 in runs of 9, and 0.5 in runs of 4: 0.1 and 0.125 runs a page */
	check_at(both, 1000, 0.7, 1.4 / 0.225, false);
	check_at(both, 8000, 0.575, 1.15 / (0.1 + 0.35 / 3), true);
	g_assert_cmpfloat(kvt_selectivity_at(both, 10).recorded_to, ==, 4000);
}

/* Grown traces go on where recordings end, and nowhere else. */
static void test_grown(void)
{
	static const char text[] = HEADER "slap,7,token,0.99,recorded,1000,0.5,4,0.99,a\n"
					  "slap,7,token,0.99,grown,1000,0.9,4,0.99,a\n"
					  "slap,7,token,0.99,grown,64000,0.1,2,0.99,a\n"
					  "slap,7,token,0.99,recorded,4000,0.4,4,0.99,a\n"
					  "slap,7,token,0.99,grown,16000,0.1,4,0.99,a\n"
					  "slap,7,token,0.99,grown,16000,0.3,4,0.99,b\n";
	kvt_selectivity_key key = slap_7;
	for (int grown = 0; grown < 2; grown++) {
		key.grown = grown;
		g_autoptr(kvt_selectivity) curve = kvt_selectivity_parse("c.csv", text, &key, NULL);
		check_at(curve, 1000, 0.5, 4, false);
		check_at(curve, 4000, 0.4, 4, false);
		check_at(curve, 8000, grown ? 0.3 : 0.4, 4, true);
		check_at(curve, 16000, grown ? 0.2 : 0.4, 4, true);
		check_at(curve, 1e7, grown ? 0.1 : 0.4, grown ? 2 : 4, true);
		g_assert_cmpfloat(kvt_selectivity_at(curve, 1e7).recorded_to, ==, 4000);
	}
}

static void test_keys(void)
{
	const struct {
		kvt_selectivity_key key;
		double share;
	} cases[] = {
		{ { "oracle", "7", KVT_CHOICE_TOKEN, 0.99, false }, 0.2 },
		{ { "slap", "7", KVT_CHOICE_QUESTION, 0.99, false }, 0.9 },
		{ { "slap", "7", KVT_CHOICE_TOKEN, 0.9, true }, 0.1 },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(kvt_selectivity) curve = parse(&cases[i].key);
		g_assert_cmpfloat(kvt_selectivity_at(curve, 4000).share, ==, cases[i].share);
	}
}

static void check_refused(const kvt_selectivity_key *key, const char *text, const char *message)
{
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_selectivity_parse("c.csv", text, key, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_cmpstr(error->message, ==, message);
}

static void test_refused(void)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "chooser,layer\n", "c.csv:1: scope: there is no such column, expected a header "
				     "with it" },
		{ "\nmass,mass,chooser,layer,scope\n",
			"c.csv:2: mass: the column is there twice, expected it once" },
		{ HEADER "slap,7,token,0.99,recorded,1000,0.5\n",
			"c.csv:2: 7 fields, expected 10 as in the header" },
		{ "#\n" HEADER "slap,7,token,0.99,recorded,1000,1.5,4,0.99,a\n",
			"c.csv:3: share: \"1.5\", expected a number from 1e-09 to 1" },
		{ HEADER "slap,7,token,0.99,recorded,1000,nan,4,0.99,a\n",
			"c.csv:2: share: \"nan\", expected a number from 1e-09 to 1" },
		{ HEADER "slap,7,token,0.99,recorded,0,0.5,4,0.99,a\n",
			"c.csv:2: tokens: \"0\", expected a number from 1 to 1e+12" },
		{ HEADER "slap,7,token,0.99,recorded,1000,0.5,0.5,0.99,a\n",
			"c.csv:2: run_pages: \"0.5\", expected a number from 1 to 1e+09" },
		{ HEADER "slap,7,token,0.99,measured,1000,0.5,4,0.99,a\n",
			"c.csv:2: kind: \"measured\", expected recorded or grown" },
		{ HEADER "slap,7,step,0.99,recorded,1000,0.5,4,0.99,a\n",
			"c.csv:2: scope: \"step\", expected token or question" },
		{ HEADER,
			"c.csv: no curve of slap of layer 7 at 99%, a token, expected one that is "
			"there, but there is none at all" },
		{ HEADER "oracle,7,token,0.99,recorded,1000,0.5,4,0.99,a\n",
			"c.csv: no curve of slap of layer 7 at 99%, a token, expected one that is "
			"there, such as oracle of layer 7 at 99%, a token" },
		{ "", "c.csv: no curve of slap of layer 7 at 99%, a token, expected one that is "
		      "there, but there is none at all" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
		check_refused(&slap_7, cases[i].text, cases[i].message);
	kvt_selectivity_key key = slap_7;
	key.layers = "7 x";
	check_refused(&key, curves,
		"[select] layers: \"7 x\", expected numbers of recorded layers such as 3 7");
	key.layers = " ";
	check_refused(&key, curves, "[select] layers: there is none, expected numbers such as 3 7");
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_selectivity_load("/nowhere/c.csv", &slap_7, &error));
	g_assert_true(g_str_has_prefix(error->message, "/nowhere/c.csv: cannot be read ("));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/selectivity/at", test_at);
	g_test_add_func("/selectivity/layers", test_layers);
	g_test_add_func("/selectivity/grown", test_grown);
	g_test_add_func("/selectivity/keys", test_keys);
	g_test_add_func("/selectivity/refused", test_refused);
	return g_test_run();
}
