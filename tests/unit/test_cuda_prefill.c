/*
 * test_cuda_prefill.c: attention of prompts' chunks on a CUDA device against double precision: of
 * query tokens at random, all KV heads; everywhere else that results are numbers. Whatever no query
 * sees is NaN, and so are results and scratch before a call. /quick is for sanitizers.
 */
#include <glib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda_kernels.h"
#include "tests/unit/cuda_fixture.h"

enum { SAMPLES = 9 };

typedef struct shape {
	uint32_t kv_heads, heads, n_queries, page_tokens, skip;
	uint64_t n_tokens, seen;
	float factor;     /* of logits */
	uint32_t windows; /* more than 1: so many calls, the last tokens first, and merges */
} shape;

/* A form of the kernel. */
typedef struct form {
	kvt_element element;
	uint32_t head_dim;
	kvt_cuda_precision precision;
} form;

#if KVT_CUDA

typedef struct trial {
	form form;
	shape shape;
	size_t block, page_bytes, n_pages, n_rows; /* rows: of a KV head */
	uint8_t *kv;
	uint32_t *order; /* where pages lie */
	float *queries, *output, *lse;
	uint64_t counter; /* of random numbers */
} trial;

static uint8_t *page_at(const trial *t, uint64_t page, uint32_t kv_head)
{
	return t->kv + t->order[page] * t->page_bytes + kv_head * 2 * t->block;
}

static void fill_pages(trial *t)
{
	const shape *s = &t->shape;
	const size_t row = t->form.head_dim * kvt_element_bytes(t->form.element);
	const uint64_t last = s->seen + s->n_queries - 1;
	const uint64_t visible = last < s->n_tokens ? last : s->n_tokens;
	float numbers[128];
	memset(t->kv, t->form.element == KVT_ELEMENT_E4M3 ? 0x7f : 0xff,
		t->n_pages * t->page_bytes);
	for (uint64_t token = s->skip; token < s->skip + visible; token++)
		for (uint32_t i = 0; i < 2 * s->kv_heads; i++) {
			uint8_t *to = page_at(t, token / s->page_tokens, 0) + i * t->block +
				      token % s->page_tokens * row;
			for (uint32_t k = 0; k < t->form.head_dim; k++)
				numbers[k] = cuda_fixture_normal(t->counter++);
			kvt_elements_from_float(t->form.element, numbers, t->form.head_dim, to);
		}
}

static void trial_init(trial *t)
{
	const shape *s = &t->shape;
	t->block = (size_t)s->page_tokens * t->form.head_dim * kvt_element_bytes(t->form.element);
	t->page_bytes = 2 * t->block * s->kv_heads;
	t->n_pages = (s->skip + s->n_tokens + s->page_tokens - 1) / s->page_tokens;
	t->n_rows = (size_t)s->n_queries * s->heads;
	t->kv = g_malloc(t->n_pages * t->page_bytes + 1);
	t->order = g_new(uint32_t, t->n_pages + 1);
	for (uint32_t i = 0; i < t->n_pages; i++)
		t->order[i] = i;
	g_autoptr(GRand) rand = g_rand_new_with_seed(s->n_queries);
	for (uint32_t i = (uint32_t)t->n_pages; i > 1; i--) {
		uint32_t other = (uint32_t)g_rand_int_range(rand, 0, (int)i), kept;
		kept = t->order[i - 1], t->order[i - 1] = t->order[other], t->order[other] = kept;
	}
	fill_pages(t);
	const size_t n = t->n_rows * s->kv_heads;
	t->queries = g_new(float, n * t->form.head_dim);
	for (size_t i = 0; i < n * t->form.head_dim; i++)
		t->queries[i] = cuda_fixture_normal(t->counter++);
	t->output = g_new(float, n * t->form.head_dim);
	t->lse = g_new(float, n);
}

static void trial_clear(trial *t)
{
	g_free(t->kv);
	g_free(t->order);
	g_free(t->queries);
	g_free(t->output);
	g_free(t->lse);
}

static kvt_cuda_shape cuda_shape(const trial *t)
{
	const bool bytes = t->form.element == KVT_ELEMENT_E4M3;
	return (kvt_cuda_shape){ .element = t->form.element,
		.head_dim = t->form.head_dim,
		.kv_heads = t->shape.kv_heads,
		.heads = t->shape.heads,
		.page_tokens = t->shape.page_tokens,
		.head_stride = 2 * t->block,
		.value_offset = t->block,
		.scale = t->shape.factor / sqrtf((float)t->form.head_dim),
		.key_scale = bytes ? 0.5f : 1,
		.value_scale = bytes ? 2.0f : 1,
		.precision = t->form.precision };
}

/* What a call and its results take on the device. */
typedef struct device {
	uint8_t *pool;
	const void **pages; /* on the host, and their list there */
	void *list, *scratch;
	kvt_cuda_queries queries;
	kvt_cuda_partial all, one;
	size_t scratch_bytes;
} device;

static void device_init(const trial *t, const kvt_cuda_shape *s, device *d)
{
	const size_t n = t->n_rows * t->shape.kv_heads, dim = t->form.head_dim;
	d->pool = cuda_fixture_put(t->kv, t->n_pages * t->page_bytes);
	d->pages = g_new0(const void *, t->n_pages + 1);
	for (size_t i = 0; i < t->n_pages; i++)
		d->pages[i] = d->pool + t->order[i] * t->page_bytes;
	d->list = cuda_fixture_put(d->pages, t->n_pages * sizeof(*d->pages));
	d->queries = (kvt_cuda_queries){ cuda_fixture_put(t->queries, n * dim * sizeof(float)),
		t->n_rows * dim, t->shape.n_queries };
	d->all.output = cuda_fixture_put(NULL, n * dim * sizeof(float));
	d->all.lse = cuda_fixture_put(NULL, n * sizeof(float));
	d->one.output = cuda_fixture_put(NULL, n * dim * sizeof(float));
	d->one.lse = cuda_fixture_put(NULL, n * sizeof(float));
	d->scratch_bytes = kvt_cuda_attention_scratch(s, t->shape.n_queries);
	d->scratch = cuda_fixture_put(NULL, d->scratch_bytes);
}

static void device_clear(device *d)
{
	void *memory[] = { d->pool, d->list, d->scratch, (void *)d->queries.queries, d->all.output,
		d->all.lse, d->one.output, d->one.lse };
	for (unsigned i = 0; i < G_N_ELEMENTS(memory); i++)
		cuda_fixture_free(memory[i]);
	g_free(d->pages);
}

/* Attention in windows of tokens that every query sees, but for the last one. */
static int attend(const trial *t, const kvt_cuda_shape *s, const device *d)
{
	const uint32_t n = t->shape.windows > 1 ? t->shape.windows : 1;
	int status = 0;
	for (uint32_t i = n; i > 0 && status == 0; i--) {
		const uint64_t from = t->shape.seen * (i - 1) / n;
		const uint64_t to = i == n ? t->shape.n_tokens : t->shape.seen * i / n;
		const uint64_t at = t->shape.skip + from;
		const kvt_cuda_window window = { (const void *const *)d->list +
							 at / t->shape.page_tokens,
			to - from, (uint32_t)(at % t->shape.page_tokens), t->shape.seen - from, 0 };
		const kvt_cuda_partial *partial = i == n ? &d->all : &d->one;
		status = kvt_cuda_attention(s, &d->queries, &window, partial, d->scratch, NULL);
		if (status == 0 && i < n)
			status = kvt_cuda_merge(&d->all, &d->one, t->n_rows * t->shape.kv_heads,
				t->form.head_dim, NULL);
	}
	return status;
}

/* Everything to the device, the calls, and results back. */
static bool compute(trial *t, const char *name)
{
	const size_t n = t->n_rows * t->shape.kv_heads, dim = t->form.head_dim;
	const kvt_cuda_shape s = cuda_shape(t);
	device d;
	device_init(t, &s, &d);
	const int status = attend(t, &s, &d);
	if (d.scratch_bytes == 0 || status != 0)
		cuda_fixture_failed(
			"%s: scratch of %zu bytes, status %d", name, d.scratch_bytes, status);
	const bool ok = cuda_fixture_get(t->output, d.all.output, n * dim * sizeof(float), name) &&
			cuda_fixture_get(t->lse, d.all.lse, n * sizeof(float), name);
	device_clear(&d);
	return ok && d.scratch_bytes > 0 && status == 0;
}

/* Of results against double precision. */
typedef struct errors {
	double square, reference, lse, worst;
	char where[160];
} errors;

static void compare(trial *t, uint32_t kv_head, uint32_t query, const double *exact,
	const double *lse, errors *e)
{
	const size_t dim = t->form.head_dim,
		     row = kv_head * t->n_rows + (size_t)query * t->shape.heads;
	for (size_t i = 0; i < t->shape.heads * dim; i++) {
		const double got = t->output[row * dim + i], error = got - exact[i];
		e->square += error * error;
		e->reference += exact[i] * exact[i];
		if (!(fabs(error) <= e->worst)) {
			e->worst = fabs(error);
			snprintf(e->where, sizeof(e->where),
				"KV head %u, query %u, head %zu, dimension %zu: %.9g, expected "
				"%.9g",
				kv_head, query, i / dim, i % dim, got, exact[i]);
		}
	}
	for (size_t i = 0; i < t->shape.heads; i++) {
		const double got = t->lse[row + i];
		const double error = got == lse[i] ? 0 : fabs(got - lse[i]);
		e->lse = error <= e->lse ? e->lse : error;
	}
}

static void check(trial *t, const char *name)
{
	const shape *s = &t->shape;
	const kvt_cuda_shape cuda = cuda_shape(t);
	const size_t row = t->form.head_dim * kvt_element_bytes(t->form.element);
	const kvt_attention_shape exactly = { t->form.element, t->form.head_dim, s->heads,
		s->page_tokens, row, row, cuda.scale, cuda.key_scale, cuda.value_scale };
	g_autofree const void **keys = g_new(const void *, t->n_pages + 1);
	g_autofree const void **values = g_new(const void *, t->n_pages + 1);
	g_autofree double *output = g_new(double, s->heads * t->form.head_dim);
	g_autofree double *lse = g_new(double, s->heads);
	errors e = { 0 };
	for (uint32_t head = 0; head < s->kv_heads; head++) {
		for (size_t i = 0; i < t->n_pages; i++) {
			keys[i] = page_at(t, i, head);
			values[i] = page_at(t, i, head) + t->block;
		}
		const uint32_t n = s->n_queries < SAMPLES ? s->n_queries : SAMPLES;
		for (uint32_t i = 0; i < n; i++) {
			/* the first, the last and some between */
			const uint32_t query =
				n > 1 ? (uint32_t)((uint64_t)i * (s->n_queries - 1) / (n - 1)) : 0;
			const kvt_attention_window window = { keys, values, s->n_tokens, s->skip,
				s->seen + query };
			const float *q =
				t->queries +
				(head * t->n_rows + (size_t)query * s->heads) * t->form.head_dim;
			kvt_attention_exact(&exactly, q, 1, &window, output, lse);
			compare(t, head, query, output, lse, &e);
		}
	}
	const double error = e.reference > 0 ? sqrt(e.square / e.reference) : sqrt(e.square);
	/* halves of 8 and of 11 bits; logits of a few units */
	const bool wide = t->form.element != KVT_ELEMENT_BF16;
	const bool halves = t->form.precision == KVT_CUDA_TWO_HALVES;
	const double most = halves ? (wide ? 5e-6 : 2e-5) : (wide ? 1e-3 : 6e-3);
	const double most_lse = halves ? 1e-4 : 3e-2;
	if (!(error <= most) || !(e.lse <= most_lse))
		cuda_fixture_failed("%s: error %.3g of at most %.3g, of lse %.3g of %.3g; %s", name,
			error, most, e.lse, most_lse, e.where);
	else
		g_test_message("%s: error %.3g, of lse %.3g", name, error, e.lse);
	for (size_t i = 0; i < t->n_rows * s->kv_heads * t->form.head_dim; i++)
		if (!isfinite(t->output[i])) {
			cuda_fixture_failed("%s: output %zu of row %zu is %g", name,
				i % t->form.head_dim, i / t->form.head_dim, (double)t->output[i]);
			return;
		}
}

static void run(const form *f, const shape *s)
{
	trial t = { .form = *f, .shape = *s };
	g_autofree char *name = g_strdup_printf(
		"element %d head_dim %u precision %d, %u KV heads x %u heads x %u queries, pages "
		"of %u, skip %u, %" G_GUINT64_FORMAT " tokens, seen %" G_GUINT64_FORMAT
		", factor %g, %u windows",
		f->element, f->head_dim, f->precision, s->kv_heads, s->heads, s->n_queries,
		s->page_tokens, s->skip, s->n_tokens, s->seen, (double)s->factor, s->windows);
	trial_init(&t);
	if (compute(&t, name))
		check(&t, name);
	trial_clear(&t);
}
#else
static void run(const form *f, const shape *s)
{
}
#endif

static const shape quick[] = {
	{ 1, 1, 17, 16, 0, 64, 64, 1, 1 },
	{ 2, 7, 5, 16, 9, 200, 190, 1, 1 },
	{ 1, 4, 40, 64, 3, 70, 20, -1, 1 },
	{ 1, 3, 50, 16, 15, 600, 560, 1, 2 },
};

static const shape all[] = {
	{ 3, 7, 33, 16, 15, 1000, 960, 1, 1 }, { 3, 7, 33, 16, 15, 1000, 960, 1, 7 },
	{ 1, 16, 9, 1024, 1000, 600, 580, 1, 1 },
	{ 1, 3, 33, 256, 200, 1500, 1500, 2, 1 }, /* all see all */
	{ 2, 1, 300, 16, 1, 300, 1, 1, 1 },       /* a prompt from its beginning */
	{ 1, 8, 64, 16, 5, 12000, 11937, 1, 1 },  /* many parts */
	{ 1, 8, 100, 32, 31, 3000, 2900, 0, 1 },  /* every token counts alike */
	{ 1, 2, 9, 16, 1, 0, 0, 1, 1 },           /* nothing at all */
	{ 1, 2, 9, 16, 1, 5, 0, 1, 1 },           /* the first sees nothing */
	{ 1, 2, 9, 16, 1, 5, 1000, 1, 1 },
	{ 5, 8, 1024, 16, 3, 1100, 76, 1, 1 }, /* whole tiles, and some that are cut */
};

static void test(const form *f, const shape *shapes, size_t n)
{
	if (!cuda_fixture_ready())
		return;
	for (size_t i = 0; i < n; i++)
		run(f, &shapes[i]);
}

static void test_quick(const void *f)
{
	test(f, quick, G_N_ELEMENTS(quick));
}

static void test_all(const void *f)
{
	test(f, all, G_N_ELEMENTS(all));
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "f16", "bf16", "f32", "e4m3" };
	static const kvt_element elements[] = { KVT_ELEMENT_BF16, KVT_ELEMENT_F16,
		KVT_ELEMENT_E4M3 };
	static form forms[12];
	cuda_fixture_init(&argc, &argv);
	for (unsigned i = 0; i < 12; i++) {
		forms[i] = (form){ elements[i / 4], i & 1 ? 128 : 64,
			i & 2 ? KVT_CUDA_ROUNDED : KVT_CUDA_TWO_HALVES };
		const char *name = names[forms[i].element];
		const char *precision = i & 2 ? "rounded" : "halves";
		g_autofree char *path = g_strdup_printf(
			"/cuda-prefill/quick/%s-%u-%s", name, forms[i].head_dim, precision);
		g_autofree char *more = g_strdup_printf(
			"/cuda-prefill/all/%s-%u-%s", name, forms[i].head_dim, precision);
		g_test_add_data_func(path, &forms[i], test_quick);
		g_test_add_data_func(more, &forms[i], test_all);
	}
	return g_test_run();
}
