/* trace_reference.c: softmax in plain loops. */
#include "tests/unit/trace_reference.h"

#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/datadir.h"

void trace_reference_open(trace_reference *r)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *path = kvt_datadir_find("traces/samples/" TRACE_SAMPLE, &error);
	g_assert_no_error(error);
	r->trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	r->layer = kvt_attention_layer_open(r->trace, 7, 0, &error);
	g_assert_no_error(error);
	r->steps = kvt_attention_trace_steps(r->trace, &r->n_steps);
	r->n_tokens = r->steps[r->n_steps - 1].position + 1;
	for (unsigned head = 0; head < TRACE_KV_HEADS; head++) {
		r->keys[head] = g_new(float, r->n_tokens *TRACE_DIM);
		r->values[head] = g_new(float, r->n_tokens *TRACE_DIM);
		g_assert_true(kvt_attention_layer_keys(
			r->layer, head, 0, r->n_tokens, r->keys[head], &error));
		g_assert_true(kvt_attention_layer_values(
			r->layer, head, 0, r->n_tokens, r->values[head], &error));
	}
}

void trace_reference_close(trace_reference *r)
{
	for (unsigned head = 0; head < TRACE_KV_HEADS; head++) {
		g_free(r->keys[head]);
		g_free(r->values[head]);
	}
	kvt_attention_layer_close(r->layer);
	kvt_attention_trace_close(r->trace);
}

/* What one query head's attention is. */
static void attend(const float *query, const float *keys, const float *values,
	const uint64_t *tokens, uint64_t n, double *exact, float *resident)
{
	const double scale = 1 / sqrt(TRACE_DIM);
	g_autofree double *logits = g_new0(double, n);
	g_autofree float *rounded = g_new0(float, n);
	double most = -INFINITY, sum = 0;
	float rounded_most = -INFINITY, rounded_sum = 0;
	for (uint64_t t = 0; t < n; t++) {
		const float *key = keys + tokens[t] * TRACE_DIM;
		for (unsigned i = 0; i < TRACE_DIM; i++) {
			logits[t] += (double)query[i] * key[i];
			rounded[t] += query[i] * key[i];
		}
		logits[t] *= scale;
		rounded[t] *= (float)scale;
		most = MAX(most, logits[t]);
		rounded_most = MAX(rounded_most, rounded[t]);
	}
	memset(exact, 0, TRACE_DIM * sizeof(*exact));
	memset(resident, 0, TRACE_DIM * sizeof(*resident));
	for (uint64_t t = 0; t < n; t++) {
		const float *value = values + tokens[t] * TRACE_DIM;
		double share = exp(logits[t] - most);
		float rounded_share = expf(rounded[t] - rounded_most);
		sum += share;
		rounded_sum += rounded_share;
		for (unsigned i = 0; i < TRACE_DIM; i++) {
			exact[i] += share * value[i];
			resident[i] += rounded_share * value[i];
		}
	}
	for (unsigned i = 0; i < TRACE_DIM; i++) {
		exact[i] /= sum;
		resident[i] /= rounded_sum;
	}
}

void trace_reference_compare(const trace_reference *r, uint64_t step, unsigned kv_head,
	const uint64_t *tokens, uint64_t n, const float *output, trace_errors *errors)
{
	float queries[TRACE_KV_HEADS * TRACE_GROUP * TRACE_DIM], resident[TRACE_DIM];
	double exact[TRACE_DIM];
	g_assert_true(kvt_attention_layer_queries(r->layer, step, queries, NULL));
	for (unsigned head = 0; head < TRACE_GROUP; head++) {
		attend(queries + (kv_head * TRACE_GROUP + head) * TRACE_DIM, r->keys[kv_head],
			r->values[kv_head], tokens, n, exact, resident);
		for (unsigned i = 0; i < TRACE_DIM; i++) {
			errors->error += pow(output[head * TRACE_DIM + i] - exact[i], 2);
			errors->resident += pow(resident[i] - exact[i], 2);
		}
	}
	errors->outputs++;
}
