/*
 * test_cuda_gather.c: copies that a CUDA device makes itself: every byte of scattered runs of all
 * sizes arrives, and none beside them changes.
 */
#include <glib.h>
#include <string.h>

#include "kernels/cuda_kernels.h"
#include "tests/unit/cuda_fixture.h"

#if KVT_CUDA
#include <errno.h>

/* Lengths of n runs, multiples of 16, with gaps of at least 16 bytes between them. */
typedef struct plan {
	unsigned n;
	uint64_t *bytes, *from, *to, total;
} plan;

static void plan_init(plan *p, unsigned n, uint32_t most, uint32_t seed)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
	g_autofree unsigned *order = g_new(unsigned, n);
	*p = (plan){ .n = n };
	p->bytes = g_new(uint64_t, n);
	p->from = g_new(uint64_t, n);
	p->to = g_new(uint64_t, n);
	for (unsigned i = 0; i < n; i++) {
		/* some have nothing, some just whole pieces */
		const int kind = g_rand_int_range(rand, 0, 6);
		const uint64_t some = 16 * (uint64_t)g_rand_int_range(rand, 1, (int)most + 1);
		p->bytes[i] = kind == 0 ? 0 : kind == 1 ? (some + 16383) / 16384 * 16384 : some;
		p->from[i] = p->total;
		p->total += p->bytes[i] + 16;
		order[i] = i;
	}
	uint64_t at = 16;
	for (unsigned i = n; i > 0; i--) {
		const unsigned other = (unsigned)g_rand_int_range(rand, 0, (int)i);
		const unsigned run = order[other];
		order[other] = order[i - 1];
		p->to[run] = at;
		at += p->bytes[run] + 16;
	}
	p->total += 32;
}

static void plan_clear(plan *p)
{
	g_free(p->bytes);
	g_free(p->from);
	g_free(p->to);
}

/* What should be at the target, whose bytes were 0xff. */
static void compare(const plan *p, const uint8_t *source, const uint8_t *target, const char *name)
{
	g_autofree uint8_t *expected = g_malloc(p->total);
	memset(expected, 0xff, p->total);
	for (unsigned i = 0; i < p->n; i++)
		memcpy(expected + p->to[i], source + p->from[i], p->bytes[i]);
	for (uint64_t i = 0; i < p->total; i++)
		if (expected[i] != target[i]) {
			cuda_fixture_failed("%s: byte %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
					    ": %02x, expected %02x",
				name, i, p->total, target[i], expected[i]);
			return;
		}
}

static void run(
	unsigned n, uint32_t most, unsigned blocks, kvt_cuda_gather_way way, bool pinned_list)
{
	g_autofree char *name = g_strdup_printf("%u runs of up to %u, %u blocks, way %d, list %s",
		n, 16 * most, blocks, way, pinned_list ? "pinned" : "on the device");
	plan p;
	plan_init(&p, n, most, n + most);
	uint8_t *source = cuda_fixture_pinned(p.total), *device = cuda_fixture_put(NULL, p.total);
	uint8_t *back = cuda_fixture_pinned(p.total);
	memset(back, 0xff, p.total);
	for (uint64_t i = 0; i < p.total; i++)
		source[i] = (uint8_t)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
	kvt_cuda_run *runs = cuda_fixture_pinned((n + 1) * sizeof(*runs));
	for (unsigned i = 0; i < n; i++)
		runs[i] = (kvt_cuda_run){ device + p.to[i], source + p.from[i], p.bytes[i] };
	kvt_cuda_run *list = cuda_fixture_put(runs, (n + 1) * sizeof(*runs));
	const int status = kvt_cuda_gather(pinned_list ? runs : list, n, blocks, way, NULL);
	if (status == -ENODEV && way == KVT_CUDA_GATHER_BULK)
		g_test_message("%s: this device has no bulk copies", name);
	else if (status != 0)
		cuda_fixture_failed("%s: status %d", name, status);
	g_autofree uint8_t *got = g_malloc(p.total);
	if (cuda_fixture_get(got, device, p.total, name) && status == 0)
		compare(&p, source, got, name);
	/* and back, from where it came to */
	for (unsigned i = 0; i < n; i++)
		runs[i] = (kvt_cuda_run){ back + p.to[i], device + p.to[i], p.bytes[i] };
	if (status == 0 && kvt_cuda_gather(runs, n, blocks, way, NULL) == 0 &&
		cuda_fixture_get(got, device, p.total, name))
		compare(&p, source, back, name);
	cuda_fixture_free(list);
	cuda_fixture_free(device);
	cuda_fixture_unpin(runs);
	cuda_fixture_unpin(back);
	cuda_fixture_unpin(source);
	plan_clear(&p);
}
#else
static void run(
	unsigned n, uint32_t most, unsigned blocks, kvt_cuda_gather_way way, bool pinned_list)
{
}
#endif

static void test(kvt_cuda_gather_way way)
{
	static const unsigned lengths[] = { 0, 1, 5, 31, 33, 200 };
	static const unsigned blocks[] = { 0, 1, 3 };
	if (!cuda_fixture_ready())
		return;
	for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++)
		for (unsigned k = 0; k < G_N_ELEMENTS(blocks); k++) {
			run(lengths[i], 2, blocks[k], way, false);
			run(lengths[i], 3000, blocks[k], way, k == 1);
		}
}

static void test_loads(void)
{
	test(KVT_CUDA_GATHER_LOADS);
}

static void test_bulk(void)
{
	test(KVT_CUDA_GATHER_BULK);
}

static void test_best(void)
{
	if (cuda_fixture_ready())
		run(100, 5000, 0, KVT_CUDA_GATHER_BEST, false);
}

int main(int argc, char **argv)
{
	cuda_fixture_init(&argc, &argv);
	g_test_add_func("/cuda-gather/loads", test_loads);
	g_test_add_func("/cuda-gather/bulk", test_bulk);
	g_test_add_func("/cuda-gather/best", test_best);
	return g_test_run();
}
