/* claims.c: reads published figures and [claim] sections, runs what they need, compares. */
#include "sim/engine/claims.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/engine/peak_analysis.h"

static const char *const metric_names[] = { "resume.ttft", "resume.tokens_per_s", "cold.ttft",
	"cold.tokens_per_s", "speedup", "native_tokens", "extension", "longest_context",
	"peak.prefill", "peak.decode", "peak.switch", "peak.users", NULL };

const kvt_option kvt_claim_options[] = {
	{ "metric", KVT_OPTION_CHOICE, 0, offsetof(kvt_claim, metric), NULL, 0, 0, metric_names,
		"what of the run is compared with the published figure" },
	{ "fitted", KVT_OPTION_BOOL, 0, offsetof(kvt_claim, fitted), "no", 0, 0, NULL,
		"whether a constant was fitted to this figure" },
	{ "note", KVT_OPTION_STRING, 0, offsetof(kvt_claim, note), "", 0, 0, NULL,
		"what a reader should know" },
	{ "limit", KVT_OPTION_TIME, 0, offsetof(kvt_claim, limit), "1s", 0, 3600, NULL,
		"of longest_context: the resume TTFT that is allowed" },
	{ "extended", KVT_OPTION_INTEGER, 0, offsetof(kvt_claim, extended), "10M", 1, 1e12, NULL,
		"of extension: tokens that are compared with what fits" },
	{ 0 },
};

void kvt_claim_free(kvt_claim *claim)
{
	if (!claim)
		return;
	kvt_option_clear(kvt_claim_options, claim);
	g_free(claim->id);
	g_free(claim->unit);
	g_free(claim->system);
	g_free(claim->text);
	g_free(claim->explanation);
	g_free(claim->experiment);
	g_free(claim);
}

static bool unit_scale(const char *unit, double *scale)
{
	static const struct {
		const char *unit;
		double scale;
	} units[] = { { "s", 1 }, { "ms", 1e-3 }, { "min", 60 }, { "h", 3600 }, { "x", 1 },
		{ "tok/s", 1 }, { "K tokens", 1e3 }, { "users", 1 } };
	for (unsigned i = 0; i < G_N_ELEMENTS(units); i++) {
		if (g_str_equal(unit, units[i].unit)) {
			*scale = units[i].scale;
			return true;
		}
	}
	return false;
}

/* Fills the published part of a claim from claims.csv: id,seed,system,claim,value,unit,... */
static bool read_published(const char *path, kvt_claim *claim, GError **error)
{
	g_autofree char *text = NULL;
	if (!g_file_get_contents(path, &text, NULL, error)) {
		g_prefix_error(error, "%s: ", path);
		return false;
	}
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	for (unsigned i = 1; lines[i]; i++) {
		g_auto(GStrv) fields = g_strsplit(lines[i], ",", 7);
		if (g_strv_length(fields) < 6 || !g_str_equal(fields[0], claim->id))
			continue;
		char *end;
		claim->published_raw = g_ascii_strtod(fields[4], &end);
		if (end == fields[4] || *end != '\0')
			return kvt_error_at(error, path, i + 1,
				"value of %s: \"%s\" is not a number, expected one to compare with",
				claim->id, fields[4]);
		if (!unit_scale(fields[5], &claim->unit_scale))
			return kvt_error_at(error, path, i + 1,
				"unit of %s: \"%s\" is not known, expected s, ms, min, h, x, "
				"tok/s or K tokens",
				claim->id, fields[5]);
		claim->system = g_strdup(fields[2]);
		claim->text = g_strdup(fields[3]);
		claim->unit = g_strdup(fields[5]);
		return true;
	}
	return kvt_error_at(
		error, path, 0, "there is no claim \"%s\", expected its line", claim->id);
}

static bool read_claims(
	kvt_config *config, const char *published, GPtrArray *claims, GError **error)
{
	g_autofree const char **names = kvt_config_section_names(config, "claim");
	g_autofree char *experiment = g_path_get_basename(kvt_config_path(config));
	for (unsigned i = 0; names[i]; i++) {
		kvt_claim *claim = g_new0(kvt_claim, 1);
		g_ptr_array_add(claims, claim);
		claim->id = g_strdup(names[i] + strlen("claim "));
		claim->experiment = g_strdup(experiment);
		kvt_section *section = kvt_config_section(config, names[i]);
		if (!kvt_section_read(section, kvt_claim_options, claim, TRUE, error) ||
			!read_published(published, claim, error))
			return false;
	}
	return true;
}

typedef struct evaluation {
	const char *path;
	const char *const *overrides;
	kvt_claim_run run;
} evaluation;

static bool needs_resume(int metric)
{
	return metric == KVT_METRIC_RESUME_TTFT || metric == KVT_METRIC_RESUME_TOKENS_PER_S ||
	       metric == KVT_METRIC_SPEEDUP;
}

static bool needs_cold(int metric)
{
	return metric == KVT_METRIC_COLD_TTFT || metric == KVT_METRIC_COLD_TOKENS_PER_S ||
	       metric == KVT_METRIC_SPEEDUP;
}

/* The experiment with the overrides and, when not NULL, two more settings. */
static kvt_experiment *load(
	const evaluation *ev, const char *more, const char *last, GError **error)
{
	g_autoptr(GPtrArray) sets = g_ptr_array_new();
	for (unsigned i = 0; ev->overrides && ev->overrides[i]; i++)
		g_ptr_array_add(sets, (gpointer)ev->overrides[i]);
	if (more)
		g_ptr_array_add(sets, (gpointer)more);
	if (last)
		g_ptr_array_add(sets, (gpointer)last);
	g_ptr_array_add(sets, NULL);
	return kvt_experiment_load(ev->path, (const char *const *)sets->pdata, error);
}

/* The most tokens whose resume is within the limit, to one part in 500. */
static bool longest_context(const evaluation *ev, const char *more, const kvt_claim *claim,
	double *tokens, GError **error)
{
	double low = 0, high = 1 << 14, limit = kvt_time_to_seconds(claim->limit);
	bool bounded = false;
	while (!bounded || high - low > high / 500) {
		double middle = bounded ? (low + high) / 2 : high;
		g_autofree char *set =
			g_strdup_printf("context.tokens=%" G_GUINT64_FORMAT, (uint64_t)middle);
		g_autoptr(kvt_experiment) experiment = load(ev, more, set, error);
		kvt_turn turn;
		if (!experiment || !kvt_turn_run(experiment, KVT_RUN_RESUME, NULL, &turn, error))
			return false;
		if (turn.ttft <= limit) {
			low = middle;
			if (!bounded)
				high *= 2;
			if (high > 1e12)
				return kvt_error_failed(error,
					"%s: any context resumes within the limit", ev->path);
		} else {
			high = middle;
			bounded = true;
		}
	}
	*tokens = low;
	return true;
}

/* Runs what the claims need with one more setting (NULL: none), and writes each claim's figure in
 * base units to values[]. */
static bool evaluate(
	evaluation *ev, const char *more, const GPtrArray *claims, double *values, GError **error)
{
	g_autoptr(kvt_experiment) experiment = load(ev, more, NULL, error);
	if (!experiment)
		return false;
	bool resume = false, cold = false;
	for (unsigned i = 0; i < claims->len; i++) {
		const kvt_claim *claim = claims->pdata[i];
		resume |= needs_resume(claim->metric);
		cold |= needs_cold(claim->metric);
	}
	ev->run = (kvt_claim_run){ .has_resume = resume, .has_cold = cold };
	if (resume && !kvt_turn_run(experiment, KVT_RUN_RESUME, NULL, &ev->run.resume, error))
		return false;
	if (cold && !kvt_turn_run(experiment, KVT_RUN_COLD, NULL, &ev->run.cold, error))
		return false;
	for (unsigned i = 0; i < claims->len; i++) {
		const kvt_claim *claim = claims->pdata[i];
		kvt_peak peak = kvt_peak_analyse(experiment, false);
		switch ((kvt_metric)claim->metric) {
		case KVT_METRIC_RESUME_TTFT:
			values[i] = ev->run.resume.ttft;
			break;
		case KVT_METRIC_RESUME_TOKENS_PER_S:
			values[i] = ev->run.resume.tokens_per_s;
			break;
		case KVT_METRIC_COLD_TTFT:
			values[i] = ev->run.cold.ttft;
			break;
		case KVT_METRIC_COLD_TOKENS_PER_S:
			values[i] = ev->run.cold.tokens_per_s;
			break;
		case KVT_METRIC_SPEEDUP:
			values[i] = ev->run.cold.ttft / ev->run.resume.ttft;
			break;
		case KVT_METRIC_NATIVE_TOKENS:
		case KVT_METRIC_EXTENSION: {
			g_autoptr(kvt_system) system = kvt_system_new(experiment, NULL, error);
			if (!system)
				return false;
			values[i] = (double)kvt_system_native_tokens(system);
			if (claim->metric == KVT_METRIC_EXTENSION)
				values[i] = (double)claim->extended / values[i];
			break;
		}
		case KVT_METRIC_LONGEST_CONTEXT:
			if (!longest_context(ev, more, claim, &values[i], error))
				return false;
			break;
		case KVT_METRIC_PEAK_PREFILL:
			values[i] = peak.prefill;
			break;
		case KVT_METRIC_PEAK_DECODE:
			values[i] = peak.decode;
			break;
		case KVT_METRIC_PEAK_SWITCH:
			values[i] = peak.context_switch;
			break;
		case KVT_METRIC_PEAK_USERS:
			values[i] = peak.users;
			break;
		}
	}
	return true;
}

/* Repeats the run with each end of each [uncertainty] setting, and widens low and high. */
static bool spread_claims(evaluation *ev, kvt_config *config, GPtrArray *claims, GError **error)
{
	kvt_section *section = kvt_config_section(config, "uncertainty");
	if (!section)
		return true;
	g_autofree const char **keys = kvt_section_keys(section);
	g_autofree double *values = g_new0(double, claims->len);
	for (unsigned k = 0; keys[k]; k++) {
		g_auto(GStrv) ends = g_strsplit_set(kvt_section_text(section, keys[k]), " \t", -1);
		for (unsigned e = 0; ends[e]; e++) {
			if (ends[e][0] == '\0')
				continue;
			g_autofree char *set = g_strconcat(keys[k], "=", ends[e], NULL);
			if (!evaluate(ev, set, claims, values, error)) {
				g_prefix_error(error, "[uncertainty] %s: ", set);
				return false;
			}
			for (unsigned i = 0; i < claims->len; i++) {
				kvt_claim *claim = claims->pdata[i];
				claim->low = MIN(claim->low, values[i]);
				claim->high = MAX(claim->high, values[i]);
			}
		}
	}
	return true;
}

static void append_quantity(GString *text, const char *before, double value, kvt_unit unit)
{
	g_autofree char *formatted = kvt_unit_format(value, unit);
	g_string_append_printf(text, "%s%s", before, formatted);
}

/* The all-reduce rate at which a fully exposed prefill takes exactly what was published. */
static void explain_baseline(const kvt_claim_run *run, kvt_claim *claim, const evaluation *ev)
{
	g_autoptr(kvt_experiment) experiment = load(ev, "prefill.overlap=none", NULL, NULL);
	kvt_turn turn;
	if (!experiment || !kvt_turn_run(experiment, KVT_RUN_COLD, NULL, &turn, NULL))
		return;
	double reduce = turn.work[KVT_WORK_ALL_REDUCE];
	double rest = turn.ttft - reduce;
	double published = claim->published_raw * claim->unit_scale;
	GString *text = g_string_new(NULL);
	append_quantity(text, "without all-reduce ", rest, KVT_UNIT_TIME);
	append_quantity(text, ", all-reduce as measured ", reduce, KVT_UNIT_TIME);
	if (published > rest) {
		double bytes = (double)(2 * experiment->llm->n_layers) *
			       (double)(experiment->context_tokens + experiment->prompt_tokens) *
			       (double)experiment->llm->hidden * 2;
		append_quantity(text, "; the published figure implies exposed all-reduce at ",
			bytes / (published - rest), KVT_UNIT_RATE);
	}
	if (run->cold.streamed)
		append_quantity(text, "; for pages that stream back and for all-reduces GPUs wait ",
			run->cold.waiting, KVT_UNIT_TIME);
	claim->explanation = g_string_free(text, FALSE);
}

/* The share of the pages that would have to lie on the client's own drives, past the fabric, for
 * the published time; negative when no share does it. */
static double local_share_needed(const evaluation *ev, double published)
{
	double low = 0, high = 0.6;
	while (high - low > 0.002) {
		double middle = (low + high) / 2;
		char number[G_ASCII_DTOSTR_BUF_SIZE];
		g_ascii_formatd(number, sizeof number, "%.4f", middle);
		g_autofree char *set = g_strconcat("storage.second_share=", number, NULL);
		g_autoptr(kvt_experiment) experiment = load(ev, set, NULL, NULL);
		kvt_turn turn;
		if (!experiment || !kvt_turn_run(experiment, KVT_RUN_RESUME, NULL, &turn, NULL))
			return -1;
		if (turn.ttft > published)
			low = middle;
		else
			high = middle;
	}
	return high < 0.599 ? high : -1;
}

static void explain_resume(const evaluation *ev, const kvt_claim_run *run, kvt_claim *claim)
{
	double published = claim->published_raw * claim->unit_scale, bytes = 0;
	for (unsigned i = 0; i < KVT_SYSTEM_STORES_MAX; i++)
		bytes += (double)run->resume.read_bytes[i];
	GString *text = g_string_new(NULL);
	append_quantity(text, "", bytes, KVT_UNIT_BYTES);
	append_quantity(text, "; the published time implies ", bytes / published, KVT_UNIT_RATE);
	append_quantity(text, ", simulated ", bytes / run->resume.ttft, KVT_UNIT_RATE);
	if (run->resume.streamed)
		g_string_append(text, ", in windows");
	if (run->resume.ttft > 1.1 * published && !run->resume.streamed) {
		double share = local_share_needed(ev, published);
		if (share > 0)
			g_string_append_printf(text,
				"; it needs %.0f%% of the pages on the client's own drives",
				100 * share);
	}
	claim->explanation = g_string_free(text, FALSE);
}

static void explain(const evaluation *ev, const kvt_claim_run *run, kvt_claim *claim)
{
	if (claim->metric == KVT_METRIC_COLD_TTFT) {
		explain_baseline(run, claim, ev);
	} else if (claim->metric == KVT_METRIC_RESUME_TTFT) {
		explain_resume(ev, run, claim);
	} else if (claim->metric == KVT_METRIC_RESUME_TOKENS_PER_S) {
		GString *text = g_string_new(NULL);
		append_quantity(text, "TPOT ", run->resume.tpot, KVT_UNIT_TIME);
		claim->explanation = g_string_free(text, FALSE);
	}
}

bool kvt_claims_evaluate(const char *path, const char *published, const char *const *overrides,
	bool spread, GPtrArray *claims, kvt_claim_run *run, GError **error)
{
	evaluation ev = { .path = path, .overrides = overrides };
	g_autoptr(kvt_config) config = kvt_config_load(path, error);
	if (!config)
		return false;
	g_autoptr(GPtrArray) own = g_ptr_array_new();
	bool ok = read_claims(config, published, own, error);
	g_autofree double *values = g_new0(double, own->len + 1);
	ok = ok && evaluate(&ev, NULL, own, values, error);
	kvt_claim_run base = ev.run;
	for (unsigned i = 0; i < own->len; i++) {
		kvt_claim *claim = own->pdata[i];
		g_ptr_array_add(claims, claim);
		claim->simulated = claim->low = claim->high = values[i];
	}
	if (!ok)
		return false;
	for (unsigned i = 0; i < own->len; i++)
		explain(&ev, &base, own->pdata[i]);
	if (run)
		*run = base;
	return !spread || spread_claims(&ev, config, own, error);
}

bool kvt_claims_present(const char *path)
{
	g_autoptr(kvt_config) config = kvt_config_load(path, NULL);
	if (!config)
		return true; /* so that evaluating it says what is wrong */
	g_autofree const char **names = kvt_config_section_names(config, "claim");
	return names[0] != NULL;
}
