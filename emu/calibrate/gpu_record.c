/* gpu_record.c: a GPU's points and figures as JSON, and back; and as files of kernel times. */
#include "emu/calibrate/gpu_record.h"

#include "sim/base/output.h"

static const char *const WAYS[] = { [KVT_GPU_COPY_AUTOMATIC] = "automatic",
	[KVT_GPU_COPY_ENGINE] = "engine",
	[KVT_GPU_COPY_KERNEL] = "kernel" };
/* What its kernels are called where several are told apart. */
#define SOURCE "kvtier-cuda"

static json_t *copies_to_json(const GArray *from)
{
	json_t *points = json_array();
	for (unsigned i = 0; i < from->len; i++) {
		const kvt_gpu_copy_point *p = &g_array_index(from, kvt_gpu_copy_point, i);
		json_t *object = json_object();
		json_object_set_new(object, "to", json_string(p->to_gpu ? "gpu" : "host"));
		json_object_set_new(object, "way", json_string(WAYS[p->way]));
		kvt_record_integer(object, "size", p->size);
		kvt_record_measured(object, &p->rate);
		json_array_append_new(points, object);
	}
	return points;
}

static json_t *attention_to_json(const GArray *from)
{
	json_t *points = json_array();
	for (unsigned i = 0; i < from->len; i++) {
		const kvt_gpu_attention_point *p = &g_array_index(from, kvt_gpu_attention_point, i);
		json_t *object = json_object();
		json_object_set_new(
			object, "phase", json_string(p->prefill ? "prefill" : "decode"));
		json_object_set_new(object, "kv",
			json_string(p->element == KVT_ELEMENT_E4M3 ? "fp8" : "bfloat16"));
		kvt_record_integer(object, "heads", p->heads);
		kvt_record_integer(object, "kv_heads", p->kv_heads);
		kvt_record_integer(object, "head_dim", p->head_dim);
		kvt_record_integer(object, "tokens", p->tokens);
		kvt_record_integer(object, "prefix", p->prefix);
		kvt_record_measured(object, &p->seconds);
		json_array_append_new(points, object);
	}
	return points;
}

static json_t *products_to_json(const GArray *from)
{
	json_t *points = json_array();
	for (unsigned i = 0; i < from->len; i++) {
		const kvt_gpu_product_point *p = &g_array_index(from, kvt_gpu_product_point, i);
		json_t *object = json_object();
		json_object_set_new(object, "inputs", json_string(p->fp8 ? "fp8" : "bfloat16"));
		kvt_record_integer(object, "m", (uint64_t)p->m);
		kvt_record_integer(object, "n", (uint64_t)p->n);
		kvt_record_integer(object, "k", (uint64_t)p->k);
		json_object_set_new(object, "seconds", kvt_json_real(p->seconds));
		json_array_append_new(points, object);
	}
	return points;
}

json_t *kvt_gpu_calibration_to_json(const kvt_gpu_calibration *gpu)
{
	json_t *object = json_object(), *figures = json_object();
	json_object_set_new(object, "device", kvt_json_text(gpu->device));
	json_object_set_new(object, "versions", kvt_json_text(gpu->versions));
	json_object_set_new(object, "date", kvt_json_text(gpu->date));
	json_object_set_new(object, "datasheet", kvt_json_text(gpu->datasheet));
	json_object_set_new(object, "missing", kvt_json_text(gpu->why ? gpu->why : ""));
	kvt_record_integer(object, "memory", gpu->memory);
	kvt_record_integer(object, "processors", gpu->processors);
	if (gpu->pcie_generation > 0) {
		kvt_record_integer(object, "pcie_generation", gpu->pcie_generation);
		kvt_record_integer(object, "pcie_lanes", gpu->pcie_lanes);
	}
	for (unsigned i = 0; i < KVT_GPU_FIGURES; i++) {
		json_t *figure = json_object();
		kvt_record_measured(figure, &gpu->figures[i]);
		json_object_set_new(figures, kvt_gpu_figures[i].key, figure);
	}
	json_object_set_new(object, "figures", figures);
	json_object_set_new(object, "copies", copies_to_json(gpu->copies));
	json_object_set_new(object, "attention", attention_to_json(gpu->attention));
	json_object_set_new(object, "products", products_to_json(gpu->products));
	return object;
}

static void take_copies(kvt_taker *t, kvt_gpu_calibration *gpu, const json_t *points)
{
	for (size_t i = 0; i < json_array_size(points) && !t->error; i++) {
		const json_t *object = json_array_get(points, i);
		g_string_printf(t->where, "gpu.copies[%zu].", i);
		const char *way = json_string_value(json_object_get(object, "way"));
		kvt_gpu_copy_point p = { .to_gpu = kvt_take_choice(t, object, "to", "host", "gpu"),
			.size = kvt_take_count(t, object, "size", INT64_C(1) << 40),
			.rate = kvt_take_measured(t, object) };
		unsigned known = 0;
		while (known < G_N_ELEMENTS(WAYS) && g_strcmp0(way, WAYS[known]) != 0)
			known++;
		if (known == G_N_ELEMENTS(WAYS))
			kvt_taker_refuse(t, "way", "automatic, engine or kernel");
		p.way = (kvt_gpu_copy_way)known;
		g_array_append_val(gpu->copies, p);
	}
	const kvt_gpu_copy_point *found[1];
	g_string_assign(t->where, "gpu.");
	if (kvt_gpu_calibration_copies(gpu, true, found, 1) == 0 ||
		kvt_gpu_calibration_copies(gpu, false, found, 1) == 0)
		kvt_taker_refuse(t, "copies", "automatic ones in both directions");
}

static void take_attention(kvt_taker *t, kvt_gpu_calibration *gpu, const json_t *points)
{
	for (size_t i = 0; i < json_array_size(points) && !t->error; i++) {
		const json_t *object = json_array_get(points, i);
		g_string_printf(t->where, "gpu.attention[%zu].", i);
		kvt_gpu_attention_point p = {
			.heads = (unsigned)kvt_take_count(t, object, "heads", 65536),
			.kv_heads = (unsigned)kvt_take_count(t, object, "kv_heads", 65536),
			.head_dim = (unsigned)kvt_take_count(t, object, "head_dim", 65536),
			.element = kvt_take_choice(t, object, "kv", "bfloat16", "fp8")
					   ? KVT_ELEMENT_E4M3
					   : KVT_ELEMENT_BF16,
			.prefill = kvt_take_choice(t, object, "phase", "decode", "prefill"),
			.tokens = kvt_take_count(t, object, "tokens", INT64_C(1) << 40),
			.seconds = kvt_take_measured(t, object),
		};
		json_int_t prefix = json_integer_value(json_object_get(object, "prefix"));
		if (prefix < 0 || prefix > INT64_C(1) << 40)
			kvt_taker_refuse(t, "prefix", "a whole number");
		p.prefix = (uint64_t)MAX(prefix, 0);
		g_array_append_val(gpu->attention, p);
	}
	g_string_assign(t->where, "gpu.");
	if (!(kvt_gpu_calibration_read_rate(gpu) > 0))
		kvt_taker_refuse(t, "attention", "points of decode");
}

static void take_products(kvt_taker *t, kvt_gpu_calibration *gpu, const json_t *points)
{
	for (size_t i = 0; i < json_array_size(points) && !t->error; i++) {
		const json_t *object = json_array_get(points, i);
		g_string_printf(t->where, "gpu.products[%zu].", i);
		kvt_gpu_product_point p = {
			.fp8 = kvt_take_choice(t, object, "inputs", "bfloat16", "fp8"),
			.m = (int64_t)kvt_take_count(t, object, "m", INT64_C(1) << 32),
			.n = (int64_t)kvt_take_count(t, object, "n", INT64_C(1) << 32),
			.k = (int64_t)kvt_take_count(t, object, "k", INT64_C(1) << 32),
			.seconds = kvt_take_number(t, object, "seconds"),
		};
		g_array_append_val(gpu->products, p);
	}
}

kvt_gpu_calibration *kvt_take_gpu_calibration(kvt_taker *t, const json_t *value)
{
	kvt_gpu_calibration *gpu = kvt_gpu_calibration_new();
	g_string_assign(t->where, "gpu.");
	gpu->device = kvt_take_text(t, value, "device");
	gpu->versions = kvt_take_text(t, value, "versions");
	gpu->date = kvt_take_text(t, value, "date");
	gpu->datasheet = kvt_take_text(t, value, "datasheet");
	gpu->why = kvt_take_text(t, value, "missing");
	if (*gpu->why == '\0')
		g_clear_pointer(&gpu->why, g_free);
	gpu->memory = kvt_take_count(t, value, "memory", INT64_C(1) << 60);
	gpu->processors = (unsigned)kvt_take_count(t, value, "processors", 65536);
	if (json_object_get(value, "pcie_generation")) {
		gpu->pcie_generation = (unsigned)kvt_take_count(t, value, "pcie_generation", 6);
		gpu->pcie_lanes = (unsigned)kvt_take_count(t, value, "pcie_lanes", 32);
	}
	const json_t *figures = json_object_get(value, "figures");
	for (unsigned i = 0; i < KVT_GPU_FIGURES && !t->error; i++) {
		g_string_printf(t->where, "gpu.figures.%s.", kvt_gpu_figures[i].key);
		gpu->figures[i] =
			kvt_take_measured(t, json_object_get(figures, kvt_gpu_figures[i].key));
	}
	take_copies(t, gpu, json_object_get(value, "copies"));
	take_attention(t, gpu, json_object_get(value, "attention"));
	take_products(t, gpu, json_object_get(value, "products"));
	g_string_truncate(t->where, 0);
	return gpu;
}

static void put_time(GString *text, double seconds)
{
	char ms[64];
	g_ascii_formatd(ms, sizeof(ms), "%.6f", MAX(seconds * 1e3, 1e-6));
	g_string_append_printf(text, ",%s\n", ms);
}

static GString *begin_csv(const kvt_gpu_calibration *gpu, const char *what, const char *columns)
{
	GString *text = g_string_new(NULL);
	g_string_append_printf(text,
		"# %s on a %s, measured by `kvtier calibrate --device cuda` on %s; %s.\n%s\n", what,
		gpu->device, gpu->date, gpu->versions, columns);
	return text;
}

char *kvt_gpu_calibration_attention_csv(const kvt_gpu_calibration *gpu)
{
	GString *text = begin_csv(gpu, "Attention",
		"kernel_source,batch_size,isl,num_heads,num_key_value_heads,head_dim,attn_dtype,"
		"kv_cache_dtype,step,op_name,latency_ms");
	for (unsigned i = 0; i < gpu->attention->len; i++) {
		const kvt_gpu_attention_point *p =
			&g_array_index(gpu->attention, kvt_gpu_attention_point, i);
		g_string_append_printf(text,
			SOURCE ",1,%" G_GUINT64_FORMAT ",%u,%u,%u,bfloat16,%s,%" G_GUINT64_FORMAT
			       ",%s",
			p->prefill ? p->tokens : 1, p->heads, p->kv_heads, p->head_dim,
			p->element == KVT_ELEMENT_E4M3 ? "fp8" : "bfloat16",
			p->prefill ? p->prefix : p->tokens - 1,
			p->prefill ? "context_attention" : "generation_attention");
		put_time(text, p->seconds.value);
	}
	return g_string_free(text, FALSE);
}

char *kvt_gpu_calibration_products_csv(const kvt_gpu_calibration *gpu)
{
	GString *text = begin_csv(gpu, "Matrix products by cuBLAS",
		"kernel_source,gemm_dtype,m,n,k,op_name,latency_ms");
	for (unsigned i = 0; i < gpu->products->len; i++) {
		const kvt_gpu_product_point *p =
			&g_array_index(gpu->products, kvt_gpu_product_point, i);
		g_string_append_printf(text,
			"cublas,%s,%" G_GINT64_FORMAT ",%" G_GINT64_FORMAT ",%" G_GINT64_FORMAT
			",gemm",
			p->fp8 ? "fp8" : "bfloat16", p->m, p->n, p->k);
		put_time(text, p->seconds);
	}
	return g_string_free(text, FALSE);
}
