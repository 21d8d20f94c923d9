/* reuse_statistics.c: smoothing and correcting of pages' shares of the mass. */
#include "sim/prefetch/reuse_statistics.h"

#include <stdbool.h>
#include <string.h>

#include "sim/prefetch/octaves.h"
#include "sim/prefetch/top_pages.h"

enum {
	OCTAVE = KVT_OCTAVE,         /* of corrections and logarithms */
	CORRECTION_MAX = 2 * OCTAVE, /* a page's share is off by a factor of 4 at most */
	FOUND_MAX = 2 * OCTAVE,      /* the same of what one step finds */
	GAIN_SHIFT = 2,              /* a quarter of what a step finds is believed */
	FORGET_SHIFT = 6,            /* a 64th of a correction is forgotten a step */
	LEAST_SHARE = 1 << 11,       /* a millionth: of less nothing is learnt */
};

void kvt_reuse_init(kvt_reuse *reuse, uint32_t max_pages)
{
	*reuse = (kvt_reuse){ .share = g_new0(uint32_t, max_pages),
		.recent = g_new0(uint32_t, max_pages),
		.lasting = g_new0(uint32_t, max_pages),
		.correction = g_new0(int16_t, max_pages),
		.scored_step = UINT32_MAX,
		.seen = g_new(uint32_t, max_pages),
		.seen_mass = g_new(float, max_pages) };
}

void kvt_reuse_clear(kvt_reuse *reuse)
{
	g_free(reuse->share);
	g_free(reuse->recent);
	g_free(reuse->lasting);
	g_free(reuse->correction);
	g_free(reuse->seen);
	g_free(reuse->seen_mass);
}

static uint32_t towards(uint32_t from, uint32_t to, unsigned shift)
{
	return (uint32_t)(from + (((int64_t)to - from) >> shift));
}

/* Pages ids[n], or first .. first + n - 1 where ids is NULL. */
static void score_pages(
	kvt_reuse *reuse, uint32_t first, uint32_t n, const uint32_t *ids, const uint32_t *share)
{
	uint64_t total = 0;
	for (uint32_t i = 0; i < n; i++)
		total += kvt_octaves_scale(share[i], reuse->correction[ids ? ids[i] : first + i]);
	/* sums of rounded shares may be 0 where pages are many and alike */
	double norm = (double)(KVT_MASS_ONE - reuse->unscored) / (double)MAX(total, 1);
	uint32_t end = reuse->end;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t page = ids ? ids[i] : first + i;
		uint64_t corrected = kvt_octaves_scale(share[i], reuse->correction[page]);
		uint32_t now = (uint32_t)MIN((double)corrected * norm, (double)KVT_MASS_ONE);
		bool known = page < reuse->end;
		reuse->share[page] = now;
		reuse->recent[page] = known ? towards(reuse->recent[page], now, 1) : now;
		reuse->lasting[page] = known ? towards(reuse->lasting[page], now, 2) : now;
		reuse->correction[page] -= (int16_t)(reuse->correction[page] >> FORGET_SHIFT);
		end = MAX(end, page + 1);
	}
	reuse->end = end;
}

void kvt_reuse_score(kvt_reuse *reuse, uint32_t first, uint32_t n, const uint32_t *share)
{
	score_pages(reuse, first, n, NULL, share);
}

void kvt_reuse_score_pages(kvt_reuse *reuse, uint32_t n, const uint32_t *ids, const uint32_t *share)
{
	score_pages(reuse, 0, n, ids, share);
}

void kvt_reuse_forget_shares(kvt_reuse *reuse, uint32_t n, const uint32_t *ids)
{
	for (uint32_t i = 0; i < n; i++)
		reuse->share[ids[i]] = 0;
}

void kvt_reuse_learn(kvt_reuse *reuse, const kvt_page_masses *row)
{
	uint64_t found = 0, thought = 0, unscored = 0;
	for (uint32_t i = 0; i < row->n; i++) {
		uint32_t page = row->pages[i], mass = kvt_mass_quantise(row->mass[i]);
		if (page >= reuse->end) {
			unscored += mass;
		} else {
			found += mass;
			thought += reuse->share[page];
		}
	}
	if (found == 0 || thought == 0)
		return;
	/* the masses of what was attended add up to 1; those of everything do not */
	double seen = (double)unscored * (double)thought / (double)found;
	reuse->unscored = towards(reuse->unscored, (uint32_t)MIN(seen, KVT_MASS_ONE / 2), 2);
	int level = kvt_octaves_of(found) - kvt_octaves_of(thought);
	for (uint32_t i = 0; i < row->n; i++) {
		uint32_t page = row->pages[i], mass = kvt_mass_quantise(row->mass[i]);
		if (page >= reuse->end || reuse->share[page] < LEAST_SHARE || mass == 0)
			continue;
		int off = kvt_octaves_of(mass) - kvt_octaves_of(reuse->share[page]) - level;
		off = CLAMP(off, -FOUND_MAX, FOUND_MAX);
		int correction = reuse->correction[page] + (off >> GAIN_SHIFT);
		reuse->correction[page] =
			(int16_t)CLAMP(correction, -CORRECTION_MAX, CORRECTION_MAX);
	}
}

void kvt_reuse_observe(kvt_reuse *reuse, uint32_t step, const kvt_page_masses *row)
{
	if (reuse->scored_step == step) {
		kvt_reuse_learn(reuse, row);
		return;
	}
	reuse->seen_step = step;
	reuse->n_seen = row->n;
	memcpy(reuse->seen, row->pages, row->n * sizeof(*row->pages));
	memcpy(reuse->seen_mass, row->mass, row->n * sizeof(*row->mass));
}

void kvt_reuse_scored_by(kvt_reuse *reuse, uint32_t step)
{
	reuse->scored_step = step;
	if (reuse->n_seen == 0 || reuse->seen_step != step)
		return;
	kvt_page_masses row = {
		.n = reuse->n_seen, .pages = reuse->seen, .mass = reuse->seen_mass
	};
	kvt_reuse_learn(reuse, &row);
	reuse->n_seen = 0;
}
