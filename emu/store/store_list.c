/* store_list.c: what pages the page store holds, run by run; for tiers that open a store again. */
#include "emu/store/store_internal.h"

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

static gint compare_models(gconstpointer a, gconstpointer b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

unsigned kvt_store_models(kvt_store *store, uint64_t *models, unsigned max)
{
	GHashTableIter iter;
	gpointer key;
	g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	pthread_mutex_lock(&store->lock);
	g_hash_table_iter_init(&iter, store->streams);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		const kvt_store_stream *stream = key;
		if (kvt_store_spans_count(&stream->live) > 0)
			g_array_append_val(all, stream->model);
	}
	pthread_mutex_unlock(&store->lock);
	g_array_sort(all, compare_models);
	unsigned n = 0;
	for (guint i = 0; i < all->len; i++) {
		uint64_t model = g_array_index(all, uint64_t, i);
		if (i > 0 && model == g_array_index(all, uint64_t, i - 1))
			continue;
		if (n < max)
			models[n] = model;
		n++;
	}
	return n;
}
