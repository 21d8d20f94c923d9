/*
 * trace_growth_model.h: the statistical model of one recorded layer and the rows it gives for a
 * longer context. It reads a layer and makes rows in memory; files are trace_growth.h's.
 *
 * The model is a circular block bootstrap over pages and steps. A recorded context is cut into the
 * first page (a sink), the local pages (the last 64 of the context and all behind
 * them, which follow the steps) and the pattern: all pages between. The grown context is the sink,
 * as many copies of the pattern as fit, and the local pages. One copy, the home, lives through the
 * recorded steps as they were, its retrieved pages included. Every other copy lives through the
 * same turn from another step on, circularly, its pages rotated, and without the pages that a
 * retrieval was reading: so popularity, persistence from step to step, and runs of pages are those
 * of the recording, no two copies move together, and turns begin with a jump in each.
 *
 * How masses change with the length follows from softmax: at each step every other copy has the
 * weight of the home pattern (without retrieved pages), and all is divided by the larger sum. Pages
 * that a retrieval reads keep their recorded mass, and the others share the rest. A
 * row's sharpening is a power on its masses: a model that scales its queries with the position
 * (attention temperature) raises every weight to the ratio of its factors at the two lengths.
 */
#ifndef KVT_TRACE_GROWTH_MODEL_H
#define KVT_TRACE_GROWTH_MODEL_H

#include "traces/attention_trace.h"

typedef struct kvt_growth_model kvt_growth_model;

/* How far a trace grows; what all of its layers share. */
typedef struct kvt_growth_plan {
	uint64_t context_tokens; /* tokens before the first recorded step */
	uint64_t context_pages;  /* of these, whole pages */
	uint64_t local_pages;    /* last pages of the context, kept at their distance */
	uint64_t pattern_pages;  /* pages of the context that are copied */
	uint64_t added_pages;    /* by which the context grows */
	uint64_t cycle_pages;    /* by which it grows again each time the steps begin anew */
	uint64_t steps;          /* to make; more than recorded begin anew in another home */
	double sharpening;       /* power on the recorded masses; 1: none */
	uint64_t seed;
} kvt_growth_plan;

/* Fits the model to all rows of a layer, which it reads and no longer needs; error when a row
 * cannot be read. The plan is copied. */
kvt_growth_model *kvt_growth_model_fit(
	kvt_attention_layer *layer, const kvt_growth_plan *plan, GError **error);
void kvt_growth_model_free(kvt_growth_model *model);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_growth_model, kvt_growth_model_free)

/* The grown row of (step, KV head), pages distinct and by falling mass until the writer's cover or
 * limit; owned by the model until the next call. Fast when steps come in order. The same model,
 * step and head give the same row, whatever was asked before. */
kvt_attention_row kvt_growth_model_row(kvt_growth_model *model, uint64_t step, uint32_t kv_head);

/* What a turn retrieves: the fixed distance, in tokens before the step, at which the turn's steps
 * attend most strongly beyond the local pages (0: none lies there), and the mean mass of the page
 * at it. Turns are counted from 0 in the order of the recording. */
uint32_t kvt_growth_model_turns(const kvt_growth_model *model);
uint64_t kvt_growth_model_focus(const kvt_growth_model *model, uint32_t turn, double *mass);

/* Marks the pages of the pattern that a retrieval of any turn reads, in marks[context_pages]. */
void kvt_growth_model_mark_retrieved(const kvt_growth_model *model, uint8_t *marks);

#endif
