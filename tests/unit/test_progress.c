/* test_progress.c: when the progress line shows, and that it goes away; on a clock of the test. */
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/progress.h"

static int64_t test_now;

static int64_t test_clock(void)
{
	return test_now;
}

/* What is shown when `steps` updates of a total are made over so many seconds. */
static char *shown_over(double seconds, unsigned steps, uint64_t total, bool shown)
{
	char *text = NULL;
	size_t length;
	FILE *stream = open_memstream(&text, &length);
	test_now = 5000;
	kvt_progress *progress = kvt_progress_new_on(stream, shown, test_clock, "replay", total);
	for (unsigned i = 1; i <= steps; i++) {
		test_now = 5000 + (int64_t)(seconds * 1e6 * i / steps);
		kvt_progress_update(progress, i);
	}
	kvt_progress_free(progress);
	fclose(stream);
	return text;
}

static void test_silent(void)
{
	char *quick = shown_over(0.99, 1000, 1000, true);
	char *hidden = shown_over(60, 1000, 1000, false);
	g_assert_cmpstr(quick, ==, "");
	g_assert_cmpstr(hidden, ==, "");
	free(quick);
	free(hidden);
}

static void test_line(void)
{
	char *text = shown_over(2, 2, 4, true);
	g_assert_cmpstr(text, ==,
		"\r\033[Kreplay: 25% (1 of 4), 3 s left\r\033[Kreplay: 50% (2 of 4), 2 s "
		"left\r\033[K");
	free(text);
	text = shown_over(1, 1, 0, true);
	g_assert_cmpstr(text, ==, "\r\033[Kreplay: 1\r\033[K");
	free(text);
}

/* However often it is told, it draws ten times a second at most. */
static void test_rate(void)
{
	char *text = shown_over(3, 30000, 30000, true);
	unsigned lines = 0;
	for (const char *at = text; (at = strstr(at, "replay:")) != NULL; at++)
		lines++;
	g_assert_cmpuint(lines, >, 15);
	g_assert_cmpuint(lines, <=, 21);
	g_assert_true(g_str_has_suffix(text, "\r\033[K"));
	free(text);
}

/* stderr is made a terminal for a moment. */
static void test_wanted(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) {
		g_test_skip("this system lends no terminal");
		return;
	}
	int saved = dup(STDERR_FILENO), terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
	g_assert_cmpint(dup2(terminal, STDERR_FILENO), ==, STDERR_FILENO);
	g_setenv("TERM", "xterm", TRUE);
	g_unsetenv("CI");
	bool at_terminal = kvt_progress_wanted();
	g_setenv("TERM", "dumb", TRUE);
	bool at_dumb = kvt_progress_wanted();
	g_setenv("TERM", "xterm", TRUE);
	g_setenv("CI", "1", TRUE);
	bool under_ci = kvt_progress_wanted();
	g_unsetenv("CI");
	g_assert_cmpint(dup2(open("/dev/null", O_WRONLY), STDERR_FILENO), ==, STDERR_FILENO);
	bool at_file = kvt_progress_wanted();
	dup2(saved, STDERR_FILENO);
	close(terminal);
	close(master);
	g_assert_true(at_terminal);
	g_assert_false(at_dumb);
	g_assert_false(under_ci);
	g_assert_false(at_file);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/progress/silent", test_silent);
	g_test_add_func("/progress/line", test_line);
	g_test_add_func("/progress/rate", test_rate);
	g_test_add_func("/progress/wanted", test_wanted);
	return g_test_run();
}
