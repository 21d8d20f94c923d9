/* store_list.c: what pages the page store holds, run by run; for tiers that open a store again. */
#include "emu/store_internal.h"

static void list_stream(
	const kvt_store_stream *stream, void (*run)(void *arg, const kvt_store_run *run), void *arg)
{
	uint64_t page = 0;
	const kvt_store_span *span;
	while ((span = kvt_store_spans_at(&stream->live, page))) {
		const kvt_store_run found = { .model = stream->model,
			.tenant = stream->tenant,
			.pages = { stream->context, stream->layer, span->first,
				span->end - span->first, stream->page_bytes } };
		run(arg, &found);
		page = span->end;
	}
}

void kvt_store_each(kvt_store *store, uint64_t model,
	void (*run)(void *arg, const kvt_store_run *run), void *arg)
{
	GHashTableIter iter;
	gpointer stream;
	pthread_mutex_lock(&store->lock);
	g_hash_table_iter_init(&iter, store->streams);
	while (g_hash_table_iter_next(&iter, &stream, NULL))
		if (((const kvt_store_stream *)stream)->model == model)
			list_stream(stream, run, arg);
	pthread_mutex_unlock(&store->lock);
}
