/* progress.c: draws the progress line at most ten times a second. It starts no thread. */
#include "sim/base/progress.h"

#include <string.h>
#include <unistd.h>

#include "sim/base/units.h"

/* Microseconds of silence at the start, and between two lines. */
enum { QUIET = G_USEC_PER_SEC, INTERVAL = G_USEC_PER_SEC / 10 };

struct kvt_progress {
	FILE *stream;
	int64_t (*clock)(void);
	char *label;
	uint64_t total;
	int64_t start, next; /* next: when a line may be drawn */
	bool shown, drawn;
};

bool kvt_progress_wanted(void)
{
	const char *terminal = g_getenv("TERM");
	return isatty(STDERR_FILENO) && g_getenv("CI") == NULL && terminal != NULL &&
	       strcmp(terminal, "dumb") != 0;
}

kvt_progress *kvt_progress_new_on(
	FILE *stream, bool shown, int64_t (*clock)(void), const char *label, uint64_t total)
{
	kvt_progress *progress = g_new0(kvt_progress, 1);
	progress->stream = stream;
	progress->clock = clock;
	progress->label = g_strdup(label);
	progress->total = total;
	progress->shown = shown;
	if (shown) {
		progress->start = clock();
		progress->next = progress->start + QUIET;
	}
	return progress;
}

kvt_progress *kvt_progress_new(const char *label, uint64_t total)
{
	return kvt_progress_new_on(
		stderr, kvt_progress_wanted(), g_get_monotonic_time, label, total);
}

static void draw(kvt_progress *progress, uint64_t done, int64_t now)
{
	double elapsed = (double)(now - progress->start) / G_USEC_PER_SEC;
	g_autofree char *count = kvt_unit_format((double)done, KVT_UNIT_COUNT);
	fprintf(progress->stream, "\r\033[K%s: ", progress->label);
	if (progress->total == 0 || done > progress->total) {
		fputs(count, progress->stream);
	} else {
		double share = (double)done / (double)progress->total;
		g_autofree char *total = kvt_unit_format((double)progress->total, KVT_UNIT_COUNT);
		fprintf(progress->stream, "%.0f%% (%s of %s)", 100.0 * share, count, total);
		if (done > 0 && done < progress->total) {
			g_autofree char *left =
				kvt_unit_format(elapsed * (1.0 - share) / share, KVT_UNIT_TIME);
			fprintf(progress->stream, ", %s left", left);
		}
	}
	fflush(progress->stream);
	progress->drawn = true;
}

void kvt_progress_update(kvt_progress *progress, uint64_t done)
{
	if (!progress->shown)
		return;
	int64_t now = progress->clock();
	if (now < progress->next)
		return;
	progress->next = now + INTERVAL;
	draw(progress, done, now);
}

void kvt_progress_free(kvt_progress *progress)
{
	if (progress == NULL)
		return;
	if (progress->drawn) {
		fputs("\r\033[K", progress->stream);
		fflush(progress->stream);
	}
	g_free(progress->label);
	g_free(progress);
}
