/* page_lookup.c: rounds of a lookup, and what stands from one to the next. */
#include "sim/prefetch/page_lookup.h"

#include <glib.h>
#include <math.h>

#include "sim/prefetch/octaves.h"
#include "sim/prefetch/page_hashes.h"
#include "sim/prefetch/top_pages.h"

enum {
	TABLES = 4,
	ALLOWED_LEAST = 32,
	KEPT_LAST = 4,       /* newest pages, always scored, and the first */
	ROUNDS = 8,          /* of walking, after the start, which takes half of what is allowed */
	PROBED_SHARE = 16,   /* of the allowance, hash tables get one */
	TURN_SHARE = 64,     /* and pages in turn */
	ENTRIES_A_TABLE = 8, /* when a page is linked */
	COUNT_BITS = 20,     /* of a vote, the number of voters; the rest is the sum of roots */
	ROOT_BITS = 9,       /* fraction of a share below the root: roots have 20 bits */
	SURPRISE_MAX = 4 * KVT_OCTAVE,
	REST_MAX = 16,
	REST_SHIFT = 4,
	SURPRISE_SHIFT = 4, /* a 16th of what a lookup finds is believed */
};

/* What is known of a page during a lookup. */
enum { UNKNOWN, TOUCHED, SCORED };

struct kvt_page_lookup {
	kvt_page_lookup_spec spec;
	const kvt_page_lookup *companion;
	kvt_page_graph *graph; /* NULL: no walk */
	kvt_page_hashes *hashes;
	kvt_page_probe *probes; /* [group] */
	kvt_page_lookup_counts counts;
	/* Pages are scored in turn, whatever they are, a few a lookup: those that it would not have
	 * listed are a fair sample of what it leaves out. */
	uint32_t turn, n_before_turn;
	uint64_t rest;
	bool has_rest;
	/* the lookup under way; arrays of [max_pages] */
	uint32_t first, end, allowed, round;
	uint32_t n_pages, *pages; /* listed */
	uint32_t n_voted;         /* of these, whose links were followed */
	uint32_t n_touched, *touched;
	uint8_t *state;
	uint64_t *votes;
	/* the standing: value is 0 of all other pages */
	uint32_t n_standing, *standing, *value;
	int16_t *surprise; /* octaves by which pages have more than those like them, smoothed */
	/* scratch */
	uint32_t *ids, *worth, *best;
	uint64_t *scratch; /* [2 x max_pages + 1] */
};

kvt_page_lookup *kvt_page_lookup_new(const kvt_page_lookup_spec *spec)
{
	kvt_page_lookup *lookup = g_new0(kvt_page_lookup, 1);
	uint32_t max_pages = spec->max_pages;
	lookup->spec = *spec;
	if (spec->distance)
		lookup->graph = kvt_page_graph_new(max_pages, spec->distance, spec->distance_arg);
	lookup->hashes = kvt_page_hashes_new(
		spec->head_dim, max_pages, TABLES, kvt_page_hashes_bits_for(max_pages), spec->seed);
	lookup->probes = g_new(kvt_page_probe, spec->group);
	lookup->pages = g_new(uint32_t, max_pages);
	lookup->touched = g_new(uint32_t, max_pages);
	lookup->state = g_new0(uint8_t, max_pages);
	lookup->votes = g_new0(uint64_t, max_pages);
	lookup->standing = g_new(uint32_t, max_pages);
	lookup->value = g_new0(uint32_t, max_pages);
	lookup->surprise = g_new0(int16_t, max_pages);
	lookup->ids = g_new(uint32_t, max_pages);
	lookup->worth = g_new(uint32_t, max_pages);
	lookup->best = g_new(uint32_t, max_pages);
	lookup->scratch = g_new(uint64_t, 2 * (size_t)max_pages + 1);
	return lookup;
}

void kvt_page_lookup_free(kvt_page_lookup *lookup)
{
	if (!lookup)
		return;
	kvt_page_graph_free(lookup->graph);
	kvt_page_hashes_free(lookup->hashes);
	g_free(lookup->probes);
	g_free(lookup->pages);
	g_free(lookup->touched);
	g_free(lookup->state);
	g_free(lookup->votes);
	g_free(lookup->standing);
	g_free(lookup->value);
	g_free(lookup->surprise);
	g_free(lookup->ids);
	g_free(lookup->worth);
	g_free(lookup->best);
	g_free(lookup->scratch);
	g_free(lookup);
}

void kvt_page_lookup_add(kvt_page_lookup *lookup, uint32_t page, const float *mean)
{
	if (lookup->graph) {
		/* its neighbour in the text, and what its hashes meet */
		uint32_t entries[1 + TABLES * ENTRIES_A_TABLE], n = 0, entry;
		uint64_t buckets = 0;
		kvt_page_probe *probe = &lookup->probes[0];
		kvt_page_probe_begin(probe, lookup->hashes, mean);
		while (n < TABLES * ENTRIES_A_TABLE && kvt_page_probe_next(probe, &entry, &buckets))
			entries[n++] = entry;
		if (page > 0)
			entries[n++] = page - 1;
		kvt_page_graph_add(lookup->graph, page, entries, n);
	}
	kvt_page_hashes_add(lookup->hashes, page, mean);
}

uint32_t kvt_page_lookup_allowance(uint32_t factor, uint32_t n)
{
	/* the fifth root of (factor / 8)^5 n^3, by halving: products stay below 2^124 */
	g_assert(factor < (1 << 8) && n < (1u << 28));
	unsigned __int128 wanted = (unsigned __int128)n * n * n;
	for (unsigned i = 0; i < 5; i++)
		wanted = wanted * factor >> (i < 4 ? 0 : 15);
	uint32_t low = 0, high = 1 << 23;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		unsigned __int128 power = middle;
		for (unsigned i = 1; i < 5; i++)
			power *= middle;
		*(power <= wanted ? &low : &high) = middle;
	}
	return MIN(ALLOWED_LEAST + low, n);
}

void kvt_page_lookup_set_companion(kvt_page_lookup *lookup, const kvt_page_lookup *companion)
{
	lookup->companion = companion;
}

static void touch(kvt_page_lookup *lookup, uint32_t page)
{
	if (lookup->state[page] != UNKNOWN || page < lookup->first || page >= lookup->end)
		return;
	lookup->state[page] = TOUCHED;
	lookup->touched[lookup->n_touched++] = page;
}

/* Lists a page, once, while that is allowed. */
static void list(kvt_page_lookup *lookup, uint32_t page)
{
	if (page < lookup->first || page >= lookup->end || lookup->n_pages >= lookup->allowed)
		return;
	touch(lookup, page);
	if (lookup->state[page] == SCORED)
		return;
	lookup->state[page] = SCORED;
	lookup->pages[lookup->n_pages++] = page;
}

/* Lists what the query heads meet in the hash tables, taking turns, up to n pages in all. */
static void list_probed(kvt_page_lookup *lookup, uint32_t n)
{
	uint32_t out = 0, page;
	uint64_t *buckets = &lookup->counts.buckets;
	while (lookup->n_pages < n && out < lookup->spec.group) {
		out = 0;
		for (uint32_t head = 0; head < lookup->spec.group && lookup->n_pages < n; head++) {
			if (kvt_page_probe_next(&lookup->probes[head], &page, buckets))
				list(lookup, page);
			else
				out++;
		}
	}
}

/* How many of what is allowed are scored in turn. */
static uint32_t in_turn(const kvt_page_lookup *lookup)
{
	return lookup->allowed / TURN_SHARE;
}

/* Where a lookup starts: what is always kept, hash tables, and what stands. */
static void list_start(kvt_page_lookup *lookup)
{
	uint32_t present = lookup->end - lookup->first;
	uint32_t allowed = lookup->allowed - in_turn(lookup);
	uint32_t start = lookup->graph ? (allowed + 1) / 2 : allowed;
	list(lookup, lookup->first);
	for (uint32_t i = 0; i < MIN(present, KEPT_LAST); i++)
		list(lookup, lookup->end - 1 - i);
	uint32_t probed = lookup->graph ? allowed / PROBED_SHARE : allowed / 2;
	list_probed(lookup, MIN(lookup->n_pages + probed, start));
	for (uint32_t i = 0; i < lookup->n_standing; i++) {
		uint32_t page = lookup->standing[i];
		if (lookup->n_pages < start)
			list(lookup, page);
		touch(lookup, page);
	}
	const kvt_page_lookup *companion = lookup->companion;
	for (uint32_t i = 0; companion && i < companion->n_standing; i++)
		touch(lookup, companion->standing[i]);
	list_probed(lookup, start);
}

/* The next pages in turn that are not listed. */
static void list_turn(kvt_page_lookup *lookup)
{
	uint32_t end = MIN(lookup->n_pages + in_turn(lookup), lookup->allowed);
	uint32_t present = lookup->end - lookup->first;
	lookup->n_before_turn = lookup->n_pages;
	for (uint32_t i = 0; i < present && lookup->n_pages < end; i++) {
		if (lookup->turn < lookup->first || lookup->turn >= lookup->end)
			lookup->turn = lookup->first;
		list(lookup, lookup->turn++);
	}
}

void kvt_page_lookup_begin(kvt_page_lookup *lookup, uint32_t first, uint32_t end, uint32_t allowed,
	const float *queries)
{
	g_assert(first < end && end <= lookup->spec.max_pages && allowed > 0);
	g_assert(lookup->n_touched == 0);
	lookup->first = first;
	lookup->end = end;
	lookup->allowed = MIN(allowed, end - first);
	lookup->round = 0;
	lookup->n_pages = lookup->n_voted = 0;
	for (uint32_t head = 0; head < lookup->spec.group; head++)
		kvt_page_probe_begin(&lookup->probes[head], lookup->hashes,
			queries + (size_t)head * lookup->spec.head_dim);
	lookup->counts.lookups++;
}

const uint32_t *kvt_page_lookup_pages(const kvt_page_lookup *lookup, uint32_t *n)
{
	*n = lookup->n_pages;
	return lookup->pages;
}

/* Pages that were scored since the last round vote for those they are linked to: with the root of
 * their share, so that one of very much does not drown many of little. */
static void vote(kvt_page_lookup *lookup, const uint32_t *share)
{
	for (; lookup->n_voted < lookup->n_pages; lookup->n_voted++) {
		uint64_t wide = (uint64_t)share[lookup->n_voted] << ROOT_BITS;
		uint64_t root = (uint64_t)sqrt((double)wide);
		uint32_t n;
		const uint32_t *links =
			kvt_page_graph_links(lookup->graph, lookup->pages[lookup->n_voted], &n);
		for (uint32_t i = 0; i < n; i++) {
			touch(lookup, links[i]);
			lookup->votes[links[i]] += (root << COUNT_BITS) + 1;
		}
		lookup->counts.links += n;
	}
}

/* What the votes for a page say of its share: the mean of the roots, `doubts` of them 0, squared.
 */
static uint64_t voted(const kvt_page_lookup *lookup, uint32_t page, uint64_t doubts)
{
	uint64_t sum = lookup->votes[page] >> COUNT_BITS;
	uint64_t n = lookup->votes[page] & ((1 << COUNT_BITS) - 1);
	uint64_t mean = (sum << 4) / (n + doubts);
	return mean * mean >> (8 + ROOT_BITS);
}

/* The share that a page is likely to have: by the votes, and part of what it had before. */
static uint32_t likely(const kvt_page_lookup *lookup, uint32_t page)
{
	uint64_t worth = kvt_octaves_scale(voted(lookup, page, 1), lookup->surprise[page] / 8 * 5);
	worth += lookup->value[page] / 8 * 3;
	if (lookup->companion)
		worth += lookup->companion->value[page] / 4;
	return (uint32_t)MIN(worth, KVT_MASS_ONE);
}

/* The k likeliest pages that were touched and not scored, into lookup->best. */
static uint32_t choose(kvt_page_lookup *lookup, uint32_t k)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < lookup->n_touched; i++) {
		uint32_t page = lookup->touched[i];
		if (lookup->state[page] == SCORED)
			continue;
		lookup->ids[n] = page;
		lookup->worth[n++] = likely(lookup, page);
	}
	return kvt_top_pages(lookup->ids, lookup->worth, n, k, lookup->best, lookup->scratch);
}

bool kvt_page_lookup_next(kvt_page_lookup *lookup, const uint32_t *share)
{
	uint32_t before = lookup->n_pages;
	uint32_t last = lookup->graph ? ROUNDS + 1 : 1;
	if (lookup->round == 0) {
		list_start(lookup);
	} else if (lookup->round < last) {
		vote(lookup, share);
		uint32_t left = lookup->allowed - in_turn(lookup) - lookup->n_pages;
		uint32_t rounds_left = last - lookup->round;
		uint32_t n = choose(lookup, (left + rounds_left - 1) / rounds_left);
		for (uint32_t i = 0; i < n; i++)
			list(lookup, lookup->best[i]);
	}
	/* a walk that finds nothing more is over */
	if (lookup->n_pages == before && lookup->round < last)
		lookup->round = last;
	if (lookup->round == last)
		list_turn(lookup);
	lookup->round++;
	lookup->counts.rounds += lookup->n_pages > before;
	lookup->counts.pages += lookup->n_pages - before;
	return lookup->n_pages > before;
}

uint32_t kvt_page_lookup_guess(
	kvt_page_lookup *lookup, uint32_t k, uint32_t *pages, uint32_t *share)
{
	uint32_t n = choose(lookup, k);
	for (uint32_t i = 0; i < n; i++) {
		pages[i] = lookup->best[i];
		share[i] = likely(lookup, pages[i]);
	}
	return n;
}

/* How far pages are from what those like them say, some pages always are. */
static void learn_surprise(kvt_page_lookup *lookup, const uint32_t *share)
{
	for (uint32_t i = 0; i < lookup->n_pages; i++) {
		uint32_t page = lookup->pages[i];
		uint64_t votes = lookup->votes[page] & ((1 << COUNT_BITS) - 1);
		uint64_t said = votes >= 2 ? voted(lookup, page, 0) : 0;
		if (said == 0 || share[i] == 0)
			continue;
		int off = kvt_octaves_of(share[i]) - kvt_octaves_of(said);
		off = CLAMP(off, -SURPRISE_MAX, SURPRISE_MAX) - lookup->surprise[page];
		lookup->surprise[page] += (int16_t)(off >> SURPRISE_SHIFT);
	}
}

static void learn_rest(kvt_page_lookup *lookup, const uint32_t *share)
{
	uint32_t sampled = lookup->n_pages - lookup->n_before_turn;
	uint32_t left = lookup->end - lookup->first - lookup->n_pages;
	uint64_t sum = 0;
	for (uint32_t i = lookup->n_before_turn; i < lookup->n_pages; i++)
		sum += share[i];
	if (sampled == 0 && left > 0)
		return;
	uint64_t rest = left ? MIN(sum * left / sampled, (uint64_t)REST_MAX * KVT_MASS_ONE) : 0;
	if (lookup->has_rest)
		rest = (uint64_t)((int64_t)lookup->rest +
				  ((int64_t)rest - (int64_t)lookup->rest) / (1 << REST_SHIFT));
	lookup->rest = rest;
	lookup->has_rest = true;
}

void kvt_page_lookup_end(kvt_page_lookup *lookup, const uint32_t *share)
{
	learn_surprise(lookup, share);
	learn_rest(lookup, share);
	uint32_t n = 0;
	for (uint32_t i = 0; i < lookup->n_standing; i++) {
		uint32_t page = lookup->standing[i];
		lookup->value[page] /= 2;
		if (lookup->state[page] != SCORED)
			lookup->ids[n++] = page;
	}
	for (uint32_t i = 0; i < lookup->n_pages; i++) {
		lookup->value[lookup->pages[i]] += share[i] / 2;
		lookup->ids[n++] = lookup->pages[i];
	}
	for (uint32_t i = 0; i < n; i++)
		lookup->worth[i] = lookup->value[lookup->ids[i]];
	lookup->n_standing = kvt_top_pages(lookup->ids, lookup->worth, n, 2 * lookup->allowed,
		lookup->standing, lookup->scratch);
	while (lookup->n_standing > 0 &&
		lookup->value[lookup->standing[lookup->n_standing - 1]] == 0)
		lookup->n_standing--;
	/* what does not stand is forgotten */
	for (uint32_t i = 0; i < lookup->n_standing; i++)
		lookup->best[i] = lookup->value[lookup->standing[i]];
	for (uint32_t i = 0; i < n; i++)
		lookup->value[lookup->ids[i]] = 0;
	for (uint32_t i = 0; i < lookup->n_standing; i++)
		lookup->value[lookup->standing[i]] = lookup->best[i];
	for (uint32_t i = 0; i < lookup->n_touched; i++) {
		lookup->state[lookup->touched[i]] = UNKNOWN;
		lookup->votes[lookup->touched[i]] = 0;
	}
	lookup->n_touched = 0;
}

const uint32_t *kvt_page_lookup_standing(
	const kvt_page_lookup *lookup, uint32_t *n, const uint32_t **share)
{
	*n = lookup->n_standing;
	*share = lookup->value;
	return lookup->standing;
}

uint64_t kvt_page_lookup_rest(const kvt_page_lookup *lookup)
{
	return lookup->rest;
}

const kvt_page_lookup_counts *kvt_page_lookup_counted(const kvt_page_lookup *lookup)
{
	return &lookup->counts;
}

const uint32_t *kvt_page_lookup_links(const kvt_page_lookup *lookup, uint32_t page, uint32_t *n)
{
	*n = 0;
	return lookup->graph ? kvt_page_graph_links(lookup->graph, page, n) : NULL;
}

uint64_t kvt_page_lookup_bytes(const kvt_page_lookup *lookup)
{
	return kvt_page_hashes_bytes(lookup->hashes) +
	       (lookup->graph ? kvt_page_graph_bytes(lookup->graph) : 0);
}
