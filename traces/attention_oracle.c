/* attention_oracle.c: the stream of recomputed masses, and what an oracle with a page budget would
 * keep of them. The recomputation itself is attention_mass.c. */
#include <math.h>
#include <string.h>

#include "traces/attention_mass.h"

enum { STREAM_MEMORY = 64 << 20 };

struct kvt_attention_mass_stream {
	kvt_attention_layer *layer;
	const kvt_attention_header *header;
	uint64_t stride, steps;
	uint64_t first, count, capacity; /* steps in the window, stride apart */
	size_t pitch;
	float *mass; /* [kv_heads][capacity][pitch] */
};

kvt_attention_mass_stream *kvt_attention_mass_stream_new(
	kvt_attention_layer *layer, uint64_t stride, size_t memory)
{
	g_assert(stride > 0);
	kvt_attention_mass_stream *stream = g_new0(kvt_attention_mass_stream, 1);
	const kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &stream->steps);
	stream->layer = layer;
	stream->header = kvt_attention_trace_header(trace);
	stream->stride = stride;
	for (uint64_t i = 0; i < stream->steps; i++) {
		uint64_t first;
		uint64_t pages = kvt_attention_pages_present(stream->header,
			kvt_attention_layer_get_kind(layer), steps[i].position, &first);
		stream->pitch = MAX(stream->pitch, pages);
	}
	size_t step = stream->pitch * stream->header->kv_heads * sizeof *stream->mass;
	stream->capacity = CLAMP((memory != 0 ? memory : STREAM_MEMORY) / step, 1,
		(stream->steps + stride - 1) / stride);
	return stream;
}

void kvt_attention_mass_stream_free(kvt_attention_mass_stream *stream)
{
	if (stream == NULL)
		return;
	g_free(stream->mass);
	g_free(stream);
}

static bool fill_window(kvt_attention_mass_stream *stream, uint64_t step, GError **error)
{
	size_t head = stream->capacity * stream->pitch;
	if (stream->mass == NULL)
		stream->mass = g_new(float, head * stream->header->kv_heads);
	uint64_t left = (stream->steps - step + stream->stride - 1) / stream->stride;
	uint64_t count = MIN(stream->capacity, left);
	stream->count = 0;
	for (uint32_t h = 0; h < stream->header->kv_heads; h++)
		if (!kvt_attention_mass_recompute(stream->layer, step, stream->stride, count, h,
			    stream->mass + h * head, stream->pitch, error))
			return false;
	stream->first = step;
	stream->count = count;
	return true;
}

const float *kvt_attention_mass_stream_get(
	kvt_attention_mass_stream *stream, uint64_t step, uint32_t kv_head, GError **error)
{
	g_assert(step < stream->steps && step % stream->stride == 0);
	g_assert(kv_head < stream->header->kv_heads);
	if (step < stream->first || (step - stream->first) / stream->stride >= stream->count) {
		if (!fill_window(stream, step, error))
			return NULL;
	}
	uint64_t i = (step - stream->first) / stream->stride;
	return stream->mass + (kv_head * stream->capacity + i) * stream->pitch;
}

uint64_t kvt_attention_budget_pages(double share, uint64_t pages)
{
	uint64_t least = KVT_ATTENTION_BUDGET_FIRST + KVT_ATTENTION_BUDGET_LAST;
	double granted = floor(share * (double)pages);
	if (granted >= (double)pages)
		return pages;
	return MIN(MAX((uint64_t)granted, least), pages);
}

/* Restores the min-heap after its root was replaced. */
static void sift_down(float *heap, size_t n)
{
	float value = heap[0];
	size_t i = 0;
	for (size_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && heap[child + 1] < heap[child])
			child++;
		if (heap[child] >= value)
			break;
		heap[i] = heap[child];
	}
	heap[i] = value;
}

static void sift_up(float *heap, size_t i)
{
	float value = heap[i];
	for (; i > 0 && heap[(i - 1) / 2] > value; i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = value;
}

/* The `keep` largest of mass[n] into `largest`, falling. */
static void select_largest(const float *mass, size_t n, size_t keep, float *largest)
{
	size_t held = 0;
	for (size_t i = 0; i < n && keep > 0; i++) {
		if (held < keep) {
			largest[held] = mass[i];
			sift_up(largest, held++);
		} else if (mass[i] > largest[0]) {
			largest[0] = mass[i];
			sift_down(largest, held);
		}
	}
	while (held > 1) {
		float least = largest[0];
		largest[0] = largest[--held];
		sift_down(largest, held);
		largest[held] = least;
	}
}

void kvt_attention_oracle_masses(const float *mass, uint64_t pages, const uint64_t *budgets,
	size_t n, float *scratch, double *kept)
{
	uint64_t last = MIN(pages, KVT_ATTENTION_BUDGET_LAST);
	uint64_t first = MIN(pages - last, KVT_ATTENTION_BUDGET_FIRST);
	uint64_t free_pages = pages - first - last;
	double sum = 0;
	for (uint64_t i = 0; i < first; i++)
		sum += mass[i];
	for (uint64_t i = pages - last; i < pages; i++)
		sum += mass[i];
	uint64_t most =
		n == 0 || budgets[n - 1] <= first + last ? 0 : budgets[n - 1] - first - last;
	most = MIN(most, free_pages);
	select_largest(mass + first, free_pages, most, scratch);
	uint64_t taken = 0;
	for (size_t i = 0; i < n; i++) {
		for (; taken < most && first + last + taken < budgets[i]; taken++)
			sum += scratch[taken];
		kept[i] = sum;
	}
}

double kvt_attention_oracle_mass(const float *mass, uint64_t pages, uint64_t budget, float *scratch)
{
	double kept;
	kvt_attention_oracle_masses(mass, pages, &budget, 1, scratch, &kept);
	return kept;
}

/* The recorded row of (step, kv_head) spread over the pages present. */
static const float *masses_of_row(kvt_attention_layer *layer, uint64_t step, uint32_t kv_head,
	uint64_t first, uint64_t pages, float *mass, GError **error)
{
	kvt_attention_row row;
	if (!kvt_attention_layer_row(layer, step, kv_head, &row, error))
		return NULL;
	memset(mass, 0, pages * sizeof *mass);
	for (uint32_t i = 0; i < row.count; i++)
		mass[row.block[i] - first] = row.mass[i];
	return mass;
}

/* Adds what the oracle keeps at every step to kept[n]; *samples counts (step, head) pairs. */
static bool add_steps(kvt_attention_layer *layer, kvt_attention_mass_stream *stream,
	uint64_t stride, const double *shares, size_t n, double *kept, GError **error)
{
	uint64_t count;
	const kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	g_autofree uint64_t *budgets = g_new(uint64_t, n);
	g_autofree double *found = g_new(double, n);
	g_autoptr(GArray) row = g_array_new(FALSE, FALSE, sizeof(float));
	g_autoptr(GArray) scratch = g_array_new(FALSE, FALSE, sizeof(float));
	for (uint64_t step = 0; step < count; step += stride) {
		uint64_t first;
		uint64_t pages = kvt_attention_pages_present(
			header, kvt_attention_layer_get_kind(layer), steps[step].position, &first);
		g_array_set_size(row, (guint)pages);
		g_array_set_size(scratch, (guint)pages);
		for (size_t i = 0; i < n; i++)
			budgets[i] = kvt_attention_budget_pages(shares[i], pages);
		for (uint32_t h = 0; h < header->kv_heads; h++) {
			const float *mass =
				stream != NULL
					? kvt_attention_mass_stream_get(stream, step, h, error)
					: masses_of_row(layer, step, h, first, pages,
						  (float *)row->data, error);
			if (mass == NULL)
				return false;
			kvt_attention_oracle_masses(
				mass, pages, budgets, n, (float *)scratch->data, found);
			for (size_t i = 0; i < n; i++)
				kept[i] += found[i];
		}
	}
	return true;
}

bool kvt_attention_trace_oracle_mass(kvt_attention_layer *layer, kvt_attention_mass_source source,
	uint64_t stride, const double *shares, size_t n, double *kept, GError **error)
{
	uint64_t count;
	const kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	kvt_attention_trace_steps(trace, &count);
	g_assert(stride > 0);
	bool complete =
		kvt_attention_layer_has_queries(layer) && kvt_attention_layer_has_keys(layer);
	g_autoptr(kvt_attention_mass_stream) stream = NULL;
	if (source == KVT_ATTENTION_MASS_RECOMPUTED ||
		(source == KVT_ATTENTION_MASS_BEST && complete))
		stream = kvt_attention_mass_stream_new(layer, stride, 0);
	memset(kept, 0, n * sizeof *kept);
	if (!add_steps(layer, stream, stride, shares, n, kept, error))
		return false;
	double samples = (double)((count + stride - 1) / stride) *
			 kvt_attention_trace_header(trace)->kv_heads;
	for (size_t i = 0; i < n; i++)
		kept[i] /= samples;
	return true;
}
