/* gpu_attention.c: two sets of partial results, for the halves of a pass; one stream more for what
 * goes to the host. */
#include "emu/gpu/gpu_attention.h"

#include <errno.h>
#include <stdlib.h>

#include "sim/base/error.h"

enum { HALVES = 2, WARM_TOKENS = 8192 };

typedef struct showing showing;

/* Query tokens in the layer that computes. */
typedef struct half {
	uint64_t position, tokens, used; /* used: when last, in some order; 0: never */
	const float *queries;
	kvt_cuda_partial so_far, part;
	kvt_gpu_event *shown; /* so_far has gone to the host as far as it is wanted */
	bool showing;
} half;

struct kvt_gpu_attention {
	kvt_real_gpu *gpu;
	kvt_gpu_stream *stream, *results;
	kvt_gpu_watch *watch;
	kvt_gpu_pages *pages;
	kvt_gpu_attention_settings settings;
	kvt_turn_tokens new_tokens;
	kvt_cuda_shape shape;
	/* of all layers (turn_tokens.h), on the device */
	float *queries;
	uint8_t *made;
	half halves[HALVES];
	uint64_t uses;
	kvt_cuda_partial piece;
	void *scratch;
	kvt_gpu_event *computed;
	GArray *windows, *copies;
	/* pinned memory for all that is wanted, and what has been given out of it */
	float *shown;
	uint64_t shown_numbers, shown_taken;
	showing *showings; /* under way */
};

/* Wanted neighbours of one work, on their way. */
struct showing {
	showing *next, **link; /* link: what points to it */
	kvt_gpu_attention *owner;
	unsigned layer;
	uint64_t position, tokens;
	float *output, *lse;
	float *own; /* NULL: in the pinned memory */
	kvt_gpu_event *event;
};

static uint64_t rows_of(const kvt_gpu_attention *a, uint64_t tokens)
{
	return tokens * a->shape.kv_heads * a->shape.heads;
}

/* Numbers of a token's outputs and lse. */
static uint64_t token_numbers(const kvt_gpu_attention *a)
{
	return rows_of(a, 1) * (a->shape.head_dim + 1);
}

static void *alloc(kvt_gpu_attention *a, uint64_t bytes, bool *good)
{
	void *memory = *good ? a->gpu->ops->alloc(a->gpu, bytes) : NULL;
	*good = memory != NULL;
	return memory;
}

static kvt_cuda_partial partial_new(kvt_gpu_attention *a, bool *good)
{
	uint64_t rows = rows_of(a, a->settings.pass_tokens);
	float *output = alloc(a, rows * a->shape.head_dim * sizeof(float), good);
	return (kvt_cuda_partial){ output, alloc(a, rows * sizeof(float), good) };
}

static void partial_free(kvt_gpu_attention *a, const kvt_cuda_partial *partial)
{
	a->gpu->ops->release(a->gpu, partial->output);
	a->gpu->ops->release(a->gpu, partial->lse);
}

static int copy_one(kvt_gpu_attention *a, void *to, const void *from, uint64_t bytes)
{
	kvt_gpu_copy copy = { to, from, bytes };
	return a->gpu->ops->copy(a->stream, &copy, 1, KVT_GPU_COPY_AUTOMATIC);
}

static int drain(kvt_gpu_attention *a)
{
	int status = a->gpu->ops->record(a->stream, a->computed);
	while (status == 0 && (status = a->gpu->ops->query(a->computed)) == -EBUSY) {
		g_usleep(50);
		status = 0;
	}
	return status;
}

/* Scratch for any number of query tokens of a pass. */
static uint64_t most_scratch(const kvt_gpu_attention *a)
{
	uint64_t most = 0, end = a->settings.pass_tokens;
	for (uint64_t n = 1;; n = MIN(2 * n, end)) {
		uint64_t bytes = a->gpu->ops->scratch_bytes(a->gpu, &a->shape, (uint32_t)n);
		most = MAX(most, bytes);
		if (n == end)
			return most;
	}
}

static bool upload(kvt_gpu_attention *a)
{
	const kvt_turn_tokens *tokens = &a->new_tokens;
	uint64_t query_bytes = kvt_turn_tokens_query_bytes(tokens);
	uint64_t page_bytes = kvt_turn_tokens_page_bytes(tokens);
	float *queries = g_try_malloc(MAX(query_bytes, 1));
	uint8_t *pages = g_try_malloc(page_bytes);
	bool good = queries && pages;
	for (unsigned layer = 0; good && layer < tokens->source->shape.layers; layer++) {
		kvt_turn_tokens_make(tokens, layer, queries, pages);
		good = copy_one(a, (uint8_t *)a->queries + layer * query_bytes, queries,
			       query_bytes) == 0 &&
		       copy_one(a, a->made + layer * page_bytes, pages, page_bytes) == 0;
	}
	g_free(queries);
	g_free(pages);
	return good;
}

/* Calls of all kinds, before one is timed: what is used first may have to be loaded. */
static int warm_up(kvt_gpu_attention *a)
{
	const kvt_gpu_ops *ops = a->gpu->ops;
	uint64_t tokens = MIN(a->settings.tokens, WARM_TOKENS), most = a->settings.pass_tokens, n;
	kvt_work work = { .kind = KVT_WORK_ATTENTION, .tokens = 1 };
	int status = 0;
	while (!kvt_gpu_pages_home(a->pages, 0, work.first / a->shape.page_tokens, &n))
		work.first += a->shape.page_tokens;
	work.kv_tokens = MIN(tokens, n * a->shape.page_tokens);
	g_array_set_size(a->windows, 0);
	kvt_gpu_pages_windows(a->pages, &work, a->windows);
	kvt_cuda_window window = g_array_index(a->windows, kvt_cuda_window, 0);
	for (uint64_t q = 1; status == 0; q = most) {
		kvt_cuda_queries queries = { a->queries,
			(a->new_tokens.end - a->new_tokens.first) * a->shape.heads *
				a->shape.head_dim,
			(uint32_t)q };
		for (unsigned causal = 0; causal < 2 && status == 0; causal++) {
			window.seen = causal ? 1 : window.n_tokens;
			status = ops->attend(a->stream, &a->shape, &queries, &window,
				&a->halves[causal].so_far, a->scratch);
		}
		status = status ? status
				: ops->merge(a->stream, &a->halves[0].so_far, &a->halves[1].so_far,
					  rows_of(a, q), a->shape.head_dim);
		if (q == most)
			break;
	}
	kvt_gpu_copy copies[2] = { { a->piece.output, a->made, 64 },
		{ a->piece.output + 16, a->made + 64, 64 } };
	return status ? status : ops->copy(a->stream, copies, 2, KVT_GPU_COPY_AUTOMATIC);
}

static bool is_wanted(const kvt_gpu_attention *a, unsigned layer, uint64_t position)
{
	const kvt_gpu_attention_settings *s = &a->settings;
	return s->attended && (!s->wanted || s->wanted(s->attended_arg, layer, position));
}

static bool make_shown(kvt_gpu_attention *a)
{
	uint64_t n = 0;
	for (unsigned layer = 0; layer < a->settings.source->shape.layers; layer++)
		for (uint64_t t = a->new_tokens.first; t < a->new_tokens.end; t++)
			n += is_wanted(a, layer, t);
	a->shown_numbers = n * token_numbers(a);
	if (n == 0)
		return true;
	uint64_t bytes = (a->shown_numbers * sizeof(float) + 4095) / 4096 * 4096;
	a->shown = aligned_alloc(4096, bytes);
	if (a->shown && a->gpu->ops->pin(a->gpu, a->shown, bytes) == 0)
		return true;
	free(a->shown);
	a->shown = NULL;
	return false;
}

static bool make(kvt_gpu_attention *a, GError **error)
{
	const kvt_kv_shape *shape = &a->settings.source->shape;
	const kvt_gpu_ops *ops = a->gpu->ops;
	bool good = true;
	if (ops->scratch_bytes(a->gpu, &a->shape, 1) == 0)
		return kvt_error_usage(error,
			"[emulation] device: the GPU has no kernel for head_dim %u, %u query heads "
			"a KV head and pages of %u tokens, expected 64 or 128, up to 16, and a "
			"power of two from 16 on",
			shape->head_dim, shape->heads, shape->page_tokens);
	a->queries = alloc(a, shape->layers * kvt_turn_tokens_query_bytes(&a->new_tokens), &good);
	a->made = alloc(a, shape->layers * kvt_turn_tokens_page_bytes(&a->new_tokens), &good);
	for (unsigned i = 0; i < HALVES; i++) {
		a->halves[i].so_far = partial_new(a, &good);
		a->halves[i].part = partial_new(a, &good);
		a->halves[i].shown = ops->event_new(a->gpu);
	}
	a->piece = partial_new(a, &good);
	a->scratch = alloc(a, most_scratch(a), &good);
	a->computed = ops->event_new(a->gpu);
	a->results = ops->stream_new(a->gpu, false);
	if (!good || !a->results)
		return kvt_error_failed(error,
			"no memory on the GPU for queries and results of %" G_GUINT64_FORMAT
			" tokens, expected a larger [emulation] hbm",
			a->new_tokens.end - a->new_tokens.first);
	if (!make_shown(a))
		return kvt_error_failed(error, "no memory for results, or it cannot be pinned");
	if (!upload(a) || warm_up(a) != 0 || drain(a) != 0)
		return kvt_error_failed(error, "the GPU failed before the turn began");
	return true;
}

kvt_gpu_attention *kvt_gpu_attention_new(kvt_gpu_stream *stream, kvt_gpu_watch *watch,
	kvt_gpu_pages *pages, const kvt_gpu_attention_settings *settings, GError **error)
{
	const kvt_kv_shape *shape = &settings->source->shape;
	kvt_gpu_attention *a = g_new0(kvt_gpu_attention, 1);
	a->gpu = stream->gpu;
	a->stream = stream;
	a->watch = watch;
	a->pages = pages;
	a->settings = *settings;
	a->new_tokens =
		(kvt_turn_tokens){ settings->source, settings->first_new, settings->tokens };
	a->shape = (kvt_cuda_shape){ .element = shape->element,
		.head_dim = shape->head_dim,
		.kv_heads = shape->kv_heads,
		.heads = shape->heads,
		.page_tokens = shape->page_tokens,
		.head_stride = 2 * shape->block_bytes,
		.value_offset = shape->block_bytes,
		.scale = shape->scale,
		.key_scale = 1,
		.value_scale = 1,
		.precision = settings->precision };
	a->windows = g_array_new(FALSE, FALSE, sizeof(kvt_cuda_window));
	a->copies = g_array_new(FALSE, FALSE, sizeof(kvt_gpu_copy));
	if (make(a, error))
		return a;
	kvt_gpu_attention_free(a);
	return NULL;
}

static void free_showing(showing *s)
{
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	s->owner->gpu->ops->event_free(s->event);
	g_free(s->own);
	g_free(s);
}

void kvt_gpu_attention_free(kvt_gpu_attention *a)
{
	if (!a)
		return;
	const kvt_gpu_ops *ops = a->gpu->ops;
	ops->stream_free(a->results);
	while (a->showings)
		free_showing(a->showings);
	ops->event_free(a->computed);
	for (unsigned i = 0; i < HALVES; i++) {
		partial_free(a, &a->halves[i].so_far);
		partial_free(a, &a->halves[i].part);
		ops->event_free(a->halves[i].shown);
	}
	partial_free(a, &a->piece);
	ops->release(a->gpu, a->scratch);
	ops->release(a->gpu, a->queries);
	ops->release(a->gpu, a->made);
	if (a->shown)
		ops->unpin(a->gpu, a->shown);
	free(a->shown);
	g_array_unref(a->windows);
	g_array_unref(a->copies);
	g_free(a);
}

/* The state of the work's query tokens; at the beginning of a layer (QKV) a new one may be needed.
 */
static half *find_half(kvt_gpu_attention *a, const kvt_work *work)
{
	half *oldest = &a->halves[0];
	for (unsigned i = 0; i < HALVES; i++) {
		half *h = &a->halves[i];
		if (h->used > 0 && h->position == work->position && h->tokens == work->tokens) {
			h->used = ++a->uses;
			return h;
		}
		if (h->used < oldest->used)
			oldest = h;
	}
	g_assert(work->kind == KVT_WORK_QKV && work->tokens <= a->settings.pass_tokens);
	oldest->position = work->position;
	oldest->tokens = work->tokens;
	oldest->used = ++a->uses;
	return oldest;
}

/* Bytes of new tokens, on their way to where they stay. */
typedef struct new_pages {
	kvt_gpu_attention *attention;
	unsigned layer;
	const uint8_t *from;
	bool lost; /* there is no place for some */
} new_pages;

static void add_run(void *arg, uint64_t from, uint64_t to, uint64_t bytes)
{
	new_pages *pages = arg;
	kvt_gpu_attention *a = pages->attention;
	const uint64_t page_bytes = a->settings.source->shape.page_bytes;
	while (bytes > 0) {
		uint64_t n, at = to % page_bytes;
		uint8_t *home = kvt_gpu_pages_home(a->pages, pages->layer, to / page_bytes, &n);
		if (!home) {
			pages->lost = true;
			return;
		}
		uint64_t some = MIN(bytes, n * page_bytes - at);
		kvt_gpu_copy copy = { home + at, pages->from + from, some };
		g_array_append_val(a->copies, copy);
		from += some;
		to += some;
		bytes -= some;
	}
}

int kvt_gpu_attention_take(kvt_gpu_attention *a, const kvt_work *work)
{
	const kvt_turn_tokens *tokens = &a->new_tokens;
	half *h = find_half(a, work);
	uint64_t row = (uint64_t)a->shape.heads * a->shape.head_dim;
	if (work->position < tokens->first || work->position + work->tokens > tokens->end)
		return -ENOTSUP;
	h->queries = a->queries +
		     work->layer * (kvt_turn_tokens_query_bytes(tokens) / sizeof(float)) +
		     (work->position - tokens->first) * row;
	new_pages pages = { .attention = a,
		.layer = work->layer,
		.from = a->made + work->layer * kvt_turn_tokens_page_bytes(tokens) };
	g_array_set_size(a->copies, 0);
	kvt_turn_tokens_each(tokens, work->position, work->tokens, add_run, &pages);
	if (pages.lost)
		return -EFAULT;
	return a->gpu->ops->copy(a->stream, (const kvt_gpu_copy *)(void *)a->copies->data,
		a->copies->len, KVT_GPU_COPY_AUTOMATIC);
}

int kvt_gpu_attention_attend(kvt_gpu_attention *a, const kvt_work *work)
{
	const kvt_gpu_ops *ops = a->gpu->ops;
	half *h = find_half(a, work);
	const kvt_cuda_partial *out = work->causal ? &h->so_far : &h->part;
	kvt_cuda_queries queries = { h->queries,
		(a->new_tokens.end - a->new_tokens.first) * a->shape.heads * a->shape.head_dim,
		(uint32_t)work->tokens };
	int status = 0;
	g_array_set_size(a->windows, 0);
	if (!kvt_gpu_pages_windows(a->pages, work, a->windows) || a->windows->len == 0)
		return -EFAULT;
	if (work->causal && h->showing) {
		status = ops->wait_event(a->stream, h->shown);
		h->showing = false;
	}
	for (guint i = 0; i < a->windows->len && status == 0; i++) {
		const kvt_cuda_window *window = &g_array_index(a->windows, kvt_cuda_window, i);
		status = ops->attend(a->stream, &a->shape, &queries, window,
			i == 0 ? out : &a->piece, a->scratch);
		if (i > 0 && status == 0)
			status = ops->merge(a->stream, out, &a->piece, rows_of(a, work->tokens),
				a->shape.head_dim);
	}
	return status;
}

int kvt_gpu_attention_merge(kvt_gpu_attention *a, const kvt_work *work)
{
	half *h = find_half(a, work);
	return a->gpu->ops->merge(
		a->stream, &h->so_far, &h->part, rows_of(a, work->tokens), a->shape.head_dim);
}

static void on_shown(void *arg, int status)
{
	showing *s = arg;
	const kvt_gpu_attention_settings *settings = &s->owner->settings;
	if (status == 0)
		settings->attended(settings->attended_arg, s->layer, s->position, s->tokens,
			s->output, s->lse);
	free_showing(s);
}

/* Tokens [first, first + n) of the work's go to the host. */
static int show_run(
	kvt_gpu_attention *a, const half *h, const kvt_work *work, uint64_t first, uint64_t n)
{
	const kvt_gpu_ops *ops = a->gpu->ops;
	const uint64_t heads = a->shape.heads, row = heads * a->shape.head_dim;
	showing *s = g_new0(showing, 1);
	uint64_t numbers = n * token_numbers(a);
	if (numbers <= a->shown_numbers - a->shown_taken) {
		s->output = a->shown + a->shown_taken;
		a->shown_taken += numbers;
	} else { /* more than once */
		s->output = s->own = g_new(float, numbers);
	}
	s->lse = s->output + rows_of(a, n) * a->shape.head_dim;
	s->owner = a;
	s->next = a->showings;
	s->link = &a->showings;
	if (s->next)
		s->next->link = &s->next;
	a->showings = s;
	s->layer = work->layer;
	s->position = work->position + first;
	s->tokens = n;
	s->event = ops->event_new(a->gpu);
	g_array_set_size(a->copies, 0);
	for (uint32_t head = 0; head < a->shape.kv_heads; head++) {
		uint64_t from = head * work->tokens + first;
		kvt_gpu_copy output = { s->output + head * n * row, h->so_far.output + from * row,
			n * row * sizeof(float) };
		kvt_gpu_copy lse = { s->lse + head * n * heads, h->so_far.lse + from * heads,
			n * heads * sizeof(float) };
		g_array_append_val(a->copies, output);
		g_array_append_val(a->copies, lse);
	}
	int status = ops->copy(a->results, (const kvt_gpu_copy *)(void *)a->copies->data,
		a->copies->len, KVT_GPU_COPY_ENGINE);
	kvt_gpu_watch_record(a->watch, a->results, s->event, on_shown, s);
	return status;
}

int kvt_gpu_attention_show(kvt_gpu_attention *a, const kvt_work *work)
{
	const kvt_gpu_ops *ops = a->gpu->ops;
	half *h = find_half(a, work);
	int status = 0;
	bool any = false;
	for (uint64_t t = 0, n; t < work->tokens && status == 0; t += n) {
		for (n = 0;
			t + n < work->tokens && is_wanted(a, work->layer, work->position + t + n);
			n++)
			;
		if (n == 0) {
			n = 1;
			continue;
		}
		if (!any) {
			status = ops->record(a->stream, a->computed);
			status = status ? status : ops->wait_event(a->results, a->computed);
		}
		any = true;
		status = status ? status : show_run(a, h, work, t, n);
	}
	if (!any || status != 0)
		return status;
	h->showing = true;
	return ops->record(a->results, h->shown);
}
