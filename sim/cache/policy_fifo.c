/* policy_fifo.c: evicts the page that entered first, used or not. */
#include "sim/cache/page_lists.h"
#include "sim/cache/policy.h"

typedef struct fifo {
	kvt_policy base;
	kvt_page_lists queue; /* one */
} fifo;

static kvt_policy *fifo_create(uint32_t universe, uint32_t capacity)
{
	fifo *policy = g_new0(fifo, 1);
	kvt_page_lists_init(&policy->queue, universe, 1);
	return &policy->base;
}

static void fifo_free(kvt_policy *base)
{
	kvt_page_lists_clear(&((fifo *)base)->queue);
	g_free(base);
}

static void fifo_admit(kvt_policy *base, uint32_t page)
{
	kvt_page_lists_push(&((fifo *)base)->queue, 0, page);
}

static void fifo_touch(kvt_policy *base, uint32_t page)
{
	/* when it entered is all that counts */
}

static void fifo_remove(kvt_policy *base, uint32_t page)
{
	kvt_page_lists_take(&((fifo *)base)->queue, 0, page);
}

static uint32_t fifo_victim(kvt_policy *base, const uint8_t *pinned)
{
	return kvt_page_lists_oldest_free(&((fifo *)base)->queue, 0, pinned);
}

const kvt_policy_ops kvt_policy_fifo = {
	.name = "fifo",
	.summary = "evicts the page that entered first",
	.create = fifo_create,
	.free = fifo_free,
	.admit = fifo_admit,
	.touch = fifo_touch,
	.remove = fifo_remove,
	.victim = fifo_victim,
};
