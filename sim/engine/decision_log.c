/* decision_log.c: the lines of a log, and whose turn it is when one is followed. */
#include "sim/engine/decision_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/engine/decision_log_internal.h"

static const char first_line[] = "kvtier.decisions/1";

static kvt_decision_log *new_log(const char *name, const char *text)
{
	kvt_decision_log *log = g_new0(kvt_decision_log, 1);
	log->name = g_strdup(name);
	log->text = g_string_new(text);
	log->line = 1;
	log->requests = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	g_queue_init(&log->held);
	return log;
}

kvt_decision_log *kvt_decision_log_new(void)
{
	kvt_decision_log *log = new_log("record", first_line);
	g_string_append_c(log->text, '\n');
	return log;
}

kvt_decision_log *kvt_decision_log_parse(const char *name, const char *text, GError **error)
{
	size_t length = strlen(first_line);
	if (strncmp(text, first_line, length) != 0 || text[length] != '\n') {
		kvt_error_at(error, name, 1, "no log of decisions, expected \"%s\"", first_line);
		return NULL;
	}
	kvt_decision_log *log = new_log(name, text);
	log->follows = true;
	log->at = length + 1;
	return log;
}

kvt_decision_log *kvt_decision_log_load(const char *path, GError **error)
{
	g_autofree char *text = NULL;
	g_autoptr(GError) cause = NULL;
	if (!g_file_get_contents(path, &text, NULL, &cause)) {
		kvt_error_usage(error, "%s", cause->message);
		return NULL;
	}
	return kvt_decision_log_parse(path, text, error);
}

void kvt_decision_log_free(kvt_decision_log *log)
{
	if (!log)
		return;
	g_hash_table_unref(log->requests);
	g_string_free(log->text, TRUE);
	g_free(log->difference);
	g_free(log->name);
	g_free(log);
}

const char *kvt_decision_log_text(const kvt_decision_log *log)
{
	return log->text->str;
}

gboolean kvt_decision_log_write(const kvt_decision_log *log, const char *path, GError **error)
{
	g_autoptr(GError) cause = NULL;
	if (g_file_set_contents(path, log->text->str, (gssize)log->text->len, &cause))
		return TRUE;
	return kvt_error_failed(error, "%s", cause->message);
}

kvt_decision_counts kvt_decision_log_counts(const kvt_decision_log *log)
{
	return log->count;
}

/* The line that comes next, a new string; NULL: the log ends. */
static char *next_line(const kvt_decision_log *log)
{
	const char *line = log->text->str + log->at;
	if (*line == '\0')
		return NULL;
	return g_strndup(line, strcspn(line, "\n"));
}

static void go_on(kvt_decision_log *log, const char *line)
{
	log->at += strlen(line);
	log->at += log->text->str[log->at] == '\n';
	log->line++;
}

/* The engine `does` what is not recorded. */
static void differ(kvt_decision_log *log, const char *does)
{
	if (log->difference)
		return;
	g_autofree char *line = next_line(log);
	g_autofree char *recorded = line ? kvt_error_quote(line) : g_strdup("the end");
	log->difference = g_strdup_printf("the engine %s, expected %s as recorded", does, recorded);
	log->differs_at = log->line + 1;
}

uint64_t kvt_decision_ask(kvt_decision_log *log, const char *request, bool *refused)
{
	log->count.requests++;
	if (!log->follows) {
		g_string_append(log->text, request);
		g_string_append_c(log->text, '\n');
		return ++log->line;
	}
	if (log->difference)
		return ++log->line;
	g_autofree char *recorded = next_line(log);
	size_t length = strlen(request);
	bool same = recorded && strncmp(recorded, request, length) == 0;
	bool was_refused = same && refused && strcmp(recorded + length, " refused") == 0;
	if (!same || (recorded[length] != '\0' && !was_refused)) {
		g_autofree char *quoted = kvt_error_quote(request);
		g_autofree char *does = g_strconcat("asks ", quoted, NULL);
		differ(log, does);
		/* numbers of lines go on to be distinct */
		return ++log->line;
	}
	if (refused)
		*refused = was_refused;
	go_on(log, recorded);
	return log->line;
}

kvt_decision_request *kvt_decision_expect(kvt_decision_log *log, uint64_t line)
{
	kvt_decision_request *request = g_new0(kvt_decision_request, 1);
	request->log = log;
	request->line = line;
	request->held.data = request;
	g_hash_table_insert(log->requests, GSIZE_TO_POINTER(line), request);
	return request;
}

void kvt_decision_forget(kvt_decision_request *request)
{
	kvt_decision_log *log = request->log;
	if (request->ready)
		g_queue_unlink(&log->held, &request->held);
	g_hash_table_remove(log->requests, GSIZE_TO_POINTER(request->line));
}

static void hand_on(kvt_decision_request *request)
{
	kvt_decision_request ended = *request;
	kvt_decision_forget(request);
	ended.log->count.answers++;
	if (!ended.io) {
		ended.callback(ended.arg);
		return;
	}
	kvt_io *io = ended.io;
	uint64_t bytes;
	ended.log->count.ios++;
	io->status = ended.status;
	io->bytes = io->status == 0 && kvt_io_check(io, &bytes) == 0 ? bytes : 0;
	io->done = ended.done;
	io->arg = ended.done_arg;
	io->done(io);
}

/* The request whose answer the record has next; NULL: it has none, or the world has not. */
static kvt_decision_request *find_next(kvt_decision_log *log)
{
	uint64_t number = 0;
	int status = 0;
	g_autofree char *line = next_line(log);
	if (!line || sscanf(line, "> %" SCNu64 " %d", &number, &status) < 1) {
		if (log->held.length > 0)
			differ(log, "asks nothing");
		return NULL;
	}
	kvt_decision_request *request =
		g_hash_table_lookup(log->requests, GSIZE_TO_POINTER(number));
	if (!request) {
		differ(log, "waits for no such answer");
		return NULL;
	}
	if (!request->ready)
		return NULL;
	go_on(log, line);
	request->status = status;
	return request;
}

/* Hands on the answers whose turn has come. */
static void deliver(kvt_decision_log *log)
{
	if (log->delivering)
		return;
	log->delivering = true;
	for (;;) {
		kvt_decision_request *next = log->difference ? NULL : find_next(log);
		if (log->difference)
			next = g_queue_peek_head(&log->held);
		if (!next)
			break;
		hand_on(next);
	}
	log->delivering = false;
}

void kvt_decision_answer(kvt_decision_request *request, int status)
{
	kvt_decision_log *log = request->log;
	request->status = status;
	if (!log->follows) {
		g_string_append_printf(log->text, "> %" PRIu64, request->line);
		g_string_append_printf(log->text, request->io ? " %d\n" : "\n", status);
		log->line++;
		hand_on(request);
		return;
	}
	request->ready = true;
	g_queue_push_tail_link(&log->held, &request->held);
	deliver(log);
}

bool kvt_decision_idle(kvt_decision_log *log)
{
	if (log->held.length == 0)
		return false;
	differ(log, "has no such answer");
	deliver(log);
	return true;
}

gboolean kvt_decision_log_end(const kvt_decision_log *log, GError **error)
{
	if (log->difference)
		return kvt_error_at(
			error, log->name, (unsigned)log->differs_at, "%s", log->difference);
	if (!log->follows || log->text->str[log->at] == '\0')
		return TRUE;
	g_autofree char *line = next_line(log);
	g_autofree char *recorded = kvt_error_quote(line);
	return kvt_error_at(error, log->name, (unsigned)log->line + 1,
		"the engine has ended, expected %s as recorded", recorded);
}
