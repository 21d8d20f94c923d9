/* lost_pages.c: spans of tokens by layer, and the pieces that make them again. */
#include "sim/engine/lost_pages.h"

#include "sim/engine/span_map.h"

enum { HIDDEN_ELEMENT_BYTES = 2, PATIENCE = 6, LITTLE_PATIENCE = 1 };

struct kvt_lost_pages {
	const kvt_engine *engine;
	uint64_t chunk_tokens, planned;
	kvt_lost_limits limits;
	kvt_span_map reached; /* the layer whose input is there; 0: the embedding */
	kvt_span_map *kept;   /* of each layer: 1 */
	kvt_span_map again;   /* went through any layers: 1 */
	GArray *made;         /* kvt_page_run */
	uint64_t kept_tokens;
	bool nothing_came; /* of the last read */
	kvt_lost_counts counts;
};

kvt_lost_pages *kvt_lost_pages_new(
	const kvt_engine *engine, uint64_t chunk_tokens, const kvt_lost_limits *limits)
{
	kvt_lost_pages *lost = g_new0(kvt_lost_pages, 1);
	lost->engine = engine;
	lost->chunk_tokens = chunk_tokens;
	lost->limits = *limits;
	lost->kept = g_new0(kvt_span_map, engine->layout.llm->n_layers);
	lost->made = g_array_new(FALSE, FALSE, sizeof(kvt_page_run));
	return lost;
}

void kvt_lost_pages_free(kvt_lost_pages *lost)
{
	if (!lost)
		return;
	for (unsigned i = 0; i < lost->engine->layout.llm->n_layers; i++)
		kvt_span_map_clear(&lost->kept[i]);
	kvt_span_map_clear(&lost->reached);
	kvt_span_map_clear(&lost->again);
	g_array_unref(lost->made);
	g_free(lost->kept);
	g_free(lost);
}

void kvt_lost_pages_count(kvt_lost_pages *lost, const kvt_page_read *read)
{
	lost->counts.rereads += read->rereads;
	lost->nothing_came = read->lost_pages == read->extent.n_pages;
	for (guint i = 0; read->lost && i < read->lost->len; i++) {
		const kvt_lost_run *run = &g_array_index(read->lost, kvt_lost_run, i);
		lost->counts.pages[run->loss] += run->n_pages;
	}
}

void kvt_lost_pages_go_on(kvt_lost_pages *lost)
{
	lost->limits.token_layers = UINT64_MAX;
}

unsigned kvt_lost_pages_patience(const kvt_lost_pages *lost)
{
	return lost->nothing_came ? LITTLE_PATIENCE : PATIENCE;
}

/* Where the computation has to begin for tokens from `first` on to be right in `layer`; *edge: what
 * is before them is not. */
static uint64_t begin_of(const kvt_lost_pages *lost, unsigned layer, uint64_t first, bool *edge)
{
	const kvt_llm *llm = lost->engine->layout.llm;
	uint64_t window = (uint64_t)llm->window;
	for (unsigned i = 0; i < layer; i++) {
		if (llm->layers[i].attention == KVT_ATTENTION_CHUNKED)
			first = first / window * window;
		if (llm->layers[i].attention == KVT_ATTENTION_SLIDING)
			first -= MIN(first, window);
		*edge |= llm->layers[i].attention == KVT_ATTENTION_SLIDING;
	}
	return first;
}

static uint64_t hidden_bytes(const kvt_lost_pages *lost, uint64_t more)
{
	return (lost->reached.tokens + more) * (uint64_t)lost->engine->layout.llm->hidden *
	       HIDDEN_ELEMENT_BYTES * lost->engine->layout.held_ranks;
}

uint64_t kvt_lost_pages_bytes(const kvt_lost_pages *lost)
{
	return lost->kept_tokens * lost->engine->layout.token_bytes + hidden_bytes(lost, 0);
}

bool kvt_lost_pages_plan(
	kvt_lost_pages *lost, unsigned layer, uint64_t first, uint64_t end, bool keep, GArray *jobs)
{
	bool edge = false;
	uint64_t at = begin_of(lost, layer, first, &edge), fresh = 0;
	while (at < end) {
		uint64_t to;
		unsigned from = kvt_span_map_at(&lost->reached, at, &to);
		to = MIN(MIN(to, at < first ? first : end), at + lost->chunk_tokens);
		fresh += from == 0 && layer > 0 ? to - at : 0;
		/* a later pass may lose pages of lower layers: their input is gone */
		from = from <= layer ? from : 0;
		kvt_recompute_job job = { at, to - at, from, layer, edge && at < first };
		g_array_append_val(jobs, job);
		lost->planned += MAX(to - at, KVT_RECOMPUTE_LEAST) * (layer - from);
		at = to;
	}
	uint64_t bytes = hidden_bytes(lost, fresh);
	bytes += (lost->kept_tokens + (keep ? end - first : 0)) * lost->engine->layout.token_bytes;
	return lost->planned <= lost->limits.token_layers && bytes <= lost->limits.room;
}

void kvt_lost_pages_done(kvt_lost_pages *lost, const kvt_recompute_job *job)
{
	uint64_t end = job->position + job->tokens;
	lost->counts.token_layers += job->tokens * (job->to - job->from);
	kvt_span_map_set(&lost->again, job->position, end, 1);
	for (uint64_t at = job->position; at < end && !job->edge;) {
		uint64_t to;
		unsigned reached = kvt_span_map_at(&lost->reached, at, &to);
		to = MIN(to, end);
		if (reached < job->to)
			kvt_span_map_set(&lost->reached, at, to, job->to);
		at = to;
	}
}

void kvt_lost_pages_waited(kvt_lost_pages *lost, kvt_time time)
{
	lost->counts.time += time;
}

void kvt_lost_pages_count_sketches(kvt_lost_pages *lost, int status, uint64_t n_pages)
{
	kvt_loss loss = KVT_LOSS_FAILED;
	kvt_loss_of(status, &loss);
	lost->counts.pages[loss] += n_pages;
	lost->counts.rereads++;
}

void kvt_lost_pages_made(kvt_lost_pages *lost, const kvt_page_run *run)
{
	g_array_append_val(lost->made, *run);
}

GArray *kvt_lost_pages_take_made(kvt_lost_pages *lost)
{
	GArray *made = lost->made;
	lost->made = g_array_new(FALSE, FALSE, sizeof(kvt_page_run));
	return made;
}

void kvt_lost_pages_keep(kvt_lost_pages *lost, unsigned layer, uint64_t first, uint64_t end)
{
	kvt_span_map *kept = &lost->kept[layer];
	lost->kept_tokens -= kept->tokens;
	kvt_span_map_set(kept, first, end, 1);
	lost->kept_tokens += kept->tokens;
}

bool kvt_lost_pages_kept(const kvt_lost_pages *lost, unsigned layer, uint64_t token, uint64_t *end)
{
	return kvt_span_map_at(&lost->kept[layer], token, end) != 0;
}

kvt_lost_counts kvt_lost_pages_counts(const kvt_lost_pages *lost)
{
	kvt_lost_counts counts = lost->counts;
	counts.tokens = lost->again.tokens;
	return counts;
}
