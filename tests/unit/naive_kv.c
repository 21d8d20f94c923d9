/* naive_kv.c: blocks in lists, every question answered by a search. */
#include "tests/unit/naive_kv.h"

#include <string.h>

unsigned naive_kv_name(unsigned tenant, unsigned id)
{
	return tenant * 1000 + id;
}

naive_block *naive_kv_find(naive_kv *kv, unsigned name)
{
	for (unsigned i = 0; i < kv->n_hbm; i++)
		if (kv->hbm[i].name == name)
			return &kv->hbm[i];
	return NULL;
}

naive_copy *naive_kv_find_copy(naive_kv *kv, unsigned tier, unsigned name)
{
	for (unsigned i = 0; i < kv->n_tier[tier]; i++)
		if (kv->tiers[tier][i].name == name)
			return &kv->tiers[tier][i];
	return NULL;
}

static unsigned pages_of(const naive_kv *kv, unsigned tokens)
{
	return (tokens + kv->page - 1) / kv->page;
}

unsigned naive_kv_used_pages(const naive_kv *kv)
{
	unsigned pages = 0;
	for (unsigned i = 0; i < kv->n_hbm; i++)
		pages += pages_of(kv, kv->hbm[i].tokens);
	for (unsigned s = 0; s < G_N_ELEMENTS(kv->sequences); s++)
		for (unsigned i = 0; kv->sequences[s].used && i < kv->sequences[s].n_own; i++)
			pages += pages_of(kv, kv->sequences[s].own[i]);
	return pages;
}

unsigned naive_kv_used_tokens(const naive_kv *kv)
{
	unsigned tokens = 0;
	for (unsigned i = 0; i < kv->n_hbm; i++)
		tokens += kv->hbm[i].tokens;
	for (unsigned s = 0; s < G_N_ELEMENTS(kv->sequences); s++)
		for (unsigned i = 0; kv->sequences[s].used && i < kv->sequences[s].n_own; i++)
			tokens += kv->sequences[s].own[i];
	return tokens;
}

static void remove_block(naive_kv *kv, naive_block *block)
{
	*block = kv->hbm[--kv->n_hbm];
}

static void note(naive_kv *kv, bool load, bool keeps, unsigned from, unsigned to, unsigned name)
{
	naive_move *move = NULL;
	for (unsigned i = 0; i < kv->n_moves; i++)
		if (kv->moves[i].load == load && kv->moves[i].keeps == keeps &&
			kv->moves[i].from == from && kv->moves[i].to == to)
			move = &kv->moves[i];
	if (!move) {
		move = &kv->moves[kv->n_moves++];
		*move = (naive_move){
			.used = true, .load = load, .keeps = keeps, .from = from, .to = to
		};
	}
	move->names[move->n++] = name;
}

static void fall(naive_kv *kv, unsigned from, unsigned name);

/* Makes room for one block in a tier. */
static bool tier_room(naive_kv *kv, unsigned tier)
{
	while (kv->n_tier[tier] + 1 > kv->room[tier]) {
		naive_copy *oldest = NULL;
		for (unsigned i = 0; i < kv->n_tier[tier]; i++) {
			naive_copy *copy = &kv->tiers[tier][i];
			if (!copy->arriving && copy->pins == 0 &&
				(!oldest || copy->recent < oldest->recent))
				oldest = copy;
		}
		if (!oldest)
			return false;
		unsigned name = oldest->name;
		*oldest = kv->tiers[tier][--kv->n_tier[tier]];
		fall(kv, tier + 1, name);
	}
	return true;
}

static void enter(naive_kv *kv, unsigned tier, unsigned name)
{
	kv->tiers[tier][kv->n_tier[tier]++] = (naive_copy){ .name = name, .arriving = true };
}

/* What is there already was used above, and is recent. */
static bool found_again(naive_kv *kv, unsigned tier, unsigned name)
{
	naive_copy *copy = naive_kv_find_copy(kv, tier, name);
	if (copy && !copy->arriving)
		copy->recent = ++kv->now;
	return copy != NULL;
}

/* Level 0 is HBM, tier t is level t + 1. */
static void fall(naive_kv *kv, unsigned from, unsigned name)
{
	for (unsigned tier = from; tier < NAIVE_KV_TIERS; tier++) {
		if (found_again(kv, tier, name))
			return;
		if (!tier_room(kv, tier))
			continue;
		enter(kv, tier, name);
		note(kv, false, false, from, tier + 1, name);
		return;
	}
}

static bool hbm_room(naive_kv *kv, unsigned pages)
{
	while (naive_kv_used_pages(kv) + pages > kv->pages) {
		naive_block *oldest = NULL;
		for (unsigned i = 0; i < kv->n_hbm; i++)
			if (kv->hbm[i].kept && kv->hbm[i].holders == 0 &&
				(!oldest || kv->hbm[i].recent < oldest->recent))
				oldest = &kv->hbm[i];
		if (!oldest)
			return false;
		unsigned name = oldest->name;
		remove_block(kv, oldest);
		bool below = false;
		for (unsigned tier = 0; tier < NAIVE_KV_TIERS; tier++)
			below |= naive_kv_find_copy(kv, tier, name) != NULL;
		if (!kv->write_through || !below)
			fall(kv, 0, name);
	}
	return true;
}

static unsigned share_of(const naive_kv *kv, unsigned tokens, unsigned block)
{
	return MIN(kv->block, tokens - block * kv->block);
}

static void settle(naive_kv *kv, naive_block *block)
{
	if (block->state == NAIVE_LOADING)
		return;
	if (block->state == NAIVE_EMPTY || block->tokens < kv->block) {
		remove_block(kv, block);
		return;
	}
	block->kept = true;
	block->recent = ++kv->now;
}

static void release(naive_kv *kv, unsigned name)
{
	naive_block *block = naive_kv_find(kv, name);
	g_assert(block && block->holders > 0);
	if (--block->holders == 0)
		settle(kv, block);
}

unsigned naive_kv_match(naive_kv *kv, unsigned tenant, const uint32_t *ids, unsigned n_ids,
	unsigned tokens, unsigned levels[1 + NAIVE_KV_TIERS])
{
	memset(levels, 0, (1 + NAIVE_KV_TIERS) * sizeof(*levels));
	for (unsigned i = 0; i < n_ids; i++) {
		unsigned name = naive_kv_name(tenant, ids[i]), level = UINT_MAX;
		const naive_block *block = naive_kv_find(kv, name);
		if (block && block->state != NAIVE_EMPTY &&
			block->tokens >= share_of(kv, tokens, i))
			level = 0;
		for (unsigned tier = 0; !block && level == UINT_MAX && tier < NAIVE_KV_TIERS;
			tier++) {
			const naive_copy *copy = naive_kv_find_copy(kv, tier, name);
			if (copy && !copy->arriving)
				level = tier + 1;
		}
		if (level == UINT_MAX)
			return i;
		levels[level]++;
	}
	return n_ids;
}

/* Pages that a prompt lacks, less those that could be had by evicting all that it does not hold. */
static bool would_fit(naive_kv *kv, const naive_sequence *s, unsigned tokens)
{
	unsigned missing = 0, kept = 0;
	for (unsigned i = 0; i < s->n_names; i++)
		if (!naive_kv_find(kv, s->names[i]))
			missing += pages_of(kv, share_of(kv, tokens, i));
	unsigned named = s->n_names * kv->block;
	missing += tokens > named ? pages_of(kv, tokens - named) : 0;
	for (unsigned i = 0; i < kv->n_hbm; i++) {
		bool mine = false;
		for (unsigned j = 0; j < s->n_names; j++)
			mine |= s->names[j] == kv->hbm[i].name;
		if (kv->hbm[i].kept && kv->hbm[i].holders == 0 && !mine)
			kept += pages_of(kv, kv->hbm[i].tokens);
	}
	return naive_kv_used_pages(kv) - kept + missing <= kv->pages;
}

static unsigned level_below(naive_kv *kv, unsigned name)
{
	for (unsigned tier = 0; tier < NAIVE_KV_TIERS; tier++) {
		const naive_copy *copy = naive_kv_find_copy(kv, tier, name);
		if (copy && !copy->arriving)
			return tier + 1;
	}
	return 0;
}

bool naive_kv_admit(naive_kv *kv, unsigned sequence, unsigned tenant, const uint32_t *ids,
	unsigned n_ids, unsigned tokens)
{
	naive_sequence *s = &kv->sequences[sequence];
	unsigned levels[1 + NAIVE_KV_TIERS];
	unsigned matched = naive_kv_match(kv, tenant, ids, n_ids, tokens, levels);
	*s = (naive_sequence){ .tenant = tenant, .prompt = tokens };
	for (unsigned i = 0; i < n_ids; i++) {
		unsigned name = naive_kv_name(tenant, ids[i]);
		const naive_block *block = naive_kv_find(kv, name);
		if (block && block->tokens < share_of(kv, tokens, i))
			break;
		s->names[s->n_names++] = name;
	}
	if (!would_fit(kv, s, tokens))
		return false;
	s->used = true;
	bool absent[NAIVE_KV_MAX];
	for (unsigned i = s->n_names; i-- > 0;) {
		naive_block *block = naive_kv_find(kv, s->names[i]);
		absent[i] = block == NULL;
		if (block) {
			block->holders++;
		} else if (i < matched) {
			naive_copy *copy = naive_kv_find_copy(
				kv, level_below(kv, s->names[i]) - 1, s->names[i]);
			copy->pins++;
			copy->recent = ++kv->now;
		}
	}
	for (unsigned i = 0; i < s->n_names; i++) {
		if (!absent[i])
			continue;
		unsigned share = share_of(kv, tokens, i);
		g_assert(hbm_room(kv, pages_of(kv, share)));
		naive_block block = { .name = s->names[i],
			.tokens = share,
			.holders = 1,
			.state = i < matched ? NAIVE_LOADING : NAIVE_EMPTY };
		kv->hbm[kv->n_hbm++] = block;
	}
	for (unsigned i = 0; i < matched; i++)
		if (absent[i])
			note(kv, true, false, level_below(kv, s->names[i]), 0, s->names[i]);
	s->room = MIN(s->n_names * kv->block, tokens);
	g_assert(naive_kv_extend(kv, sequence, tokens));
	return true;
}

/* The partial last block of the prompt becomes the sequence's own, or a copy of it does. */
static bool own_partial(naive_kv *kv, naive_sequence *s)
{
	unsigned last = s->n_names - 1, share = share_of(kv, s->prompt, last);
	naive_block *block = naive_kv_find(kv, s->names[last]);
	if (block->holders == 1 && block->tokens == share && block->state != NAIVE_LOADING) {
		remove_block(kv, block);
	} else {
		if (!hbm_room(kv, pages_of(kv, share)))
			return false;
		release(kv, s->names[last]);
	}
	s->n_names--;
	s->own[s->n_own++] = share;
	return true;
}

bool naive_kv_extend(naive_kv *kv, unsigned sequence, unsigned tokens)
{
	naive_sequence *s = &kv->sequences[sequence];
	while (s->room < tokens) {
		unsigned used = s->room % kv->block, end = MIN(s->room - used + kv->block, tokens);
		if (used == 0) {
			if (!hbm_room(kv, pages_of(kv, end - s->room)))
				return false;
			s->own[s->n_own++] = end - s->room;
		} else {
			if (s->n_names * kv->block > s->room && !own_partial(kv, s))
				return false;
			unsigned *last = &s->own[s->n_own - 1], now = end - (s->room - used);
			if (!hbm_room(kv, pages_of(kv, now) - pages_of(kv, *last)))
				return false;
			*last = now;
		}
		s->room = end;
	}
	return true;
}

void naive_kv_computed(naive_kv *kv, unsigned sequence, unsigned tokens)
{
	naive_sequence *s = &kv->sequences[sequence];
	for (unsigned i = 0; i < s->n_names; i++) {
		unsigned share = share_of(kv, s->prompt, i);
		naive_block *block = naive_kv_find(kv, s->names[i]);
		if (i * kv->block + share <= tokens && block->state == NAIVE_EMPTY &&
			block->tokens <= share)
			block->state = NAIVE_READY;
	}
	s->computed = MAX(s->computed, tokens);
}

void naive_kv_end(naive_kv *kv, unsigned sequence, const uint32_t *ids, unsigned n_ids, bool drop)
{
	naive_sequence *s = &kv->sequences[sequence];
	unsigned whole = MIN(s->computed / kv->block, n_ids), given = 0;
	while (!drop && s->n_names < whole) {
		unsigned name = naive_kv_name(s->tenant, ids[s->n_names]);
		naive_block *block = naive_kv_find(kv, name);
		g_assert(s->own[given] == kv->block);
		if (block)
			block->holders++;
		else
			kv->hbm[kv->n_hbm++] = (naive_block){ .name = name,
				.tokens = kv->block,
				.holders = 1,
				.state = NAIVE_READY };
		s->names[s->n_names++] = name;
		given++;
	}
	s->n_own = 0;
	for (unsigned i = s->n_names; i-- > 0;) {
		const naive_block *block = naive_kv_find(kv, s->names[i]);
		if (!drop && kv->write_through && block->state == NAIVE_READY &&
			block->tokens == kv->block && !found_again(kv, 0, s->names[i]) &&
			tier_room(kv, 0)) {
			enter(kv, 0, s->names[i]);
			naive_kv_find(kv, s->names[i])->holders++;
			note(kv, false, true, 0, 1, s->names[i]);
		}
		release(kv, s->names[i]);
	}
	s->used = false;
}

void naive_kv_moved(naive_kv *kv, const naive_move *move, unsigned n_intact)
{
	for (unsigned i = 0; i < move->n; i++) {
		unsigned name = move->names[i];
		if (move->load) {
			naive_copy *copy = naive_kv_find_copy(kv, move->from - 1, name);
			naive_block *block = naive_kv_find(kv, name);
			g_assert(copy && copy->pins > 0 && block->state == NAIVE_LOADING);
			copy->pins--;
			copy->recent = ++kv->now;
			block->state = i < n_intact ? NAIVE_READY : NAIVE_EMPTY;
			if (i >= n_intact && copy->pins == 0)
				*copy = kv->tiers[move->from - 1][--kv->n_tier[move->from - 1]];
			if (block->holders == 0)
				settle(kv, block);
			continue;
		}
		naive_copy *copy = naive_kv_find_copy(kv, move->to - 1, name);
		g_assert(copy && copy->arriving);
		if (i < n_intact) {
			copy->arriving = false;
			copy->recent = ++kv->now;
		} else {
			*copy = kv->tiers[move->to - 1][--kv->n_tier[move->to - 1]];
		}
		if (move->keeps)
			release(kv, name);
	}
}
