/*
 * registry_topics.c: the pages of `kvtier help` that are made from what is registered: tiers, the
 * sections of experiments, eviction policies, prefetchers. What they say is in the registries.
 */
#include <string.h>

#include "emu/gpu/upload_tier.h"
#include "emu/turn/emulation.h"
#include "emu/turn/validation.h"
#include "emu/turn/real_tiers.h"
#include "sim/base/error.h"
#include "sim/cache/policy.h"
#include "sim/cmd/command.h"
#include "sim/engine/claims.h"
#include "sim/engine/experiment.h"
#include "sim/engine/length_sweep.h"
#include "sim/fleet/fleet_settings.h"
#include "sim/plan/plan_settings.h"
#include "sim/prefetch/prefetcher.h"
#include "sim/tier/tier.h"

/* Something that is registered. */
typedef struct help_entry {
	const char *name, *summary;
	const kvt_option *options; /* or NULL */
	const char *more;          /* said below its summary; or NULL */
} help_entry;

static void add_entry(GArray *entries, const char *name, const char *summary,
	const kvt_option *options, const char *more)
{
	help_entry entry = { name, summary, options, more };
	g_array_append_val(entries, entry);
}

static const help_entry *find_entry(
	const kvt_topic *topic, const GArray *entries, const char *name, GError **error)
{
	g_autofree const char **names = g_new0(const char *, entries->len + 1);
	for (guint i = 0; i < entries->len; i++) {
		const help_entry *entry = &g_array_index(entries, help_entry, i);
		if (strcmp(entry->name, name) == 0)
			return entry;
		names[i] = entry->name;
	}
	const char *near = kvt_error_suggest(name, names);
	g_autofree char *quoted = kvt_error_quote(name);
	if (near != NULL)
		kvt_error_usage(error, "there is no %s %s, did you mean \"%s\"?", topic->name,
			quoted, near);
	else
		kvt_error_usage(error, "there is no %s %s, see \"kvtier help %s\"", topic->name,
			quoted, topic->name);
	return NULL;
}

/* The list, or with a name what there is to say of one. */
static char *entries_text(const kvt_topic *topic, const GArray *entries, const char *before,
	const char *after, int argc, char **argv, GError **error)
{
	if (argc > 1) {
		g_autofree char *quoted = kvt_error_quote(argv[1]);
		kvt_error_usage(error, "%s: expected nothing after \"kvtier help %s %s\"", quoted,
			topic->name, argv[0]);
		return NULL;
	}
	GString *text = g_string_new(NULL);
	if (argc == 0) {
		size_t width = 0;
		for (guint i = 0; i < entries->len; i++)
			width = MAX(width, strlen(g_array_index(entries, help_entry, i).name));
		g_string_append(text, before);
		for (guint i = 0; i < entries->len; i++) {
			const help_entry *entry = &g_array_index(entries, help_entry, i);
			g_string_append_printf(
				text, "  %-*s  %s\n", (int)width, entry->name, entry->summary);
		}
		g_string_append(text, after);
		return g_string_free(text, FALSE);
	}
	const help_entry *entry = find_entry(topic, entries, argv[0], error);
	if (entry == NULL)
		return g_string_free(text, TRUE);
	g_string_append_printf(text, "%s: %s\n", entry->name, entry->summary);
	if (entry->more != NULL)
		g_string_append_printf(text, "%s\n", entry->more);
	if (entry->options != NULL) {
		g_autofree char *options = kvt_option_help(entry->options);
		g_string_append_printf(text, "\n%s", options);
	}
	return g_string_free(text, FALSE);
}

static char *tier_text(int argc, char **argv, GError **error)
{
	g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(help_entry));
	for (const kvt_tier_ops *const *ops = kvt_tier_registry(); *ops != NULL; ops++)
		add_entry(entries, (*ops)->name, (*ops)->summary, (*ops)->options,
			"Its keys, in the section of an experiment that has its name:");
	for (const kvt_tier_ops *const *ops = kvt_real_tiers(); *ops != NULL; ops++)
		add_entry(entries, (*ops)->name, (*ops)->summary, (*ops)->options,
			"Its keys, in the section [emulation NAME] of an experiment that is run "
			"by\n\"kvtier emu\" or \"kvtier validate\":");
	return entries_text(&kvt_topic_tier, entries,
		"Where KV pages can be: \"tier = NAME\" in the section [storage] of an "
		"experiment.\n\n",
		"\n\"kvtier help tier NAME\" lists the keys of its section, which is [NAME]. A "
		"section\n[fault] makes the storage tiers fail: \"kvtier help experiment "
		"fault\".\n",
		argc, argv, error);
}

static char *experiment_text(int argc, char **argv, GError **error)
{
	g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(help_entry));
	for (const kvt_experiment_section *s = kvt_experiment_sections(); s->name != NULL; s++)
		add_entry(entries, s->name, s->summary, s->options, NULL);
	for (const kvt_tier_ops *const *ops = kvt_tier_registry(); *ops != NULL; ops++)
		add_entry(entries, (*ops)->name, (*ops)->summary, (*ops)->options, NULL);
	add_entry(entries, "sweep", "lengths of context that are run one after the other",
		kvt_sweep_options, NULL);
	add_entry(entries, "curve", "[curve ID]: the sweep with settings of its own", NULL,
		"Keys are \"title\", and \"section.key\" with the value that the setting has in "
		"this\ncurve. \"kvtier tables\" prints how time to first token grows along each.");
	add_entry(entries, "emulation", "how \"kvtier emu\" runs it in real time",
		kvt_emulation_options,
		"A tier's own keys are in [emulation TIER]: \"kvtier help tier TIER\".\n\n"
		"A trace needs a model of its KV heads, query heads and head_dim, as "
		"mini-irope-28m-global\nhas those of traces/samples. The model's layers take the "
		"recorded ones in turn; with KV\nof fp16 pages are the recording bit by bit. "
		"Prompt and output are the tokens whose queries\nwere recorded; where these are "
		"of some positions only, the tokens between them are left\nout, and the output "
		"says how many.");
	add_entry(entries, "emulation upload", "how pages come into a GPU's memory",
		kvt_upload_options,
		"With [emulation] device = cuda. Pages of tier memory, which is pinned whole, are "
		"copied from\nwhere they lie, and verified where they arrive, if pages are "
		"multiples "
		"of 16 bytes and 256\nor more, else where they lie; those of other tiers are read "
		"into "
		"staging first, and verified\nby their tier. The engines copy runs of 64 KiB and "
		"more; smaller ones a kernel with the\nengines' help.");
	add_entry(entries, "emulation decode", "decode steps that choose pages, in real time",
		kvt_emulated_decode_options,
		"With [emulation] trace, the output's tokens are generated once more: a prefetcher "
		"scores\nthe recorded keys with the recorded queries, and what it chooses is read "
		"from the tier,\nwhere a page is of one layer and KV head. What \"kvtier replay\" "
		"does in virtual time.\nThe tier holds these pages beside those of the turn.");
	add_entry(entries, "emulation migrate", "the pools of a session that moves, in real time",
		kvt_emulated_migrate_options,
		"Of [experiment] kind = migrate: [emulation] tier is the other node's way to the "
		"first one's\npool, where Turn 1 left the pages. The session stays, is fetched, is "
		"taken up once more\nfrom the other node's pool, and recomputed, each in real time "
		"and compared with double\nprecision.");
	add_entry(entries, "validate", "how far off \"kvtier validate\" lets the model be",
		kvt_validate_options,
		"A tolerance of 0% judges nothing. Stages that are timed waits in both worlds are "
		"never judged.");
	add_entry(entries, "claim", "[claim ID]: a published figure that the run is compared with",
		kvt_claim_options, NULL);
	add_entry(entries, "sources", "where settings are from", NULL,
		"Keys are \"section.key\", or \"section\" for the keys of a section without a line "
		"of\ntheir own; [emulation NAME] goes by emulation. A value begins with measured:, "
		"published:,\ndatasheet:, derived:, fitted: or assumed:, and says where, how or to "
		"what.");
	add_entry(entries, "uncertainty", "what low and high of a prediction come from", NULL,
		"Keys are \"section.key\", values the two ends of what the setting may be. Each "
		"is\nmoved alone, the others stay.");
	return entries_text(&kvt_topic_experiment, entries,
		"The sections of an experiment file, for \"kvtier run\" and \"kvtier tables\":\n\n",
		"\n\"kvtier help experiment SECTION\" lists its keys, \"kvtier help config\" says "
		"how they\nare written.\n",
		argc, argv, error);
}

static char *fleet_text(int argc, char **argv, GError **error)
{
	g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(help_entry));
	for (const kvt_fleet_section *s = kvt_fleet_sections(); s->name != NULL; s++)
		add_entry(entries, s->name, s->summary, s->options, NULL);
	add_entry(entries, "tier", "[tier NAME]: where KV is that has left HBM",
		kvt_fleet_tier_options,
		"The sections are a chain in the order of the file: what leaves one tier goes to "
		"the next.");
	add_entry(entries, "tenant", "[tenant NAME]: what a tenant asks for and was promised",
		kvt_tenant_options,
		"Without such a section all requests are alike, whosever they are.");
	for (const kvt_experiment_section *s = kvt_experiment_sections(); s->name != NULL; s++)
		if (g_strv_contains(kvt_fleet_shared_sections, s->name))
			add_entry(entries, s->name, s->summary, s->options, NULL);
	add_entry(entries, "sources", "where settings are from", NULL,
		"As in an experiment file: \"kvtier help experiment sources\".");
	return entries_text(&kvt_topic_fleet_file, entries,
		"The sections of a fleet file, for \"kvtier fleet\":\n\n",
		"\n\"kvtier help fleet-file SECTION\" lists its keys, \"kvtier help config\" says "
		"how they\nare written.\n",
		argc, argv, error);
}

static char *plan_text(int argc, char **argv, GError **error)
{
	g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(help_entry));
	add_entry(entries, "plan", "what may be bought, and what is asked of it", kvt_plan_options,
		"Lists are separated by commas. Prices are of a file such as "
		"models/price/list.ini.");
	add_entry(entries, "uncertainty", "what is not known exactly", NULL,
		"Keys are \"section.key\", values the two ends of what the setting may be. Each "
		"is\nmoved alone, the others stay; prices and powers have theirs in their own "
		"files.");
	return entries_text(&kvt_topic_plan_file, entries,
		"The sections of a plan file, for \"kvtier plan\", beside those of a fleet "
		"file:\n\n",
		"\n\"kvtier help plan-file SECTION\" lists its keys, \"kvtier help fleet-file\" "
		"the "
		"others.\n",
		argc, argv, error);
}

static char *policy_text(int argc, char **argv, GError **error)
{
	g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(help_entry));
	for (const kvt_policy_ops *const *ops = kvt_policy_registry(); *ops != NULL; ops++)
		add_entry(entries, (*ops)->name, (*ops)->summary, NULL, NULL);
	return entries_text(&kvt_topic_policy, entries,
		"Which page leaves a full tier: \"kvtier replay --policy NAME\".\n\n", "", argc,
		argv, error);
}

static char *prefetcher_text(int argc, char **argv, GError **error)
{
	g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(help_entry));
	for (const kvt_prefetcher_ops *const *ops = kvt_prefetcher_registry(); *ops != NULL; ops++)
		add_entry(entries, (*ops)->name, (*ops)->summary, NULL, NULL);
	return entries_text(&kvt_topic_prefetcher, entries,
		"Which pages are brought to HBM before attention asks for them: \"kvtier replay\n"
		"--prefetch NAME\".\n\n",
		"", argc, argv, error);
}

const kvt_topic kvt_topic_plan_file = {
	.name = "plan-file",
	.summary = "The sections that a plan file has beside a fleet file's",
	.arguments = "[SECTION]",
	.text = plan_text,
};

const kvt_topic kvt_topic_tier = {
	.name = "tier",
	.summary = "Where KV pages can be, and the options of each tier",
	.arguments = "[NAME]",
	.text = tier_text,
};

const kvt_topic kvt_topic_experiment = {
	.name = "experiment",
	.summary = "The sections of an experiment file and their keys",
	.arguments = "[SECTION]",
	.text = experiment_text,
};

const kvt_topic kvt_topic_fleet_file = {
	.name = "fleet-file",
	.summary = "The sections of a fleet file and their keys",
	.arguments = "[SECTION]",
	.text = fleet_text,
};

const kvt_topic kvt_topic_policy = {
	.name = "policy",
	.summary = "Which page leaves a full tier",
	.arguments = "[NAME]",
	.text = policy_text,
};

const kvt_topic kvt_topic_prefetcher = {
	.name = "prefetcher",
	.summary = "Which pages are brought in ahead of attention",
	.arguments = "[NAME]",
	.text = prefetcher_text,
};
