/* test_kernel_csv.c: shapes of measured kernel tables, refusals with their place, row splits. */
#include <glib.h>
#include <string.h>

#include "models/kernel_csv.h"
#include "sim/base/error.h"

#define ATTENTION                                                                                  \
	"kernel_source,batch_size,isl,num_heads,num_key_value_heads,head_dim,attn_dtype,"          \
	"kv_cache_dtype,step,op_name,latency_ms\n"
#define GEMM "kernel_source,gemm_dtype,m,n,k,op_name,latency_ms\n"
#define NCCL "kernel_source,nccl_dtype,num_gpus,op_name,message_size,latency_ms\n"

static kvt_kernel_csv *parse(const char *text, GError **error)
{
	return kvt_kernel_csv_parse("a.csv", text, strlen(text), error);
}

static void test_attention(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_kernel_csv) csv =
		parse("\xef\xbb\xbf# a comment\r\n" ATTENTION
		      "fa2,32,1,64,8,128,bfloat16,fp8,1023,generation_attention,0.25\r\n"
		      "\n"
		      "fa2, 1,16384,64,64,128,bfloat16,bfloat16,0,context_attention,24.8815",
			&error);
	g_assert_no_error(error);
	g_assert_cmpuint(csv->count, ==, 2);
	const kvt_kernel_row *row = csv->rows;
	g_assert_cmpint(row->kind, ==, KVT_KERNEL_DECODE);
	g_assert_cmpuint(row->line, ==, 3);
	g_assert_cmpint(kvt_kernel_row_kv_tokens(row), ==, 1024);
	g_assert_cmpint(row->attention.batch, ==, 32);
	g_assert_cmpint(row->attention.heads, ==, 64);
	g_assert_cmpint(row->attention.kv_heads, ==, 8);
	g_assert_cmpstr(row->kv_dtype, ==, "fp8");
	g_assert_cmpfloat_with_epsilon(row->seconds, 0.25e-3, 1e-15);
	g_assert_cmpint(row[1].kind, ==, KVT_KERNEL_PREFILL);
	g_assert_cmpint(row[1].attention.isl, ==, 16384);
	g_assert_true(row[0].source == row[1].source);
}

static void test_other_shapes(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_kernel_csv) gemm = parse(
		"note,latency_ms,op_name,k,n,m,gemm_dtype,kernel_source\nx,2.5,gemm,3,2,1,fp8,c\n",
		&error);
	g_assert_no_error(error);
	g_assert_cmpint(gemm->rows[0].kind, ==, KVT_KERNEL_GEMM);
	g_assert_cmpint(gemm->rows[0].gemm.m, ==, 1);
	g_assert_cmpint(gemm->rows[0].gemm.k, ==, 3);
	g_assert_cmpstr(gemm->rows[0].dtype, ==, "fp8");
	g_autoptr(kvt_kernel_csv) nccl = parse(NCCL "NCCL,half,8,all_reduce,256,0.01\n", &error);
	g_assert_no_error(error);
	g_assert_cmpint(nccl->rows[0].kind, ==, KVT_KERNEL_COLLECTIVE);
	g_assert_cmpint(nccl->rows[0].collective.gpus, ==, 8);
	g_assert_cmpint(nccl->rows[0].collective.elements, ==, 256);
	g_assert_cmpstr(nccl->rows[0].op, ==, "all_reduce");
}

static void test_refused(void)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{ "", "a.csv: no rows" },
		{ GEMM, "a.csv:1: no rows" },
		{ "a,b\n", "a.csv:1: header: no column head_dim" },
		{ "m,n,k,op_name,latency_ms\n", "a.csv:1: header: no column kernel_source" },
		{ "kernel_source,gemm_dtype,m,m,n,k,op_name,latency_ms\n",
			"a.csv:1: header: column m after m" },
		{ GEMM "c,fp8,1,2,3,gemm\n", "a.csv:2: row: 6 fields, expected 7" },
		{ GEMM "c,fp8,1,2,3,gemm,1,1\n", "a.csv:2: row: 8 fields, expected 7" },
		{ GEMM "c,fp8,1,2,3,gemm,nan\n", "a.csv:2: latency_ms: 'nan'" },
		{ GEMM "c,fp8,1,2,3,gemm,inf\n", "a.csv:2: latency_ms: 'inf'" },
		{ GEMM "c,fp8,1,2,3,gemm,-1\n", "a.csv:2: latency_ms: '-1'" },
		{ GEMM "c,fp8,1,2,3,gemm,0\n", "a.csv:2: latency_ms: '0'" },
		{ GEMM "c,fp8,1,2,3,gemm,\n", "a.csv:2: latency_ms: ''" },
		{ GEMM "c,fp8,1,2,3,gemm,1x\n", "a.csv:2: latency_ms: '1x'" },
		{ GEMM "c,fp8,0,2,3,gemm,1\n", "a.csv:2: m: '0'" },
		{ GEMM "c,fp8,1.5,2,3,gemm,1\n", "a.csv:2: m: '1.5'" },
		{ GEMM "c,fp8,99999999999999999999,2,3,gemm,1\n", "a.csv:2: m: '9" },
		{ GEMM "c,\"fp8\",1,2,3,gemm,1\n", "a.csv:2: gemm_dtype: not a name" },
		{ GEMM "c,fp8,1,2,3,conv,1\n", "a.csv:2: op_name: 'conv'" },
		{ ATTENTION "f,1,1,8,3,128,b,b,1,generation_attention,1\n",
			"a.csv:2: num_key_value_heads: 3 for 8" },
		{ ATTENTION "f,1,1,8,8,128,b,b,1,gemm,1\n", "a.csv:2: op_name: 'gemm'" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		g_assert_null(parse(bad[i].text, &error));
		g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
		if (!g_str_has_prefix(error->message, bad[i].message))
			g_error("'%s' does not begin with '%s'", error->message, bad[i].message);
	}
	static const char nul[] = GEMM "c,fp8,1,2\0,3,gemm,1\n";
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_kernel_csv_parse("a.csv", nul, sizeof(nul) - 1, &error));
	g_assert_cmpstr(error->message, ==, "a.csv:2: a NUL byte, expected text");
	g_clear_error(&error);
	g_assert_null(kvt_kernel_csv_load("/nonexistent/a.csv", &error));
	g_assert_true(g_str_has_prefix(error->message, "/nonexistent/a.csv: cannot be read"));
}

static void test_left_out(void)
{
	kvt_kernel_row row = {
		.kind = KVT_KERNEL_GEMM, .source = "c", .op = "gemm", .dtype = "fp8"
	};
	unsigned out = 0, moved = 0;
	for (int64_t m = 1; m <= 10000; m++) {
		row.gemm = (kvt_kernel_gemm){ m, 2, 3 };
		bool first = kvt_kernel_row_left_out(&row, 0.3, 1);
		kvt_kernel_row again = row;
		again.seconds = 5;
		again.line = 7;
		g_assert_true(kvt_kernel_row_left_out(&again, 0.3, 1) == first);
		g_assert_false(kvt_kernel_row_left_out(&row, 0, 1));
		g_assert_true(kvt_kernel_row_left_out(&row, 1, 1));
		out += first;
		moved += first != kvt_kernel_row_left_out(&row, 0.3, 2);
	}
	/* Five standard deviations of a binomial share around 0.3 and 0.42. */
	g_assert_cmpuint(out, >, 2771);
	g_assert_cmpuint(out, <, 3229);
	g_assert_cmpuint(moved, >, 3953);
	g_assert_cmpuint(moved, <, 4447);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kernel-csv/attention", test_attention);
	g_test_add_func("/kernel-csv/other-shapes", test_other_shapes);
	g_test_add_func("/kernel-csv/refused", test_refused);
	g_test_add_func("/kernel-csv/left-out", test_left_out);
	return g_test_run();
}
