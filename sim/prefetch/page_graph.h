/*
 * page_graph.h: which pages of one KV head are alike: every page has links to the nearest others,
 * so that a search that stands on good pages finds more of them without looking at all. It is built
 * a page at a time (a navigable graph, Malkov et al. 2014), is the same whether its pages come at
 * once or one by one, and keeps links alone: distances are the caller's.
 */
#ifndef KVT_PAGE_GRAPH_H
#define KVT_PAGE_GRAPH_H

#include <stdint.h>

enum { KVT_PAGE_GRAPH_LINKS = 32 };

/* Squared distances between a page and others[n], in any unit that is the same for all pairs; not
 * negative, nor NaN. The one that is called with is not in the graph yet. */
typedef void kvt_page_distance(
	void *arg, uint32_t page, const uint32_t *others, uint32_t n, float *distances);

typedef struct kvt_page_graph kvt_page_graph;

kvt_page_graph *kvt_page_graph_new(uint32_t max_pages, kvt_page_distance *distance, void *arg);
void kvt_page_graph_free(kvt_page_graph *graph);

/*
 * Adds a page: searches from entries[n_entries], pages of the graph that may be near (more make
 * links better; others are not needed), links it to the nearest that it found, and these to it.
 * Ids rise from call to call and are below max_pages.
 */
void kvt_page_graph_add(
	kvt_page_graph *graph, uint32_t page, const uint32_t *entries, uint32_t n_entries);

/* The pages that a page is linked to; *n of them, in no order, the graph's until the next add. */
const uint32_t *kvt_page_graph_links(const kvt_page_graph *graph, uint32_t page, uint32_t *n);

/* Bytes of links that it holds; distances that it has asked for since it was made. */
uint64_t kvt_page_graph_bytes(const kvt_page_graph *graph);
uint64_t kvt_page_graph_distances(const kvt_page_graph *graph);

#endif
