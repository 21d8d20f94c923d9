/*
 * node_list.c: which pages a client's tenant and model have: a list made when it is asked for from
 * the beginning, and given out by messages.
 */
#include <errno.h>

#include "emu/remote/node_internal.h"

/* Adds the run, or makes the last one longer. */
static void add_run(void *arg, const kvt_store_run *run)
{
	node_session *session = arg;
	GArray *listing = session->listing;
	uint32_t tenant = session->tenant->settings.number;
	const kvt_extent *pages = &run->pages;
	/* what the store has beyond its capacity cannot be asked for */
	if (run->tenant != tenant ||
		kvt_page_map_count(session->model->pages, tenant, pages) != pages->n_pages)
		return;
	kvt_extent *last =
		listing->len > 0 ? &g_array_index(listing, kvt_extent, listing->len - 1) : NULL;
	if (last && last->context == pages->context && last->layer == pages->layer &&
		last->first_page + last->n_pages == pages->first_page)
		last->n_pages += pages->n_pages;
	else
		g_array_append_val(listing, *pages);
}

static void make_listing(node_session *session)
{
	kvt_node *node = session->node;
	if (session->listing)
		g_array_unref(session->listing);
	session->listing = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
	if (node->has_store)
		node->store.each(node->store.arg, session->model->model, add_run, session);
	else
		kvt_slab_pool_each(node->pool, session->tenant->settings.number,
			session->model->model, add_run, session);
}

void kvt_node_list(node_request *request, uint64_t cursor)
{
	node_session *session = request->session;
	if (cursor == 0)
		make_listing(session);
	if (!session->listing || cursor > session->listing->len) {
		kvt_node_refuse(request, -EINVAL);
		return;
	}
	GArray *listing = session->listing;
	uint64_t n = MIN(listing->len - cursor, KVT_REMOTE_RUNS);
	kvt_remote_record record = { .n = (uint32_t)n,
		.runs = &g_array_index(listing, kvt_extent, cursor),
		.cursor = cursor + n < listing->len ? cursor + n : 0 };
	kvt_node_answer(request, &record);
	if (record.cursor == 0) {
		g_array_unref(listing);
		session->listing = NULL;
	}
}
