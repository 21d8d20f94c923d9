/* page_graph.c: best-first search over links, and links that stay short. */
#include "sim/prefetch/page_graph.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

enum {
	LINKS = KVT_PAGE_GRAPH_LINKS,
	BREADTH = 64, /* nearest pages that a search keeps */
};

typedef struct found_page {
	float distance;
	uint32_t page;
	bool expanded;
} found_page;

struct kvt_page_graph {
	uint32_t max_pages, n_pages;
	kvt_page_distance *distance;
	void *arg;
	uint32_t *links;  /* [max_pages][LINKS] */
	uint8_t *n_links; /* [max_pages] */
	float *reach;     /* [max_pages], the distance of the farthest link of a page with all */
	uint32_t *seen;   /* [max_pages], the search (its page + 1) that looked at it last */
	uint64_t distances;
	/* of the search under way, the nearest first, equal ones by rising id */
	uint32_t n_found;
	found_page found[BREADTH];
};

kvt_page_graph *kvt_page_graph_new(uint32_t max_pages, kvt_page_distance *distance, void *arg)
{
	kvt_page_graph *graph = g_new0(kvt_page_graph, 1);
	graph->max_pages = max_pages;
	graph->distance = distance;
	graph->arg = arg;
	graph->links = g_new(uint32_t, (size_t)max_pages * LINKS);
	graph->n_links = g_new0(uint8_t, max_pages);
	graph->reach = g_new(float, max_pages);
	graph->seen = g_new0(uint32_t, max_pages);
	return graph;
}

void kvt_page_graph_free(kvt_page_graph *graph)
{
	if (!graph)
		return;
	g_free(graph->links);
	g_free(graph->n_links);
	g_free(graph->reach);
	g_free(graph->seen);
	g_free(graph);
}

const uint32_t *kvt_page_graph_links(const kvt_page_graph *graph, uint32_t page, uint32_t *n)
{
	*n = graph->n_links[page];
	return graph->links + (size_t)page * LINKS;
}

uint64_t kvt_page_graph_bytes(const kvt_page_graph *graph)
{
	return (uint64_t)graph->n_pages *
	       (LINKS * sizeof(*graph->links) + sizeof(*graph->n_links) + sizeof(*graph->reach));
}

uint64_t kvt_page_graph_distances(const kvt_page_graph *graph)
{
	return graph->distances;
}

static void keep_found(kvt_page_graph *graph, float distance, uint32_t page)
{
	found_page *found = graph->found;
	uint32_t place = graph->n_found;
	if (place == BREADTH) {
		const found_page *last = &found[BREADTH - 1];
		if (distance > last->distance || (distance == last->distance && page > last->page))
			return;
		place--;
	} else {
		graph->n_found++;
	}
	for (; place > 0 &&
		(found[place - 1].distance > distance ||
			(found[place - 1].distance == distance && found[place - 1].page > page));
		place--)
		found[place] = found[place - 1];
	found[place] = (found_page){ .distance = distance, .page = page };
}

/* Looks at those of pages[n] that this search has not seen. */
static void look_at(kvt_page_graph *graph, uint32_t page, const uint32_t *pages, uint32_t n)
{
	uint32_t fresh[LINKS];
	float distances[LINKS];
	while (n > 0) {
		uint32_t n_fresh = 0, taken = MIN(n, LINKS);
		for (uint32_t i = 0; i < taken; i++) {
			if (graph->seen[pages[i]] == page + 1)
				continue;
			graph->seen[pages[i]] = page + 1;
			fresh[n_fresh++] = pages[i];
		}
		graph->distance(graph->arg, page, fresh, n_fresh, distances);
		graph->distances += n_fresh;
		for (uint32_t i = 0; i < n_fresh; i++)
			keep_found(graph, distances[i], fresh[i]);
		pages += taken;
		n -= taken;
	}
}

/* Expands the nearest page that has not been, until all that are kept have. */
static void search(kvt_page_graph *graph, uint32_t page)
{
	for (uint32_t i = 0; i < graph->n_found;) {
		found_page *next = &graph->found[i];
		if (next->expanded) {
			i++;
			continue;
		}
		next->expanded = true;
		look_at(graph, page, graph->links + (size_t)next->page * LINKS,
			graph->n_links[next->page]);
		i = 0;
	}
}

/* Links `from` to `to` where that is nearer than the farthest of a full set of links. */
static void link_back(kvt_page_graph *graph, uint32_t from, uint32_t to, float distance)
{
	uint32_t *links = graph->links + (size_t)from * LINKS;
	uint32_t place = graph->n_links[from];
	if (place == LINKS && distance >= graph->reach[from])
		return;
	float distances[LINKS];
	uint32_t farthest = 0;
	if (place == LINKS) {
		graph->distance(graph->arg, from, links, LINKS, distances);
		graph->distances += LINKS;
		for (uint32_t i = 1; i < LINKS; i++)
			if (distances[i] > distances[farthest])
				farthest = i;
		place = farthest;
		graph->reach[from] = distance;
		for (uint32_t i = 0; i < LINKS; i++)
			if (i != farthest)
				graph->reach[from] = MAX(graph->reach[from], distances[i]);
	} else {
		graph->n_links[from]++;
		graph->reach[from] = place ? MAX(graph->reach[from], distance) : distance;
	}
	links[place] = to;
}

void kvt_page_graph_add(
	kvt_page_graph *graph, uint32_t page, const uint32_t *entries, uint32_t n_entries)
{
	g_assert(page < graph->max_pages && graph->n_links[page] == 0);
	graph->n_found = 0;
	look_at(graph, page, entries, n_entries);
	search(graph, page);
	uint32_t n = MIN(graph->n_found, LINKS);
	graph->n_links[page] = (uint8_t)n;
	for (uint32_t i = 0; i < n; i++) {
		graph->links[(size_t)page * LINKS + i] = graph->found[i].page;
		graph->reach[page] = graph->found[i].distance;
		link_back(graph, graph->found[i].page, page, graph->found[i].distance);
	}
	graph->n_pages++;
}
