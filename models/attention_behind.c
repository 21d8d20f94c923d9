/*
 * attention_behind.c: prefill behind a prefix, where it was measured: how far such times are from
 * what attention_model.c makes of prompts without one.
 */
#include "models/attention_internal.h"

#include <math.h>

/* How far apart two shapes are in one octave of new tokens, of the prefix, of query heads a KV
 * head, and of KV heads: the leftover changes most along the first. */
static const double NEW_TOKENS = 1, PREFIX = 0.5, GROUP = 1, KV_HEADS = 0.25;
/* Squared, within which a measured shape counts as the one that is asked for. */
static const double SAME = 1e-4;

static double octaves(double a, double b, double weight)
{
	double d = weight * log2(a / b);
	return d * d;
}

double kvt_attention_behind_factor(const kvt_attention_grid *grid, const kvt_attention_query *query)
{
	double sum = 0, total = 0, group = (double)query->heads / (double)query->kv_heads;
	for (unsigned i = 0; i < grid->behind->len; i++) {
		const kvt_attention_behind *b =
			&g_array_index(grid->behind, kvt_attention_behind, i);
		double d = octaves((double)query->tokens, (double)b->tokens, NEW_TOKENS) +
			   octaves((double)query->prefix, (double)b->prefix, PREFIX) +
			   octaves(group, (double)b->pair.heads / (double)b->pair.kv_heads, GROUP) +
			   octaves((double)query->kv_heads, (double)b->pair.kv_heads, KV_HEADS);
		double weight = 1 / ((d + SAME) * (d + SAME));
		sum += weight * log(b->factor);
		total += weight;
	}
	return total > 0 ? exp(sum / total) : 1;
}

static bool is_behind(const kvt_attention_grid *grid, const kvt_kernel_row *row)
{
	return row->kind == KVT_KERNEL_PREFILL && row->attention.step > 0 &&
	       row->attention.head_dim == grid->head_dim && row->attention.batch == 1 &&
	       g_str_equal(row->source, grid->source) && g_str_equal(row->dtype, grid->dtype) &&
	       g_str_equal(row->kv_dtype, grid->kv_dtype);
}

void kvt_attention_behind_fit(kvt_attention_model *model, const kvt_kernel_row *rows, size_t count)
{
	for (unsigned g = 0; g < model->grids->len; g++) {
		kvt_attention_grid *grid = model->grids->pdata[g];
		g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(kvt_attention_behind));
		for (size_t i = 0; grid->phase == KVT_ATTENTION_PREFILL && i < count; i++) {
			const kvt_kernel_attention *r = &rows[i].attention;
			kvt_attention_time time;
			if (!is_behind(grid, &rows[i]) || found->len == KVT_GRID_BEHIND_MAX ||
				kvt_attention_predict_row(model, &rows[i], &time) != 0)
				continue;
			kvt_attention_behind b = { .pair = { r->heads, r->kv_heads },
				.tokens = r->isl,
				.prefix = r->step,
				.factor = kvt_attention_behind_round(
					rows[i].seconds / time.seconds) };
			g_array_append_val(found, b);
		}
		/* none counts before all are there: they are factors of what no row has touched */
		g_array_append_vals(grid->behind, found->data, found->len);
	}
}

double kvt_attention_behind_round(double factor)
{
	return fmin(fmax(round(factor * 1e4) / 1e4, 1e-2), 1e2);
}
