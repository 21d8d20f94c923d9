/* page_heap.c: a binary heap of pages with each page's place in it. */
#include "sim/cache/page_heap.h"

#include <stdbool.h>

void kvt_page_heap_init(kvt_page_heap *heap, uint32_t universe)
{
	*heap = (kvt_page_heap){ .pages = g_new(uint32_t, universe),
		.place = g_new(uint32_t, universe),
		.key = g_new(kvt_page_key, universe),
		.passed = g_new(uint32_t, universe) };
}

void kvt_page_heap_clear(kvt_page_heap *heap)
{
	g_free(heap->pages);
	g_free(heap->place);
	g_free(heap->key);
	g_free(heap->passed);
}

static bool is_less(const kvt_page_heap *heap, uint32_t a, uint32_t b)
{
	const kvt_page_key *x = &heap->key[a], *y = &heap->key[b];
	if (x->major != y->major)
		return x->major < y->major;
	if (x->minor != y->minor)
		return x->minor < y->minor;
	return a < b;
}

static void put(kvt_page_heap *heap, uint32_t place, uint32_t page)
{
	heap->pages[place] = page;
	heap->place[page] = place;
}

static void sift(kvt_page_heap *heap, uint32_t place, uint32_t page)
{
	while (place > 0) {
		uint32_t parent = (place - 1) / 2;
		if (!is_less(heap, page, heap->pages[parent]))
			break;
		put(heap, place, heap->pages[parent]);
		place = parent;
	}
	for (;;) {
		uint32_t child = 2 * place + 1;
		if (child >= heap->count)
			break;
		if (child + 1 < heap->count &&
			is_less(heap, heap->pages[child + 1], heap->pages[child]))
			child++;
		if (!is_less(heap, heap->pages[child], page))
			break;
		put(heap, place, heap->pages[child]);
		place = child;
	}
	put(heap, place, page);
}

void kvt_page_heap_add(kvt_page_heap *heap, uint32_t page, kvt_page_key key)
{
	heap->key[page] = key;
	heap->count++;
	sift(heap, heap->count - 1, page);
}

void kvt_page_heap_set(kvt_page_heap *heap, uint32_t page, kvt_page_key key)
{
	heap->key[page] = key;
	sift(heap, heap->place[page], page);
}

void kvt_page_heap_remove(kvt_page_heap *heap, uint32_t page)
{
	uint32_t place = heap->place[page];
	uint32_t last = heap->pages[--heap->count];
	if (last != page)
		sift(heap, place, last);
}

uint32_t kvt_page_heap_least_free(kvt_page_heap *heap, const uint8_t *pinned)
{
	uint32_t n_passed = 0, least = UINT32_MAX;
	while (heap->count > 0 && pinned[heap->pages[0]]) {
		heap->passed[n_passed++] = heap->pages[0];
		kvt_page_heap_remove(heap, heap->pages[0]);
	}
	if (heap->count > 0)
		least = heap->pages[0];
	for (uint32_t i = 0; i < n_passed; i++)
		kvt_page_heap_add(heap, heap->passed[i], heap->key[heap->passed[i]]);
	return least;
}
