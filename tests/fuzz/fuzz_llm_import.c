/*
 * fuzz_llm_import.c: any bytes as a config.json. What is refused must have one line of UTF-8 for a
 * message; what is read must be written as a model file that reads back the same.
 */
#include <glib.h>
#include <string.h>

#include "models/llm_cost.h"
#include "models/llm_import.h"
#include "sim/base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *source = NULL;
	g_autoptr(kvt_llm) llm =
		kvt_llm_import_text("config.json", (const char *)data, size, NULL, &source, &error);
	if (llm == NULL) {
		g_assert(error != NULL && error->domain == KVT_ERROR);
		g_assert(g_str_has_prefix(error->message, "config.json:"));
		g_assert(strpbrk(error->message, "\n\r") == NULL);
		g_assert(g_utf8_validate(error->message, -1, NULL));
		return 0;
	}
	g_assert(error == NULL);
	g_autofree char *text = kvt_llm_to_ini(llm, source);
	g_autoptr(kvt_llm) again = kvt_llm_parse("again.ini", text, &error);
	if (again == NULL)
		g_error("%s", error->message);
	g_autofree char *second = kvt_llm_to_ini(again, source);
	g_assert(strcmp(text, second) == 0);
	for (unsigned ranks = 1; ranks <= 8; ranks++)
		g_assert(kvt_llm_weight_bytes(llm, ranks) == kvt_llm_weight_bytes(again, ranks));
	g_assert(kvt_llm_kv_bytes(llm, 100000, 1) == kvt_llm_kv_bytes(again, 100000, 1));
	kvt_llm_gemm gemms[KVT_LLM_GEMMS_MAX];
	for (unsigned layer = 0; layer < llm->n_layers; layer++)
		g_assert(kvt_llm_layer_gemms(llm, layer, 8, 2, layer % 2, gemms) > 0);
	return 0;
}
