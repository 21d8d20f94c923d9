/* emulated_gpu.c: an experiment's numbers to a card, a tier around a tier, and a device. */
#include "emu/turn/emulated_gpu.h"

#include "emu/gpu/cuda_gpu.h"
#include "sim/base/error.h"
#include "sim/engine/turn_plan.h"

/* All that it computes has to be on it before. */
static bool check(const kvt_experiment *experiment, GError **error)
{
	if (experiment->kind != KVT_RUN_RESUME)
		return kvt_error_usage(error,
			"[experiment] kind: with [emulation] device = cuda a session stays where "
			"it is, expected resume");
	if (experiment->resume_policy != KVT_RESUME_LOAD)
		return kvt_error_usage(error,
			"[resume] policy: with [emulation] device = cuda the stored context is "
			"loaded, expected load");
	return true;
}

bool kvt_emulated_gpu_find(kvt_emulated_gpu *gpu, const kvt_emulation_settings *settings,
	const kvt_experiment *experiment, const kvt_emulation_hooks *hooks,
	kvt_emulation_result *result, GError **error)
{
	const kvt_cuda_gpu_settings cuda = { .device = (int)settings->card, .cap = settings->hbm };
	result->device = (kvt_emulated_device)settings->device;
	result->one_rank = settings->ranks == KVT_EMULATED_ONE_RANK;
	if (result->one_rank && experiment->kind != KVT_RUN_RESUME)
		return kvt_error_usage(error,
			"[experiment] kind: a rank alone does not move, expected resume, or "
			"[emulation] rank = all");
	if (!kvt_section_read(kvt_config_section_or_empty(experiment->config, "emulation upload"),
		    kvt_upload_options, &gpu->upload, TRUE, error))
		return false;
	if (settings->device == KVT_EMULATED_CPU)
		return true;
	if (!check(experiment, error))
		return false;
	gpu->precision = (kvt_cuda_precision)settings->precision;
	gpu->gpu = hooks && hooks->open_gpu ? hooks->open_gpu(hooks->arg, settings->hbm, error)
					    : kvt_cuda_gpu_new(&cuda, error);
	if (!gpu->gpu)
		return false;
	gpu->gpu->ops->describe(gpu->gpu, &result->gpu);
	result->gpu_cap = settings->hbm;
	return true;
}

void kvt_emulated_gpu_release(kvt_emulated_gpu *gpu, kvt_emulation_result *result)
{
	uint64_t now;
	if (!gpu->gpu)
		return;
	gpu->gpu->ops->memory_used(gpu->gpu, &now, &result->gpu_peak);
	gpu->gpu->ops->free(gpu->gpu);
	gpu->gpu = NULL;
}

kvt_tier *kvt_emulated_gpu_wrap(
	kvt_emulated_gpu *gpu, const kvt_tier_env *env, kvt_tier *inner, GError **error)
{
	gpu->inner = inner;
	gpu->uploads = kvt_upload_tier_new(env, gpu->gpu, inner, &gpu->upload, error);
	if (!gpu->uploads)
		kvt_tier_close(inner);
	return gpu->uploads;
}

kvt_device *kvt_emulated_gpu_open(kvt_emulated_gpu *gpu, const kvt_system *system,
	const kvt_kv_source *source, const kvt_gpu_attention_settings *shown, GError **error)
{
	const kvt_experiment *e = system->experiment;
	uint64_t first = kvt_turn_plan_storable(e);
	uint64_t tokens = (uint64_t)(e->context_tokens + e->prompt_tokens + e->output_tokens);
	kvt_gpu_device_settings settings = { .loop = system->loop,
		.gpu = gpu->gpu,
		.cost = system->cost,
		.timeline = system->timeline,
		.attention = *shown,
		.window_tokens = (uint64_t)e->window_tokens,
		.buffers = (unsigned)e->buffers,
		.status = &gpu->status };
	settings.attention.source = source;
	settings.attention.precision = gpu->precision;
	settings.attention.tokens = tokens;
	settings.attention.first_new = first;
	settings.attention.pass_tokens = MIN((uint64_t)e->chunk_tokens, tokens - first);
	return kvt_gpu_device_new(&settings, error);
}

static void add_region(void *arg, void *memory, uint64_t bytes)
{
	kvt_upload_tier_add_device_memory(((kvt_emulated_gpu *)arg)->uploads, memory, bytes);
}

bool kvt_emulated_gpu_commit(kvt_emulated_gpu *gpu, kvt_device *device, uint64_t resident,
	uint64_t newest, GError **error)
{
	return kvt_gpu_device_commit(device, resident, newest, add_region, gpu, error);
}

bool kvt_emulated_gpu_check(
	const kvt_emulated_gpu *gpu, const kvt_emulation_result *result, bool done, GError **error)
{
	if (gpu->status == 0)
		return done;
	const char *failure = gpu->gpu->ops->failure(gpu->gpu);
	g_clear_error(error);
	return kvt_error_failed(error, "%s failed: %s", result->gpu.name,
		failure ? failure : kvt_gpu_device_reason(gpu->status));
}

/* What of its outputs a GPU may be off by its arithmetic, root mean square: queries and weights are
 * sums of two numbers of 8 bits and more, or one. Each of both adds about half a unit of its last
 * place to what they are multiplied by. */
static const double bounds[] = { [KVT_CUDA_TWO_HALVES] = 0x1p-15, [KVT_CUDA_ROUNDED] = 0x1p-7 };

double kvt_emulated_gpu_bound(const kvt_emulated_gpu *gpu)
{
	return gpu->gpu ? bounds[gpu->precision] : 0;
}

bool kvt_emulation_model_world(const kvt_experiment *experiment, kvt_world *world, GError **error)
{
	kvt_emulation_settings settings = { 0 };
	if (!kvt_section_read(kvt_config_section_or_empty(experiment->config, "emulation"),
		    kvt_emulation_options, &settings, TRUE, error))
		return false;
	*world = (kvt_world){ .one_rank = settings.ranks == KVT_EMULATED_ONE_RANK };
	bool gpu = settings.device == KVT_EMULATED_CUDA;
	kvt_option_clear(kvt_emulation_options, &settings);
	if (gpu && experiment->gpu->host_threads > 0)
		return kvt_error_usage(error,
			"[gpu] name: %s is threads of a host, and [emulation] device is a GPU, "
			"expected the GPU's own file",
			experiment->gpu->name);
	return true;
}
