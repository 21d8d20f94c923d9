/* calibrate_rows.c: a measured figure as a row; a GPU's figures and points. */
#include "sim/cmd/calibrate_rows.h"

#include <math.h>

#include "emu/calibrate/gpu_calibration.h"

void kvt_calibrate_row(kvt_table *table, const char *part, const char *what, double value,
	kvt_unit unit, double spread, const char *source)
{
	g_autofree char *text = kvt_unit_format(value, unit);
	kvt_table_add_row(table);
	kvt_table_add_text(table, part);
	kvt_table_add_text(table, what);
	kvt_table_add_number(table, value);
	kvt_table_add_text(table, text);
	kvt_table_add_number(table, spread);
	kvt_table_add_text(table, source);
}

double kvt_calibrate_spread(const kvt_measured *m)
{
	return (m->high - m->low) / (2 * m->value);
}

static void add_copies(kvt_table *table, const kvt_gpu_calibration *gpu)
{
	static const char *const ways[] = { [KVT_GPU_COPY_AUTOMATIC] = "automatic",
		[KVT_GPU_COPY_ENGINE] = "by the engines",
		[KVT_GPU_COPY_KERNEL] = "by a kernel" };
	for (unsigned i = 0; i < gpu->copies->len; i++) {
		const kvt_gpu_copy_point *p = &g_array_index(gpu->copies, kvt_gpu_copy_point, i);
		g_autofree char *size = kvt_unit_format((double)p->size, KVT_UNIT_BYTES);
		g_autofree char *what = g_strdup_printf("pages of %s, %s", size, ways[p->way]);
		kvt_calibrate_row(table, p->to_gpu ? "copy to the GPU" : "copy to the host", what,
			p->rate.value, KVT_UNIT_RATE, kvt_calibrate_spread(&p->rate),
			"measured: anywhere in pinned memory, 32 MiB a call");
	}
}

static void add_gpu_attention(kvt_table *table, const kvt_gpu_calibration *gpu)
{
	for (unsigned i = 0; i < gpu->attention->len; i++) {
		const kvt_gpu_attention_point *p =
			&g_array_index(gpu->attention, kvt_gpu_attention_point, i);
		double tokens = (double)p->tokens, prefix = (double)p->prefix;
		g_autofree char *after =
			p->prefix > 0 ? g_strdup_printf(" after %" G_GUINT64_FORMAT, p->prefix)
				      : g_strdup("");
		g_autofree char *what =
			g_strdup_printf("%u/%u heads of %u%s, %" G_GUINT64_FORMAT "%s", p->heads,
				p->kv_heads, p->head_dim,
				p->element == KVT_ELEMENT_E4M3 ? ", FP8" : "", p->tokens, after);
		double bytes = 2.0 * p->kv_heads * p->head_dim * tokens *
			       (double)kvt_element_bytes(p->element);
		double flops = 4.0 * p->head_dim * p->heads * tokens * (prefix + (tokens + 1) / 2);
		g_autofree char *rate =
			p->prefill ? kvt_unit_format(flops / p->seconds.value, KVT_UNIT_FLOPS)
				   : kvt_unit_format(bytes / p->seconds.value, KVT_UNIT_RATE);
		g_autofree char *source = g_strdup_printf("measured: %s", rate);
		kvt_calibrate_row(table, p->prefill ? "prefill attention" : "decode attention",
			what, p->seconds.value, KVT_UNIT_TIME, kvt_calibrate_spread(&p->seconds),
			source);
	}
}

static void add_products(kvt_table *table, const kvt_gpu_calibration *gpu)
{
	for (unsigned i = 0; i < gpu->products->len; i++) {
		const kvt_gpu_product_point *p =
			&g_array_index(gpu->products, kvt_gpu_product_point, i);
		g_autofree char *what = g_strdup_printf(
			"%s, %" G_GINT64_FORMAT " x %" G_GINT64_FORMAT " x %" G_GINT64_FORMAT,
			p->fp8 ? "FP8" : "BF16", p->m, p->n, p->k);
		double flops = 2.0 * (double)p->m * (double)p->n * (double)p->k;
		g_autofree char *rate = kvt_unit_format(flops / p->seconds, KVT_UNIT_FLOPS);
		g_autofree char *source = g_strdup_printf("measured: cuBLAS, %s", rate);
		kvt_calibrate_row(
			table, "matrix product", what, p->seconds, KVT_UNIT_TIME, NAN, source);
	}
}

void kvt_calibrate_gpu_rows(kvt_table *table, const kvt_gpu_calibration *gpu)
{
	kvt_calibrate_row(table, "GPU", "what attention reads", kvt_gpu_calibration_read_rate(gpu),
		KVT_UNIT_RATE, NAN, "measured: the fastest decode attention");
	for (unsigned i = 0; i < KVT_GPU_FIGURES; i++)
		kvt_calibrate_row(table, "GPU", kvt_gpu_figures[i].what, gpu->figures[i].value,
			(kvt_unit)kvt_gpu_figures[i].unit, kvt_calibrate_spread(&gpu->figures[i]),
			i == KVT_GPU_LAUNCH || i == KVT_GPU_COPY_LATENCY || i == KVT_GPU_SUBMIT
				? "measured: by the host's clock"
				: "measured: by the card's clock");
	add_copies(table, gpu);
	add_gpu_attention(table, gpu);
	add_products(table, gpu);
}
