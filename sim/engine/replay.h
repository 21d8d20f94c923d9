/*
 * replay.h: runs a recorded attention trace through HBM and a storage tier: every step's, layer's
 * and KV head's page accesses under a budget of HBM pages, with a prefetcher, an eviction policy,
 * and time. It knows nothing of a model's accuracy: what is lost is reported as attention mass.
 *
 * A page is the K and V of block_tokens tokens in one layer and KV head. At the start every page of
 * the context is in the storage tier and HBM is empty, but for the page that is being filled. A
 * step is one token that is decoded. Steps, layers and heads are decided on in the order the model
 * runs them, and decisions (selection, residency) never depend on time.
 *
 * The budget of a layer and KV head is max(5, floor(budget x pages present)) pages. The selection
 * holds the first page and the last 4, then what the prefetcher ranks first. When it plans no page
 * at all, pages that are in HBM fill the budget up, the newest first. The selection is pinned in
 * HBM until the step's attention is over. HBM holds hbm x pages present (the budget at least) a
 * layer and KV head, and the policy decides what leaves.
 *
 * A prefetcher that reads queries plans with the step's own (QUERY_CURRENT) when attention is due,
 * so that what is missing is waited for, or with the one before (QUERY_PREVIOUS) as soon as that is
 * known. Its sketches are in HBM; reading them takes time at HBM's rate, during which the layer
 * does nothing else. With `moves` no more pages than that are moved ahead a step, those always kept
 * included and no matter what (they are few); beyond its selection a plan may name pages that are
 * only to be in HBM, while `hbm` has room.
 *
 * With EXACT attention everything present is attended. Pages outside HBM are fetched on demand, in
 * rising order: they enter HBM where there is room or a page that may leave, and pass through
 * staging windows otherwise. Residents that nothing planned may leave once they were read.
 * mass_kept is the mass of the selection, of what needed no demand fetch. Prefetchers see whole
 * rows. With `none` the selection is the pages always kept and the newest residents, so under LRU a
 * window of the latest pages.
 *
 * With BUDGETED attention only the selection is attended; 1 - mass_kept is lost. Prefetchers see
 * the masses over what was attended (the ratios as recorded, their sum 1), so last-step never finds
 * a page again that it has dropped.
 *
 * A prompt's own tokens are steps too. In an engine they would go through prefill, which attends to
 * everything; with dense_prompt they do so here, as with EXACT attention, and prefetchers see their
 * whole rows. Without it they go through the budget like any other.
 *
 * Time of a layer: its other work, then attention to what is in HBM at the rate of HBM, while what
 * is missing arrives: prefetches that are late, and with EXACT attention demand fetches. What
 * arrives last is attended to last, a window at most; what all of that takes beyond attention
 * itself is stall, booked on the transfer that came last. When a layer's attention is over its
 * prefetch for the next step begins: no prefetcher, not the oracle either, can use what it knows
 * sooner, since the pages in HBM are in use till then. A page that decode completes is written to
 * storage then, and cannot leave HBM before it is there.
 *
 * An access is one page read by one step, layer and KV head, and is counted once: as a hit (in HBM
 * since an earlier step, or made there), as prefetched (moved ahead for this step), or as demanded.
 * The first access to a stored page is never a hit: hits <= accesses - compulsory, asserted. Bytes
 * read from storage = (prefetched + demanded) x page bytes, asserted too.
 *
 * What prefetching is worth is counted on the pages that a step needs: those of the best choice
 * within its budget, the first page and the last 4 included, whatever was attended.
 *   timely:    the share of needed pages that were in HBM when the layer's attention began.
 *   coverage:  the share of needed pages that the selection held.
 *   waste:     the share of prefetched pages that left without having been needed at any step. Each
 *              is used, wasted, or still there unused at the end: their sum is asserted.
 *   pollution: the share of misses on pages that had left HBM to make room for a prefetched one.
 */
#ifndef KVT_REPLAY_H
#define KVT_REPLAY_H

#include "sim/cache/policy.h"
#include "sim/core/timeline.h"
#include "sim/engine/replay_device.h"
#include "sim/engine/replay_residency.h"
#include "sim/engine/replay_source.h"
#include "sim/tier/tier.h"

typedef enum kvt_replay_attention {
	KVT_REPLAY_EXACT,
	KVT_REPLAY_BUDGETED,
} kvt_replay_attention;

/* "exact", "budgeted", NULL. */
extern const char *const kvt_replay_attention_names[];

struct kvt_replay_settings {
	double budget;     /* share of the pages present, above 0 to 1 */
	double hbm;        /* the same, of what HBM may hold; 0: the budget */
	double moves;      /* the same, of what may be moved ahead a step; 0: any number */
	double target;     /* share of the mass that a selection shall hold by the prefetcher's own
			      estimate; where the budget does not reach it, BUDGETED attention
			      attends to everything. 0: what the budget gives */
	int query;         /* kvt_replay_query, of a prefetcher that reads queries */
	uint64_t seed;     /* of prefetchers */
	int attention;     /* kvt_replay_attention */
	bool dense_prompt; /* BUDGETED steps whose token was given attend to everything */
	const kvt_prefetcher_ops *prefetcher;
	const kvt_policy_ops *policy;
	uint64_t page_bytes; /* of one page of one KV head */
	unsigned copies;     /* layers that each recorded layer stands for; 0: 1 */
	double hbm_rate;     /* bytes/s at which attention reads KV from HBM, all ranks */
	/* time of a layer's attention over `tokens` of each KV head; NULL: their bytes at hbm_rate
	 */
	kvt_time (*attention_time)(void *arg, uint64_t tokens);
	void *attention_arg;
	uint32_t block_tokens; /* tokens a page, with attention_time */
	bool has_lead;         /* a step's other work takes `lead`, whatever the model says */
	kvt_time lead;
	kvt_time layer_time;     /* a layer's other work, before its attention */
	kvt_time step_time;      /* a step's other work, after its last layer */
	uint64_t window_bytes;   /* of a staging window for demand fetches */
	unsigned prefetch_depth; /* layers' prefetches under way at once, at least 1 */
	/* called now and then; may be NULL */
	void (*progress)(void *arg, uint32_t steps_done);
	void *progress_arg;
};

/* Where it runs. The loop is run by kvt_replay_run, the tier's pages are the replay's alone. */
typedef struct kvt_replay_world {
	kvt_loop *loop;
	kvt_tier *storage;
	const char *storage_name;  /* in messages; NULL: what its kind is called */
	kvt_timeline *timeline;    /* may be NULL */
	kvt_replay_device *device; /* NULL: the modelled one. Stays its owner's. */
	/* A KV head's pages are of this context and its number; the replay's alone. */
	uint32_t first_context;
	/* Pages that storage does not deliver are computed again (replay_lost.h); otherwise the
	 * first one that fails for good ends the replay. */
	bool recomputes;
	/* Makes sure that pages which nothing of the replay has written are in storage. NULL: they
	 * are declared as being there. */
	bool (*store)(void *arg, const kvt_extent *extent, GError **error);
	void *store_arg;
} kvt_replay_world;

/* A recorded layer's KV head: means over steps. */
typedef struct kvt_replay_head {
	uint32_t layer, head; /* the layer's number in the model */
	double mass_kept, mass_oracle, mass_resident;
	double mass_estimated; /* of mass_kept, as the prefetcher thinks; NaN: it does not */
	double dense;          /* share of its steps that attended to everything for want of mass */
} kvt_replay_head;

/* Why a layer's attention waited. */
typedef enum kvt_stall_cause {
	KVT_STALL_PREFETCH_LATE, /* a prefetch was still moving */
	KVT_STALL_DEMAND,        /* a demand fetch was moving */
	KVT_STALL_WRITE_BACK,    /* a fetch waited for the write of a page that was to leave */
	KVT_STALL_QUEUE,         /* a fetch waited to be taken by the tier or for its turn */
	KVT_STALL_CAUSES,
} kvt_stall_cause;

/* "prefetch_late", ... in that order, NULL-terminated. */
extern const char *const kvt_stall_names[KVT_STALL_CAUSES + 1];

/* Pages, each of one layer and KV head, that storage did not deliver. */
typedef struct kvt_replay_lost {
	uint64_t pages, tokens;                    /* tokens: that were recomputed; once a layer */
	kvt_time time;                             /* that it took, by model */
	uint64_t stored_again_bytes, failed_bytes; /* written back; not */
} kvt_replay_lost;

typedef struct kvt_replay_result {
	uint32_t steps, layers; /* layers: recorded ones x copies */
	/* means over steps, recorded layers and KV heads */
	double mass_kept;      /* of the selections */
	double mass_oracle;    /* of the best selections within the same budgets */
	double mass_listed;    /* that the trace's rows account for */
	double mass_resident;  /* of pages in HBM, or on their way there, as attention begins */
	double mass_on_time;   /* of pages in HBM as attention begins; all layers, copies too */
	double mass_estimated; /* of the selections, as the prefetcher thinks; NaN: it does not */
	uint32_t n_rows;       /* recorded layers x KV heads */
	kvt_replay_head *by_head; /* [n_rows], layer by layer; freed with the result */
	double mass_lost;     /* 1 - kept, of steps that attend to their selection; of others 0 */
	uint32_t dense_steps; /* of BUDGETED attention, that attended to everything: prompts */
	uint64_t dense_rows;  /* a step, layer and KV head that did so because the mass wanted was
				 not in sight */
	kvt_prefetcher_stats scorer; /* of recorded layers, as recorded */
	double selection;            /* pages selected */
	double selection_runs;       /* runs of neighbours that they are */
	uint32_t selection_least, selection_most;
	/* of the recorded layers, each once, whatever it stands for */
	kvt_residency_counts counts;
	/* the fewest misses (accesses - hits) of any policy that fetches on demand, on the same
	 * accesses and HBM; a lower bound with EXACT attention, not known with dense steps */
	gboolean has_belady;
	uint64_t belady_misses;
	uint64_t late_pages; /* prefetched ones of transfers that attention found under way; all
				layers */
	/* of all layers: needed pages; those in HBM or on their way as attention began; of these,
	 * those that were still on their way */
	uint64_t needed, needed_here, needed_during;
	uint32_t peak_pages; /* in HBM at once, one layer and KV head */
	/* of all layers, in bytes */
	uint64_t attended_bytes, moved_bytes, written_bytes, peak_hbm_bytes;
	kvt_tier_stats storage;
	uint64_t retries; /* I/Os that failed and were made again */
	kvt_replay_lost lost;
	/* of all layers */
	kvt_time ttft;        /* the first step, from an empty HBM */
	kvt_time total;       /* all steps */
	kvt_time *step_times; /* [steps]; free with kvt_replay_result_clear */
	kvt_time stall[KVT_STALL_CAUSES], first_step_stall;
	kvt_time attention_time, other_time; /* of layers and steps, without stalls */
	kvt_time scorer_time;                /* sketches read from HBM */
	/* By the loop's clock, so 0 in virtual time: what prefetchers took to plan, sketches of new
	 * pages included, and all that the replay itself took, counting included; of all steps, and
	 * of the first. */
	kvt_time planning, deciding, first_planning, first_deciding;
} kvt_replay_result;

/* Time a step after the first, at quantile q in [0, 1], nearest rank; 0 when there is only one. */
kvt_time kvt_replay_step_time(const kvt_replay_result *result, double q);

void kvt_replay_result_clear(kvt_replay_result *result);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_replay_result, kvt_replay_result_clear)

/* As above, in [0, 1]; of nothing, NaN. */
double kvt_replay_timely(const kvt_replay_result *result);
double kvt_replay_coverage(const kvt_replay_result *result);
double kvt_replay_waste(const kvt_replay_result *result);
double kvt_replay_pollution(const kvt_replay_result *result);
double kvt_replay_hit_rate(const kvt_replay_result *result);

/* Of a head whose selections hold less than this by the prefetcher's own estimate, attention is so
 * diffuse that the budget loses most of it. */
#define KVT_REPLAY_DIFFUSE 0.5

/* How many of the recorded layers' KV heads are diffuse within the budget. */
uint32_t kvt_replay_diffuse_heads(const kvt_replay_result *result);

/* What the layer and KV head that does worst keeps, of what its best choice would. */
double kvt_replay_worst_head(const kvt_replay_result *result);

/* Bytes of sketch a token and KV head; pages and index entries scored a step, layer and KV head.
 * 0 for a prefetcher that scores none. */
double kvt_replay_sketch_bytes(const kvt_replay_result *result);
double kvt_replay_scored_pages(const kvt_replay_result *result);

/* Replays the source and fills *result. False with an error when settings do not fit together, the
 * source cannot be read, or the storage tier fails or is too small. */
gboolean kvt_replay_run(kvt_replay_source *source, const kvt_replay_settings *settings,
	const kvt_replay_world *world, kvt_replay_result *result, GError **error);

#endif
