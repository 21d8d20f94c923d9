/* trace_growth_model.c: fits page trajectories to a recorded layer and merges their copies into the
 * rows of a longer context. It writes nothing. */
#include "traces/trace_growth_model.h"

#include <math.h>
#include <string.h>

#include "sim/base/rng.h"
#include "traces/attention_trace_writer.h"

/* Pages on each side of the one that a retrieval is reading that belong to it. */
enum { FOCUS_REACH = 3 };

/* A turn retrieves when the page that it reads has at least this mass, in the mean. */
#define RETRIEVAL_MASS 0.01

/* Below half of the smallest half-precision number a mass would be written as none. */
#define LEAST_MASS 0x1p-24

/* A recorded row: entries begin .. end - 1, weights being masses after sharpening. */
typedef struct growth_row {
	uint64_t begin, end;
	double retrieved;      /* weight of listed pages that a retrieval reads */
	double retrieved_mass; /* the same before sharpening */
	double tail;           /* weight of each page that the row leaves out */
	double whole;          /* of all pages */
	double pattern;        /* of the pattern's pages without those of a retrieval */
} growth_row;

typedef struct growth_turn {
	uint64_t first, count; /* recorded steps */
	uint64_t distance;     /* of the page that is read, in tokens before the step */
	double mass;           /* mean, of that page */
} growth_turn;

/* Whose entries a cursor goes through. */
typedef enum growth_part {
	PART_COPY,      /* a copy's pages without those that a retrieval reads */
	PART_HOME,      /* the recorded row as it is, or without what is in PART_RETRIEVED */
	PART_RETRIEVED, /* the pages that the step's own retrieval reads */
} growth_part;

/* A copy of the pattern while rows are merged: its next entry. */
typedef struct growth_cursor {
	double weight, scale;
	uint64_t entry, end, step;
	uint32_t copy;
	growth_part part;
} growth_cursor;

struct kvt_growth_model {
	kvt_growth_plan plan;
	uint64_t source_steps, copies_most;
	uint32_t heads, block_tokens;
	uint64_t *position;  /* [source_steps] */
	uint32_t *turn_of;   /* [source_steps] */
	growth_row *rows;    /* [source_steps][heads] */
	uint32_t *block;     /* entries */
	float *weight;       /* entries, falling within a row */
	GArray *turns;       /* growth_turn */
	uint32_t *rotation;  /* [copies_most], pages */
	uint32_t *start;     /* [copies_most], steps by which a copy is ahead in this turn */
	uint64_t start_of;   /* cycle and turn that `start` holds, UINT64_MAX: none */
	growth_cursor *heap; /* [copies_most + 1], the largest weight first */
	uint64_t heap_length;
	uint32_t out_block[KVT_ATTENTION_ROW_PAGES];
	float out_mass[KVT_ATTENTION_ROW_PAGES];
};

static bool is_pattern(const kvt_growth_model *model, uint32_t page)
{
	return page >= 1 && page <= model->plan.pattern_pages;
}

static bool is_focus(const kvt_growth_model *model, uint64_t step, uint32_t page)
{
	const growth_turn *turn = &g_array_index(model->turns, growth_turn, model->turn_of[step]);
	int64_t focus = (int64_t)((model->position[step] - turn->distance) / model->block_tokens);
	return turn->distance > 0 && ABS((int64_t)page - focus) <= FOCUS_REACH;
}

static bool is_retrieved(const kvt_growth_model *model, uint64_t step, uint32_t page)
{
	const growth_turn *turn = &g_array_index(model->turns, growth_turn, model->turn_of[step]);
	return turn->mass >= RETRIEVAL_MASS && is_pattern(model, page) &&
	       is_focus(model, step, page);
}

static uint64_t focus_pages(const kvt_growth_model *model, uint64_t step)
{
	const growth_turn *turn = &g_array_index(model->turns, growth_turn, model->turn_of[step]);
	int64_t focus = (int64_t)((model->position[step] - turn->distance) / model->block_tokens);
	int64_t low = MAX(focus - FOCUS_REACH, 1);
	int64_t high = MIN(focus + FOCUS_REACH, (int64_t)model->plan.pattern_pages);
	return turn->distance > 0 && high >= low ? (uint64_t)(high - low + 1) : 0;
}

static void find_turns(kvt_growth_model *model, const kvt_attention_step *steps)
{
	for (uint64_t s = 0; s < model->source_steps; s++) {
		model->position[s] = steps[s].position;
		if (s == 0 || steps[s].turn != steps[s - 1].turn) {
			const growth_turn turn = { .first = s };
			g_array_append_val(model->turns, turn);
		}
		g_array_index(model->turns, growth_turn, model->turns->len - 1).count++;
		model->turn_of[s] = model->turns->len - 1;
	}
}

/*
 * A retrieval reads a passage at the pace of the steps, so its page stays at one distance from
 * them. Every entry gives its mass to the distances at which it lies, all of its page's tokens; the
 * sums at every distance follow from the differences.
 */
static void find_focus(kvt_growth_model *model, growth_turn *turn)
{
	uint64_t first = model->position[turn->first];
	uint64_t least = (model->plan.local_pages + 1 + FOCUS_REACH) * model->block_tokens +
			 model->position[turn->first + turn->count - 1] -
			 model->plan.context_tokens;
	if (least + 2 * model->block_tokens >= first)
		return;
	g_autofree double *change = g_new0(double, first + 1);
	for (uint64_t s = turn->first; s < turn->first + turn->count; s++)
		for (uint32_t head = 0; head < model->heads; head++) {
			const growth_row *row = &model->rows[s * model->heads + head];
			for (uint64_t i = row->begin; i < row->end; i++) {
				if (!is_pattern(model, model->block[i]))
					continue;
				uint64_t from_start =
					model->position[s] -
					(uint64_t)model->block[i] * model->block_tokens;
				uint64_t near =
					from_start - MIN(from_start, model->block_tokens - 1);
				if (near <= first)
					change[near] += (double)model->weight[i];
				if (from_start + 1 <= first)
					change[from_start + 1] -= (double)model->weight[i];
			}
		}
	double sum = 0, best = 0;
	for (uint64_t distance = 0; distance + model->block_tokens < first; distance++) {
		sum += change[distance];
		if (distance > least && sum > best) {
			best = sum;
			turn->distance = distance;
		}
	}
	turn->mass = best / (double)(turn->count * model->heads);
}

/* What a row sums to, once retrievals are known and its masses can be sharpened. */
static void weigh_row(kvt_growth_model *model, uint64_t step, growth_row *row)
{
	double mass = 0, least = 1;
	uint64_t listed = 0;
	uint64_t present = model->position[step] / model->block_tokens + 1;
	for (uint64_t i = row->begin; i < row->end; i++) {
		double entry = (double)model->weight[i];
		mass += entry;
		least = entry;
		model->weight[i] = (float)pow(entry, model->plan.sharpening);
		row->whole += (double)model->weight[i];
		if (is_retrieved(model, step, model->block[i])) {
			row->retrieved += (double)model->weight[i];
			row->retrieved_mass += entry;
		}
		if (is_pattern(model, model->block[i]) && !is_focus(model, step, model->block[i])) {
			row->pattern += (double)model->weight[i];
			listed++;
		}
	}
	uint64_t left = present - (row->end - row->begin);
	if (left == 0 || mass >= 1)
		return;
	/* A page that is left out weighs no more than the last that is not. */
	row->tail = pow(MIN((1 - mass) / (double)left, least), model->plan.sharpening);
	row->whole += row->tail * (double)left;
	uint64_t others = model->plan.pattern_pages - focus_pages(model, step);
	row->pattern += row->tail * (double)(others - MIN(others, listed));
}

static bool read_rows(kvt_growth_model *model, kvt_attention_layer *layer, GError **error)
{
	uint64_t length = 0;
	for (uint64_t s = 0; s < model->source_steps; s++)
		for (uint32_t head = 0; head < model->heads; head++) {
			kvt_attention_row from;
			if (!kvt_attention_layer_row(layer, s, head, &from, error))
				return false;
			growth_row *row = &model->rows[s * model->heads + head];
			row->begin = length;
			memcpy(model->block + length, from.block, from.count * sizeof(uint32_t));
			memcpy(model->weight + length, from.mass, from.count * sizeof(float));
			length += from.count;
			row->end = length;
		}
	for (unsigned i = 0; i < model->turns->len; i++)
		find_focus(model, &g_array_index(model->turns, growth_turn, i));
	for (uint64_t s = 0; s < model->source_steps; s++)
		for (uint32_t head = 0; head < model->heads; head++)
			weigh_row(model, s, &model->rows[s * model->heads + head]);
	return true;
}

/* Pages that copies of the pattern fill in a cycle, the last copy in part. */
static uint64_t copied_pages(const kvt_growth_plan *plan, uint64_t cycle)
{
	return plan->pattern_pages + plan->added_pages + cycle * plan->cycle_pages;
}

kvt_growth_model *kvt_growth_model_fit(
	kvt_attention_layer *layer, const kvt_growth_plan *plan, GError **error)
{
	const kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	g_autoptr(kvt_growth_model) model = g_new0(kvt_growth_model, 1);
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &model->source_steps);
	uint64_t accesses = kvt_attention_layer_accesses(layer);
	model->plan = *plan;
	model->heads = header->kv_heads;
	model->block_tokens = header->block_tokens;
	model->position = g_new(uint64_t, model->source_steps);
	model->turn_of = g_new(uint32_t, model->source_steps);
	model->rows = g_new0(growth_row, model->source_steps * model->heads);
	model->block = g_new(uint32_t, accesses);
	model->weight = g_new(float, accesses);
	model->turns = g_array_new(FALSE, TRUE, sizeof(growth_turn));
	uint64_t last_cycle = (plan->steps - 1) / model->source_steps;
	model->copies_most = copied_pages(plan, last_cycle) / plan->pattern_pages + 1;
	model->rotation = g_new(uint32_t, model->copies_most);
	model->start = g_new(uint32_t, model->copies_most);
	model->start_of = UINT64_MAX;
	model->heap = g_new(growth_cursor, model->copies_most + 1);
	kvt_rng rng = kvt_rng_init(plan->seed, kvt_rng_stream_id("trace-growth.rotation", 0));
	for (uint64_t copy = 0; copy < model->copies_most; copy++)
		model->rotation[copy] = (uint32_t)kvt_rng_below(&rng, plan->pattern_pages);
	find_turns(model, steps);
	if (!read_rows(model, layer, error))
		return NULL;
	return g_steal_pointer(&model);
}

void kvt_growth_model_free(kvt_growth_model *model)
{
	if (model == NULL)
		return;
	g_free(model->position);
	g_free(model->turn_of);
	g_free(model->rows);
	g_free(model->block);
	g_free(model->weight);
	g_array_free(model->turns, TRUE);
	g_free(model->rotation);
	g_free(model->start);
	g_free(model->heap);
	g_free(model);
}

uint32_t kvt_growth_model_turns(const kvt_growth_model *model)
{
	return model->turns->len;
}

uint64_t kvt_growth_model_focus(const kvt_growth_model *model, uint32_t turn, double *mass)
{
	const growth_turn *found = &g_array_index(model->turns, growth_turn, turn);
	*mass = found->mass;
	return found->distance;
}

void kvt_growth_model_mark_retrieved(const kvt_growth_model *model, uint8_t *marks)
{
	for (uint64_t step = 0; step < model->source_steps; step++)
		for (uint32_t page = 1; page <= model->plan.pattern_pages; page++)
			if (is_retrieved(model, step, page))
				marks[page] = 1;
}

static uint64_t home_of(const kvt_growth_model *model, uint64_t cycle)
{
	kvt_rng rng = kvt_rng_init(model->plan.seed, kvt_rng_stream_id("trace-growth.home", cycle));
	return kvt_rng_below(&rng, copied_pages(&model->plan, cycle) / model->plan.pattern_pages);
}

/* Draws where in the turn each copy is; both heads and all layers draw the same. */
static void begin_turn(kvt_growth_model *model, uint64_t cycle, uint32_t turn)
{
	uint64_t which = cycle * model->turns->len + turn;
	if (model->start_of == which)
		return;
	uint64_t count = g_array_index(model->turns, growth_turn, turn).count;
	kvt_rng rng =
		kvt_rng_init(model->plan.seed, kvt_rng_stream_id("trace-growth.start", which));
	for (uint64_t copy = 0; copy < model->copies_most; copy++)
		model->start[copy] = (uint32_t)kvt_rng_below(&rng, count);
	model->start_of = which;
}

/* What a step's row is merged from. */
typedef struct growth_merge {
	uint64_t cycle, home, limit; /* limit: pages that copies fill */
	const growth_row *own;
} growth_merge;

/* The grown page of a cursor's recorded page; UINT32_MAX where it has none. */
static uint32_t place(const kvt_growth_model *model, const growth_merge *merge,
	const growth_cursor *cursor, uint32_t page)
{
	const kvt_growth_plan *plan = &model->plan;
	bool copied = is_pattern(model, page);
	if (cursor->part == PART_COPY && (!copied || is_focus(model, cursor->step, page)))
		return UINT32_MAX;
	if (cursor->part != PART_COPY &&
		(cursor->part == PART_RETRIEVED) != is_retrieved(model, cursor->step, page))
		return UINT32_MAX;
	if (!copied)
		return page == 0 ? 0
				 : (uint32_t)(page + plan->added_pages +
					      merge->cycle * plan->cycle_pages);
	uint64_t at = cursor->copy * plan->pattern_pages +
		      (page - 1 + model->rotation[cursor->copy]) % plan->pattern_pages;
	return at < merge->limit ? (uint32_t)(at + 1) : UINT32_MAX;
}

/* Moves a cursor to its first entry from `entry` on that has a page; false at the row's end. */
static bool advance(const kvt_growth_model *model, const growth_merge *merge, growth_cursor *cursor)
{
	while (cursor->entry < cursor->end &&
		place(model, merge, cursor, model->block[cursor->entry]) == UINT32_MAX)
		cursor->entry++;
	if (cursor->entry == cursor->end)
		return false;
	cursor->weight = (double)model->weight[cursor->entry] * cursor->scale;
	return true;
}

static bool is_before(const growth_cursor *a, const growth_cursor *b)
{
	if (a->weight != b->weight)
		return a->weight > b->weight;
	return a->copy != b->copy ? a->copy < b->copy : a->part < b->part;
}

static void sift_down(growth_cursor *heap, uint64_t length, uint64_t at)
{
	growth_cursor moved = heap[at];
	for (uint64_t child; (child = 2 * at + 1) < length; at = child) {
		if (child + 1 < length && is_before(&heap[child + 1], &heap[child]))
			child++;
		if (!is_before(&heap[child], &moved))
			break;
		heap[at] = heap[child];
	}
	heap[at] = moved;
}

/* Weight of the pages that the last copy has, being cut off by the end of the context. */
static double partial_weight(const kvt_growth_model *model, const growth_merge *merge,
	const growth_cursor *cursor, const growth_row *row)
{
	uint64_t pages = merge->limit % model->plan.pattern_pages;
	double weight = 0;
	for (uint64_t i = row->begin; i < row->end; i++)
		if (place(model, merge, cursor, model->block[i]) != UINT32_MAX) {
			weight += (double)model->weight[i];
			pages -= MIN(pages, 1);
		}
	return (weight + row->tail * (double)pages) * cursor->scale;
}

/*
 * Adds what the step's own retrieval reads, if it is one, and returns the new sum of weights: these
 * pages keep their recorded mass, whatever the length, and the others share the rest. A match
 * stands out by its content; the recordings show that it does not drown in a longer context.
 */
static double add_retrieved(
	kvt_growth_model *model, const growth_merge *merge, uint64_t step, double sum)
{
	const growth_row *own = merge->own;
	double others = sum - own->retrieved;
	if (!(own->retrieved > 0) || !(others > 0) || own->retrieved_mass >= 1)
		return sum;
	double whole = others / (1 - own->retrieved_mass);
	growth_cursor cursor = {
		.part = PART_RETRIEVED,
		.copy = (uint32_t)merge->home,
		.step = step,
		.entry = own->begin,
		.end = own->end,
		.scale = own->retrieved_mass * whole / own->retrieved,
	};
	if (advance(model, merge, &cursor))
		model->heap[model->heap_length++] = cursor;
	return whole;
}

/* Fills the heap with every copy; the sum of all weights of the step. */
static double gather(
	kvt_growth_model *model, const growth_merge *merge, uint64_t step, uint32_t head)
{
	const growth_turn *turn = &g_array_index(model->turns, growth_turn, model->turn_of[step]);
	uint64_t pattern_pages = model->plan.pattern_pages;
	uint64_t copies = (merge->limit + pattern_pages - 1) / pattern_pages;
	double sum = merge->own->whole;
	model->heap_length = 0;
	for (uint64_t copy = 0; copy < copies; copy++) {
		growth_cursor cursor = {
			.part = copy == merge->home ? PART_HOME : PART_COPY,
			.copy = (uint32_t)copy,
			.step = step,
			.scale = 1,
		};
		if (copy != merge->home)
			cursor.step = turn->first +
				      (step - turn->first + model->start[copy]) % turn->count;
		const growth_row *row = &model->rows[cursor.step * model->heads + head];
		if (copy != merge->home) {
			if (!(row->pattern > 0))
				continue;
			cursor.scale = merge->own->pattern / row->pattern;
			sum += (copy + 1) * pattern_pages <= merge->limit
				       ? merge->own->pattern
				       : partial_weight(model, merge, &cursor, row);
		}
		cursor.entry = row->begin;
		cursor.end = row->end;
		if (advance(model, merge, &cursor))
			model->heap[model->heap_length++] = cursor;
	}
	sum = add_retrieved(model, merge, step, sum);
	for (uint64_t i = model->heap_length / 2; i-- > 0;)
		sift_down(model->heap, model->heap_length, i);
	return sum;
}

kvt_attention_row kvt_growth_model_row(kvt_growth_model *model, uint64_t step, uint32_t kv_head)
{
	uint64_t source = step % model->source_steps;
	growth_merge merge = { .cycle = step / model->source_steps };
	kvt_attention_row row = { .block = model->out_block, .mass = model->out_mass };
	g_assert(step < model->plan.steps && kv_head < model->heads);
	merge.home = home_of(model, merge.cycle);
	merge.limit = copied_pages(&model->plan, merge.cycle);
	merge.own = &model->rows[source * model->heads + kv_head];
	begin_turn(model, merge.cycle, model->turn_of[source]);
	double sum = gather(model, &merge, source, kv_head);
	double covered = 0;
	while (model->heap_length > 0 && row.count < KVT_ATTENTION_ROW_PAGES &&
		covered < KVT_ATTENTION_ROW_COVER) {
		growth_cursor *top = &model->heap[0];
		double mass = top->weight / sum;
		if (mass < LEAST_MASS)
			break;
		model->out_block[row.count] = place(model, &merge, top, model->block[top->entry]);
		model->out_mass[row.count++] = (float)mass;
		covered += mass;
		top->entry++;
		if (!advance(model, &merge, top))
			model->heap[0] = model->heap[--model->heap_length];
		if (model->heap_length > 0)
			sift_down(model->heap, model->heap_length, 0);
	}
	return row;
}
