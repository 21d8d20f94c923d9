/* peak_analysis.c: prefill T (2N + L T h) / F, decode n (2N + KV) / B, switch 2 KV / link. */
#include "sim/engine/peak_analysis.h"

#include <math.h>

#include "models/llm_cost.h"

kvt_peak kvt_peak_analyse(const kvt_experiment *experiment, bool exact)
{
	const kvt_llm *llm = experiment->llm;
	const kvt_peak_settings *peak = &experiment->peak;
	double tokens = (double)experiment->context_tokens;
	double parameters = exact ? (double)kvt_llm_parameters(llm) : (double)peak->parameters;
	double weights = 2 * parameters;
	double kv = (double)kvt_llm_kv_bytes(llm, (uint64_t)experiment->context_tokens, 1);
	if (!exact && peak->binary_kv)
		kv = floor(kv / (1 << 30)) * 1e9;
	double width = (double)(llm->attention.query_heads * llm->attention.head_dim);
	/* the source counts 2 L T h / 2 a token: causal, and one of attention's two products */
	double attention = (double)llm->n_layers * tokens * width * (exact ? 2 : 1);
	return (kvt_peak){
		.kv_bytes = kv,
		.prefill = tokens * (2 * parameters + attention) / peak->flops,
		.decode = (double)peak->output_tokens * (weights + kv) / peak->memory_rate,
		.context_switch = 2 * kv / peak->link_rate,
		.users = (peak->memory - weights) / kv,
	};
}
