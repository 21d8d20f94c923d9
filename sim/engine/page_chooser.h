/*
 * page_chooser.h: when the pages of each global layer are chosen, for a choice that is not made
 * before the turn: a layer's sketches are loaded, its queries are computed, and scoring one with
 * the other takes its time. Sketches that are lost are made again from all of the layer's pages. It
 * ranks nothing and loads no pages to attend to: a forward pass does that.
 */
#ifndef KVT_PAGE_CHOOSER_H
#define KVT_PAGE_CHOOSER_H

#include "sim/engine/lost_pages.h"

typedef struct kvt_page_chooser kvt_page_chooser;

/* `changed(arg)` is called on the loop, or by kvt_page_chooser_queries, whenever one of the figures
 * below is another one. Sketches are loaded in order, `depth` layers at once. The engine, the
 * choice and `lost` must outlive it; without that (NULL) sketches that fail are an error. */
kvt_page_chooser *kvt_page_chooser_new(kvt_engine *engine, const kvt_page_choice *choice,
	kvt_lost_pages *lost, unsigned depth, unsigned priority, kvt_callback changed, void *arg);
void kvt_page_chooser_free(kvt_page_chooser *chooser); /* not while it is busy */

/* Begins to load. */
void kvt_page_chooser_start(kvt_page_chooser *chooser);

/* The queries of a global layer are known. In order of layers. */
void kvt_page_chooser_queries(kvt_page_chooser *chooser, unsigned layer);

/* Layers below it have their pages chosen. */
unsigned kvt_page_chooser_chosen(const kvt_page_chooser *chooser);
bool kvt_page_chooser_busy(const kvt_page_chooser *chooser);
int kvt_page_chooser_status(const kvt_page_chooser *chooser); /* 0, or a load's errno */
uint64_t kvt_page_chooser_read_bytes(const kvt_page_chooser *chooser);

#endif
