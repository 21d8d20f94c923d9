/* request_agentic_links.c: who waited for whom in an agentic trace; see request_agentic.h. */
#include "sim/base/sim_time.h"
#include "traces/request_agentic.h"
#include "traces/request_internal.h"

/* How exactly the files tell when something began. */
#define SLACK KVT_SECOND

/* Of what runs at once, and of what ended lately, no more than this is remembered. */
enum { REMEMBERED = 256 };

/* A request that something may wait for. */
typedef struct ended {
	int64_t start;
	int64_t end; /* when its answer was there for who waited: a sub-agent's is the last one's */
	int64_t served; /* when it had been answered */
	uint32_t request;
	uint32_t place; /* in the list of its conversation; UINT32_MAX: of a sub-agent */
	bool known;     /* its latency was recorded */
} ended;

kvt_agentic_conversation *kvt_agentic_conversation_new(
	int64_t base, uint32_t session, unsigned depth)
{
	kvt_agentic_conversation *conversation = g_new0(kvt_agentic_conversation, 1);
	conversation->base = base;
	conversation->session = session;
	conversation->depth = depth;
	conversation->items = g_array_new(FALSE, FALSE, sizeof(kvt_agentic_item));
	return conversation;
}

void kvt_agentic_conversation_free(kvt_agentic_conversation *conversation)
{
	if (conversation == NULL)
		return;
	for (guint i = 0; i < conversation->items->len; i++)
		kvt_agentic_conversation_free(
			g_array_index(conversation->items, kvt_agentic_item, i).conversation);
	g_array_free(conversation->items, TRUE);
	g_free(conversation);
}

static gint compare_starts(gconstpointer a, gconstpointer b)
{
	const kvt_agentic_item *left = a, *right = b;
	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return left->place < right->place ? -1 : left->place > right->place;
}

/* Picoseconds a token, over the requests whose latency is known; 0 when none is. */
static double mean_pace(const kvt_agentic_conversation *conversation)
{
	double latency = 0, tokens = 0;
	for (guint i = 0; i < conversation->items->len; i++) {
		const kvt_agentic_item *item =
			&g_array_index(conversation->items, kvt_agentic_item, i);
		if (item->conversation == NULL && item->latency >= 0) {
			latency += (double)item->latency;
			tokens += item->output_tokens;
		}
	}
	return tokens > 0 ? latency / tokens : 0;
}

/* Whether what ended may be waited for by a request that starts then: it had ended, and comes
 * before it in the trace, so that nothing waits in a circle. */
static bool is_over(const ended *e, int64_t start, uint32_t request)
{
	return e->end <= start + SLACK &&
	       (e->start < start || (e->start == start && e->request < request));
}

static void remember(GArray *list, const ended *e)
{
	if (list->len >= REMEMBERED)
		g_array_remove_index(list, 0);
	g_array_append_vals(list, e, 1);
}

/* The one of them that ended last and may be waited for; its index, or -1. */
static int find_last(const GArray *list, int64_t start, uint32_t request)
{
	int last = -1;
	for (guint i = 0; i < list->len; i++) {
		const ended *e = &g_array_index(list, ended, i);
		if (is_over(e, start, request) &&
			(last < 0 || e->end >= g_array_index(list, ended, (guint)last).end))
			last = (int)i;
	}
	return last;
}

/*
 * Points the request that starts then at what it waits for: all that is `open`, which it takes, or
 * what ended last of the `past`. Returns that one in *waited, with the last `served` of all of
 * them; false for none.
 */
static bool wait_for(kvt_request_builder *builder, GArray *open, const GArray *past, int64_t start,
	uint32_t index, ended *waited)
{
	int last = find_last(open, start, index);
	const GArray *from = last >= 0 ? open : past;
	last = last >= 0 ? last : find_last(past, start, index);
	if (last < 0)
		return false;
	*waited = g_array_index(from, ended, (guint)last);
	kvt_request_builder_get(builder, index)->after = waited->request;
	if (from != open)
		return true;
	for (guint i = open->len; i-- > 0;) {
		const ended *e = &g_array_index(open, ended, i);
		if (!is_over(e, start, index))
			continue;
		if (e->request != waited->request)
			kvt_request_builder_get(builder, e->request)->joins = index;
		waited->served = MAX(waited->served, e->served);
		g_array_remove_index(open, i);
	}
	return true;
}

static void link_items(kvt_agentic_conversation *conversation, kvt_request_builder *builder,
	GArray *open, GArray *past);

/* A sub-agent: its first requests follow what the parent had done; what is open in it in the end
 * stays open for the parent, the last of it until the answer came. */
static void link_subagent(
	const kvt_agentic_item *item, kvt_request_builder *builder, GArray *open, GArray *past)
{
	g_autoptr(GArray) inner_open = g_array_new(FALSE, FALSE, sizeof(ended));
	g_autoptr(GArray) inner_past = g_array_new(FALSE, FALSE, sizeof(ended));
	int found = find_last(past, item->start, UINT32_MAX);
	ended spawner = { .request = KVT_REQUEST_NONE };
	if (found >= 0) {
		spawner = g_array_index(past, ended, (guint)found);
		spawner.place = UINT32_MAX;
		g_array_append_val(inner_past, spawner);
	}
	link_items(item->conversation, builder, inner_open, inner_past);
	if (inner_open->len == 0)
		return;
	guint last = 0;
	for (guint i = 0; i < inner_open->len; i++) {
		ended *e = &g_array_index(inner_open, ended, i);
		e->place = UINT32_MAX;
		if (e->end >= g_array_index(inner_open, ended, last).end)
			last = i;
	}
	ended *e = &g_array_index(inner_open, ended, last);
	e->end = MAX(e->end, item->end);
	for (guint i = 0; i < inner_open->len; i++) {
		remember(open, &g_array_index(inner_open, ended, i));
		remember(past, &g_array_index(inner_open, ended, i));
	}
	/* What the parent asked for these from is waited for by them. */
	for (guint i = open->len; i-- > 0;)
		if (g_array_index(open, ended, i).request == spawner.request)
			g_array_remove_index(open, i);
}

/* When a request ended: where that was not recorded, at the pace of the others, but before the next
 * began, as one conversation rarely asks twice at once. */
static int64_t find_end(const kvt_agentic_item *item, double pace, int64_t next)
{
	if (item->latency >= 0)
		return item->start + MIN(item->latency, KVT_REQUEST_TIME_MAX / 16);
	double latency = pace * item->output_tokens;
	return item->start + (int64_t)MIN(latency, (double)(next - item->start));
}

static void link_request(const kvt_agentic_item *item, kvt_request_builder *builder, int64_t end,
	GArray *open, GArray *past)
{
	ended waited;
	if (wait_for(builder, open, past, item->start, item->request, &waited)) {
		kvt_request *request = kvt_request_builder_get(builder, item->request);
		/* The recorded one counts from the last end that was recorded. */
		bool recorded = item->think >= 0 && waited.known && waited.place != UINT32_MAX &&
				waited.place + 1 == item->place;
		request->think = recorded ? item->think : MAX(item->start - waited.served, 0);
	}
	ended e = {
		.start = item->start,
		.end = end,
		.served = end,
		.request = item->request,
		.place = item->place,
		.known = item->latency >= 0,
	};
	remember(open, &e);
	remember(past, &e);
}

static void link_items(kvt_agentic_conversation *conversation, kvt_request_builder *builder,
	GArray *open, GArray *past)
{
	GArray *items = conversation->items;
	double pace = mean_pace(conversation);
	for (guint i = 0; i < items->len; i++)
		g_array_index(items, kvt_agentic_item, i).place = i;
	g_array_sort(items, compare_starts);
	for (guint i = 0; i < items->len; i++) {
		const kvt_agentic_item *item = &g_array_index(items, kvt_agentic_item, i);
		if (item->conversation != NULL) {
			link_subagent(item, builder, open, past);
			continue;
		}
		int64_t next = i + 1 < items->len ? item[1].start : KVT_REQUEST_TIME_MAX;
		link_request(item, builder, find_end(item, pace, next), open, past);
	}
}

void kvt_agentic_conversation_link(
	kvt_agentic_conversation *conversation, kvt_request_builder *builder)
{
	g_autoptr(GArray) open = g_array_new(FALSE, FALSE, sizeof(ended));
	g_autoptr(GArray) past = g_array_new(FALSE, FALSE, sizeof(ended));
	link_items(conversation, builder, open, past);
}
