/*
 * request_csv.c: reads request traces that are tables of lengths: Azure's and BurstGPT's. They say
 * nothing of blocks. request_sources.h says what they hold.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/sim_time.h"
#include "traces/request_builder.h"
#include "traces/request_internal.h"
#include "traces/request_sources.h"

enum { COLUMNS_MOST = 32 };

typedef struct csv {
	const char *path;
	unsigned line;
	FILE *file;
	char *text;
	size_t room;
	char *fields[COLUMNS_MOST]; /* of the line, into text */
	unsigned n_fields;
} csv;

static void csv_clear(csv *table)
{
	free(table->text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(csv, csv_clear)

/* A field without the spaces and quotes around it. */
static char *trim(char *field)
{
	g_strstrip(field);
	size_t length = strlen(field);
	if (length >= 2 && field[0] == '"' && field[length - 1] == '"') {
		field[length - 1] = '\0';
		field++;
	}
	return field;
}

/* Splits the next line that is not empty; false at the end of the file. No source has commas or
 * line breaks within fields. */
static bool next_line(csv *table)
{
	for (ssize_t length; (length = getline(&table->text, &table->room, table->file)) >= 0;) {
		char *at = table->text;
		table->line++;
		if (table->line == 1 && g_str_has_prefix(at, "\xef\xbb\xbf"))
			at += 3;
		at[strcspn(at, "\r\n")] = '\0';
		if (at[strspn(at, " \t")] == '\0')
			continue;
		table->n_fields = 0;
		while (at != NULL && table->n_fields < COLUMNS_MOST) {
			char *field = strsep(&at, ",");
			table->fields[table->n_fields++] = trim(field);
		}
		return true;
	}
	return false;
}

/* The column of that name in the line just read, or -1. */
static int find_column(const csv *table, const char *name)
{
	for (unsigned i = 0; i < table->n_fields; i++)
		if (g_ascii_strcasecmp(table->fields[i], name) == 0)
			return (int)i;
	return -1;
}

/* The columns of those names (NULL-terminated), all of which have to be there. */
static bool find_columns(csv *table, const char *const *names, int *columns, GError **error)
{
	next_line(table);
	for (unsigned i = 0; names[i] != NULL; i++) {
		columns[i] = find_column(table, names[i]);
		if (columns[i] < 0)
			return kvt_error_at(error, table->path, table->line,
				"%s: is missing, expected a column of that name", names[i]);
	}
	return true;
}

/* The text of a column in the line just read. */
static const char *field_of(const csv *table, int column, const char *name, GError **error)
{
	if ((unsigned)column < table->n_fields)
		return table->fields[column];
	kvt_error_at(error, table->path, table->line, "%s: is missing, expected %d columns or more",
		name, column + 1);
	return NULL;
}

static bool read_tokens(
	const csv *table, int column, const char *name, uint32_t *tokens, GError **error)
{
	const char *text = field_of(table, column, name, error);
	if (text == NULL)
		return false;
	char *end;
	double value = g_ascii_strtod(text, &end);
	if (*text == '\0' || *end != '\0' || !(value >= 0 && value < KVT_REQUEST_TOKENS_MAX) ||
		value != floor(value)) {
		g_autofree char *quoted = kvt_error_quote(text);
		return kvt_error_at(error, table->path, table->line,
			"%s: %s, expected a number of tokens of 0 to %u", name, quoted,
			KVT_REQUEST_TOKENS_MAX - 1);
	}
	*tokens = (uint32_t)value;
	return true;
}

/* `digits` of a date or time, then `after`. */
static bool read_part(const char **at, unsigned digits, const char *after, unsigned *value)
{
	*value = 0;
	for (unsigned i = 0; i < digits; i++, (*at)++) {
		if (!g_ascii_isdigit(**at))
			return false;
		*value = *value * 10 + (unsigned)(**at - '0');
	}
	if (*after == '\0')
		return true;
	if (**at == '\0' || strchr(after, **at) == NULL)
		return false;
	(*at)++;
	return true;
}

/* Days since 1970 of a day of the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date
 * Algorithms"). */
static int64_t days_of(unsigned year, unsigned month, unsigned day)
{
	int64_t y = (int64_t)year - (month <= 2);
	int64_t era = y / 400, of_era = y - era * 400;
	int64_t of_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* What follows the seconds: a fraction, in picoseconds, and a zone, in seconds. */
static bool read_rest(const char *at, int64_t *fraction, int64_t *zone)
{
	*fraction = *zone = 0;
	if (*at == '.') {
		int64_t unit = KVT_SECOND / 10;
		for (at++; g_ascii_isdigit(*at); at++, unit /= 10)
			*fraction += unit * (*at - '0');
	}
	if (*at == '+' || *at == '-') {
		int sign = *at++ == '+' ? 1 : -1;
		unsigned hours, minutes;
		if (!read_part(&at, 2, "", &hours))
			return false;
		at += *at == ':';
		if (!read_part(&at, 2, "", &minutes))
			return false;
		*zone = sign * ((int64_t)hours * 3600 + minutes * 60);
	} else if (*at == 'Z') {
		at++;
	}
	return *at == '\0';
}

/* "2023-11-16 18:17:03.9799600", with T for the space or a zone behind, as seconds since 1970 and
 * picoseconds. */
static bool read_date(const char *text, int64_t *seconds, int64_t *fraction)
{
	unsigned year, month, day, hour, minute, second;
	int64_t zone;
	if (!read_part(&text, 4, "-", &year) || !read_part(&text, 2, "-", &month) ||
		!read_part(&text, 2, " T", &day) || !read_part(&text, 2, ":", &hour) ||
		!read_part(&text, 2, ":", &minute) || !read_part(&text, 2, "", &second) ||
		!read_rest(text, fraction, &zone))
		return false;
	if (year < 1970 || month - 1 >= 12 || day - 1 >= 31 || hour >= 24 || minute >= 60 ||
		second > 60)
		return false;
	*seconds = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zone;
	return true;
}

/* Picoseconds from `origin` seconds, which the first line sets. */
static bool since_first(const csv *table, const char *name, const char *text, int64_t seconds,
	int64_t fraction, int64_t *origin, int64_t *arrival, GError **error)
{
	if (*origin == INT64_MIN)
		*origin = seconds;
	int64_t apart = seconds - *origin;
	if (ABS(apart) < KVT_REQUEST_TIME_MAX / KVT_SECOND) {
		*arrival = apart * KVT_SECOND + fraction;
		return true;
	}
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_at(error, table->path, table->line,
		"%s: %s, expected times within 100 days of the first", name, quoted);
}

kvt_request_trace *kvt_request_read_azure(FILE *file, const char *path, GError **error)
{
	static const char *const names[] = { "TIMESTAMP", "ContextTokens", "GeneratedTokens",
		NULL };
	g_auto(csv) table = { .path = path, .file = file };
	g_autofree char *name = g_path_get_basename(path);
	g_autofree char *source = g_strdup_printf("%s (Azure CSV)", name);
	g_autoptr(kvt_request_builder) builder = kvt_request_builder_new(source);
	kvt_request_builder_tenant(builder, name);
	int columns[3];
	int64_t origin = INT64_MIN;
	if (!find_columns(&table, names, columns, error))
		return NULL;
	while (next_line(&table)) {
		kvt_request request = { .after = KVT_REQUEST_NONE, .joins = KVT_REQUEST_NONE };
		int64_t seconds, fraction;
		const char *when = field_of(&table, columns[0], names[0], error);
		if (when == NULL)
			return NULL;
		if (!read_date(when, &seconds, &fraction)) {
			g_autofree char *quoted = kvt_error_quote(when);
			kvt_error_at(error, path, table.line,
				"%s: %s, expected a date and time like \"2023-11-16 "
				"18:17:03.9799600\"",
				names[0], quoted);
			return NULL;
		}
		if (!since_first(&table, names[0], when, seconds, fraction, &origin,
			    &request.arrival, error) ||
			!read_tokens(&table, columns[1], names[1], &request.input_tokens, error) ||
			!read_tokens(&table, columns[2], names[2], &request.output_tokens, error))
			return NULL;
		request.session = kvt_request_builder_session(builder);
		kvt_request_builder_add(builder, &request);
	}
	return kvt_request_builder_finish(builder, 0, path, error);
}

/* The number that the map gives to a text, a new one from `make` when it is new. */
static uint32_t number_of(GHashTable *map, const char *text, kvt_request_builder *builder,
	uint32_t (*make)(kvt_request_builder *builder, const char *text))
{
	gpointer number;
	if (!g_hash_table_lookup_extended(map, text, NULL, &number)) {
		number = GUINT_TO_POINTER(make(builder, text));
		g_hash_table_insert(map, g_strdup(text), number);
	}
	return GPOINTER_TO_UINT(number);
}

static uint32_t make_session(kvt_request_builder *builder, const char *text)
{
	return kvt_request_builder_session(builder);
}

typedef struct burstgpt {
	csv table;
	kvt_request_builder *builder;
	int columns[4], session; /* the last is -1 when there is none */
	int64_t origin;
	GHashTable *tenants, *sessions;
} burstgpt;

static const char *const burstgpt_names[] = { "Timestamp", "Request tokens", "Response tokens",
	"Log Type", NULL };

static bool add_burstgpt(burstgpt *b, GError **error)
{
	const csv *table = &b->table;
	kvt_request request = { .after = KVT_REQUEST_NONE, .joins = KVT_REQUEST_NONE };
	const char *when = field_of(table, b->columns[0], burstgpt_names[0], error);
	const char *type = field_of(table, b->columns[3], burstgpt_names[3], error);
	if (when == NULL || type == NULL)
		return false;
	char *end;
	double seconds = g_ascii_strtod(when, &end);
	if (*when == '\0' || *end != '\0' || !(fabs(seconds) < 1e12)) {
		g_autofree char *quoted = kvt_error_quote(when);
		return kvt_error_at(error, table->path, table->line, "%s: %s, expected seconds",
			burstgpt_names[0], quoted);
	}
	double whole = floor(seconds);
	if (!since_first(table, burstgpt_names[0], when, (int64_t)whole,
		    (int64_t)llrint((seconds - whole) * 1e12), &b->origin, &request.arrival,
		    error) ||
		!read_tokens(
			table, b->columns[1], burstgpt_names[1], &request.input_tokens, error) ||
		!read_tokens(
			table, b->columns[2], burstgpt_names[2], &request.output_tokens, error))
		return false;
	const char *session =
		b->session >= 0 ? field_of(table, b->session, "Session ID", error) : "";
	if (session == NULL)
		return false;
	request.session = *session == '\0'
				  ? kvt_request_builder_session(b->builder)
				  : number_of(b->sessions, session, b->builder, make_session);
	request.tenant = number_of(b->tenants, type, b->builder, kvt_request_builder_tenant);
	kvt_request_builder_add(b->builder, &request);
	return true;
}

kvt_request_trace *kvt_request_read_burstgpt(FILE *file, const char *path, GError **error)
{
	g_autofree char *name = g_path_get_basename(path);
	g_autofree char *source = g_strdup_printf("%s (BurstGPT CSV)", name);
	g_autoptr(kvt_request_builder) builder = kvt_request_builder_new(source);
	g_autoptr(GHashTable) tenants =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	g_autoptr(GHashTable) sessions =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	burstgpt b = { .table = { .path = path, .file = file }, .builder = builder };
	b.origin = INT64_MIN;
	b.tenants = tenants;
	b.sessions = sessions;
	bool good = find_columns(&b.table, burstgpt_names, b.columns, error);
	b.session = find_column(&b.table, "Session ID");
	while (good && next_line(&b.table))
		good = add_burstgpt(&b, error);
	csv_clear(&b.table);
	return good ? kvt_request_builder_finish(builder, 0, path, error) : NULL;
}
