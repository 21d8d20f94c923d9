/*
 * verbs_fabric_queue.c: one queue pair: which transfer is next, work requests in chains, credits
 * for messages, completions.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "emu/fabric/verbs_fabric_internal.h"

enum {
	NO_BUFFER = -1,
	SIGNAL_BYTES = 256 << 10, /* of a chain, after which one is signalled */
};

/* Every send carries 32 bits beside its bytes: credits, and whether they are all it brings. */
static const uint32_t UPDATE = 1u << 31;
static const uint32_t CREDITS = 0xffff;

/* --- Its life --- */

void verbs_class_append(verbs_class *class, kvt_transfer *transfer)
{
	transfer->next = NULL;
	if (class->first)
		class->last->next = transfer;
	else
		class->first = transfer;
	class->last = transfer;
}

static unsigned receives_of(const kvt_connection_settings *settings)
{
	return settings->messages + VERBS_UPDATES;
}

size_t verbs_queue_memory(const kvt_connection_settings *settings)
{
	return (size_t)(receives_of(settings) + settings->messages) * settings->message_bytes;
}

static verbs_slot *new_slots(verbs_queue *queue, unsigned n, bool receive)
{
	verbs_slot *slots = g_new0(verbs_slot, n);
	for (unsigned i = 0; i < n; i++)
		slots[i] = (verbs_slot){ .queue = queue, .receive = receive, .buffer = NO_BUFFER };
	return slots;
}

void verbs_queue_init(verbs_queue *queue, kvt_connection *connection, unsigned index)
{
	const kvt_connection_settings *settings = &connection->settings;
	queue->connection = connection;
	queue->index = index;
	queue->memory = connection->memory + index * verbs_queue_memory(settings);
	queue->n_sends = settings->depth + 1; /* an update of credits may always go */
	queue->sends = new_slots(queue, queue->n_sends, false);
	queue->chain = g_new0(struct ibv_send_wr, queue->n_sends);
	queue->pieces = g_new0(struct ibv_sge, queue->n_sends);
	queue->n_receives = receives_of(settings);
	queue->receives = new_slots(queue, queue->n_receives, true);
	queue->free_buffers = g_new0(int, settings->messages);
	while (queue->n_free_buffers < settings->messages) {
		queue->free_buffers[queue->n_free_buffers] = (int)queue->n_free_buffers;
		queue->n_free_buffers++;
	}
}

void verbs_queue_free(verbs_queue *queue)
{
	g_free(queue->sends);
	g_free(queue->chain);
	g_free(queue->pieces);
	g_free(queue->receives);
	g_free(queue->free_buffers);
}

static bool post_receive(verbs_queue *queue, verbs_slot *slot)
{
	const kvt_connection *connection = queue->connection;
	uint32_t bytes = connection->settings.message_bytes;
	uint64_t at = (uintptr_t)(queue->memory + (size_t)(slot - queue->receives) * bytes);
	struct ibv_sge piece = { at, bytes, connection->mr->lkey };
	struct ibv_recv_wr *bad,
		request = { .wr_id = (uintptr_t)slot, .sg_list = &piece, .num_sge = 1 };
	return ibv_post_recv(queue->qp, &request, &bad) == 0;
}

/* Drivers differ in how much goes inline, and some refuse rather than give less. */
static int make_pair(verbs_queue *queue)
{
	for (unsigned bytes = VERBS_INLINE;; bytes /= 2) {
		struct ibv_qp_init_attr attr = { .send_cq = queue->cq->cq,
			.recv_cq = queue->cq->cq,
			.qp_type = IBV_QPT_RC,
			.cap = { .max_send_wr = queue->n_sends,
				.max_recv_wr = queue->n_receives,
				.max_send_sge = 1,
				.max_recv_sge = 1,
				.max_inline_data = bytes } };
		if (rdma_create_qp(queue->id, queue->connection->domain->pd, &attr) == 0) {
			queue->qp = queue->id->qp;
			queue->max_inline = attr.cap.max_inline_data;
			return 0;
		}
		if (bytes == 0)
			return errno ? -errno : -EIO;
	}
}

int verbs_queue_open(verbs_queue *queue)
{
	unsigned entries = queue->n_sends + queue->n_receives;
	queue->cq = verbs_cq_take(queue->connection->fabric, entries);
	if (!queue->cq)
		return errno ? -errno : -EIO;
	int error = make_pair(queue);
	for (unsigned i = 0; error == 0 && i < queue->n_receives; i++)
		error = post_receive(queue, &queue->receives[i]) ? 0 : -EIO;
	return error;
}

void verbs_queue_close(verbs_queue *queue)
{
	if (queue->qp)
		rdma_destroy_qp(queue->id);
	queue->qp = NULL;
	if (queue->id && queue->state == VERBS_QUEUE_UP)
		verbs_fabric_part(queue->connection->fabric, queue->id);
	else if (queue->id)
		rdma_destroy_id(queue->id);
	queue->id = NULL;
	queue->state = VERBS_QUEUE_NONE;
}

/* --- Sending --- */

static bool may_go(verbs_queue *queue, const kvt_transfer *transfer)
{
	verbs_fabric *fabric = queue->connection->fabric;
	if (transfer->priority > 0 && queue->bytes >= fabric->settings.window)
		return false;
	switch (transfer->op) {
	case KVT_TRANSFER_READ:
		/* a read too many would stop all that is behind it in the device */
		return queue->reads < queue->max_reads;
	case KVT_TRANSFER_WRITE:
		return true;
	case KVT_TRANSFER_MESSAGE:
		fabric->stats.starved += queue->credits == 0;
		return queue->credits > 0 &&
		       (transfer->length <= queue->max_inline || queue->n_free_buffers > 0);
	}
	g_assert_not_reached();
}

/* The class's next transfer that may go over this queue, or NULL. */
static verbs_class *candidate(verbs_queue *queue, unsigned class)
{
	verbs_class *own = &queue->classes[class], *any = &queue->connection->classes[class];
	bool own_may = own->first && may_go(queue, own->first);
	bool any_may = any->first && may_go(queue, any->first);
	if (own_may && any_may)
		return own->first->sequence < any->first->sequence ? own : any;
	return own_may ? own : any_may ? any : NULL;
}

/* Whose first transfer is next. */
static verbs_class *next_class(verbs_queue *queue)
{
	verbs_class *candidates[KVT_PRIORITY_CLASSES];
	unsigned patience = queue->connection->fabric->settings.patience;
	unsigned chosen = KVT_PRIORITY_CLASSES;
	for (unsigned i = KVT_PRIORITY_CLASSES; i-- > 0;) {
		candidates[i] = candidate(queue, i);
		chosen = candidates[i] ? i : chosen;
	}
	if (chosen == KVT_PRIORITY_CLASSES)
		return NULL;
	for (unsigned i = chosen + 1; i < KVT_PRIORITY_CLASSES; i++)
		if (candidates[i] && queue->passed[i] >= patience) {
			chosen = i;
			break;
		}
	queue->passed[chosen] = 0;
	for (unsigned i = chosen + 1; i < KVT_PRIORITY_CLASSES; i++)
		queue->passed[i] += candidates[i] != NULL;
	return candidates[chosen];
}

/* The next work request of the chain, for a transfer or an update of credits. */
static struct ibv_send_wr *add_request(verbs_queue *queue, kvt_transfer *transfer, uint32_t length)
{
	verbs_slot *slot = &queue->sends[queue->head++ % queue->n_sends];
	unsigned n = queue->n_chain++;
	struct ibv_send_wr *request = &queue->chain[n];
	slot->transfer = transfer;
	slot->length = length;
	slot->buffer = NO_BUFFER;
	*request = (struct ibv_send_wr){
		.wr_id = (uintptr_t)slot, .sg_list = &queue->pieces[n], .num_sge = length > 0
	};
	if (n > 0)
		queue->chain[n - 1].next = request;
	return request;
}

static void make_message(verbs_queue *queue, struct ibv_send_wr *request, kvt_transfer *transfer)
{
	const kvt_connection *connection = queue->connection;
	uint32_t bytes = connection->settings.message_bytes;
	verbs_slot *slot = (verbs_slot *)(uintptr_t)request->wr_id;
	struct ibv_sge *piece = request->sg_list;
	request->opcode = IBV_WR_SEND_WITH_IMM;
	request->imm_data = htonl(queue->owed);
	queue->owed = 0;
	queue->credits--;
	*piece = (struct ibv_sge){ (uintptr_t)transfer->memory, (uint32_t)transfer->length, 0 };
	if (transfer->length <= queue->max_inline)
		return;
	slot->buffer = queue->free_buffers[--queue->n_free_buffers];
	uint8_t *copy =
		queue->memory + (size_t)(queue->n_receives + (unsigned)slot->buffer) * bytes;
	memcpy(copy, transfer->memory, transfer->length);
	piece->addr = (uintptr_t)copy;
	piece->lkey = connection->mr->lkey;
}

static void make_transfer(
	verbs_queue *queue, struct ibv_send_wr *request, kvt_transfer *transfer, uint32_t length)
{
	const struct ibv_mr *mr = transfer->region->handle;
	uintptr_t at = (uintptr_t)transfer->memory + transfer->begun;
	*request->sg_list = (struct ibv_sge){ at, length, mr->lkey };
	bool read = transfer->op == KVT_TRANSFER_READ;
	request->opcode = read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
	request->wr.rdma.remote_addr = transfer->remote_address + transfer->begun;
	request->wr.rdma.rkey = transfer->remote_key;
	queue->reads += read;
}

/* Credits that nobody's message takes along, before the peer runs out of them. */
static bool owes_update(const verbs_queue *queue)
{
	unsigned half = (queue->connection->settings.messages + 1) / 2;
	return queue->owed >= half && !queue->updating;
}

static void add_update(verbs_queue *queue)
{
	if (!owes_update(queue))
		return;
	struct ibv_send_wr *request = add_request(queue, NULL, 0);
	request->opcode = IBV_WR_SEND_WITH_IMM;
	request->imm_data = htonl(queue->owed | UPDATE);
	queue->owed = 0;
	queue->updating = true;
	queue->connection->fabric->stats.updates++;
}

/* The write of no bytes needs no key, and nothing of the peer's process. */
void verbs_queue_probe(verbs_queue *queue)
{
	bool idle = !queue->active && queue->head == queue->tail;
	queue->active = false;
	if (!idle)
		return;
	add_request(queue, NULL, 0)->opcode = IBV_WR_RDMA_WRITE;
	queue->updating = true;
	verbs_queue_post(queue);
}

bool verbs_queue_add(verbs_queue *queue)
{
	const kvt_connection *connection = queue->connection;
	verbs_fabric *fabric = connection->fabric;
	if (queue->taken == connection->settings.depth)
		return false;
	verbs_class *class = next_class(queue);
	if (!class)
		return false;
	kvt_transfer *transfer = class->first;
	bool message = transfer->op == KVT_TRANSFER_MESSAGE;
	uint64_t left = transfer->length - transfer->begun;
	uint32_t length =
		(uint32_t)(message ? left : MIN(left, (uint64_t)fabric->settings.max_transfer));
	struct ibv_send_wr *request = add_request(queue, transfer, length);
	if (message)
		make_message(queue, request, transfer);
	else
		make_transfer(queue, request, transfer, length);
	if (length > 0 && length <= queue->max_inline && transfer->op != KVT_TRANSFER_READ) {
		request->send_flags |= IBV_SEND_INLINE;
		fabric->stats.inlined++;
	}
	queue->taken++;
	queue->bytes += length;
	transfer->begun += length;
	transfer->pieces++;
	if (transfer->begun == transfer->length) {
		class->first = transfer->next;
		queue->connection->waiting--;
	}
	return true;
}

/* The last is signalled, and before it every so many or so many bytes. */
static void choose_signalled(verbs_queue *queue)
{
	verbs_fabric *fabric = queue->connection->fabric;
	uint64_t bytes = 0;
	unsigned since = 0;
	for (unsigned i = 0; i < queue->n_chain; i++) {
		struct ibv_send_wr *request = &queue->chain[i];
		bytes += request->num_sge ? request->sg_list->length : 0;
		if (++since < fabric->settings.signal_every && bytes < SIGNAL_BYTES &&
			i + 1 < queue->n_chain)
			continue;
		request->send_flags |= IBV_SEND_SIGNALED;
		fabric->stats.signalled++;
		since = 0;
		bytes = 0;
	}
}

void verbs_queue_post(verbs_queue *queue)
{
	verbs_fabric *fabric = queue->connection->fabric;
	struct ibv_send_wr *bad;
	add_update(queue);
	unsigned n = queue->n_chain;
	if (n == 0)
		return;
	choose_signalled(queue);
	fabric->stats.requests += n;
	for (unsigned i = 0; i < n; i += fabric->settings.linked) {
		unsigned last = MIN(i + fabric->settings.linked, n) - 1;
		queue->chain[last].next = NULL;
		fabric->stats.posts++;
		/* what the device did not take ends with the connection */
		if (ibv_post_send(queue->qp, &queue->chain[i], &bad) != 0) {
			verbs_connection_close(queue->connection, -ECONNRESET);
			break;
		}
	}
	queue->n_chain = 0;
}

/* --- Completions --- */

static void end_slot(verbs_queue *queue, int status)
{
	verbs_slot *slot = &queue->sends[queue->tail++ % queue->n_sends];
	kvt_transfer *transfer = slot->transfer;
	if (!transfer) {
		queue->updating = false;
		return;
	}
	queue->taken--;
	queue->bytes -= slot->length;
	queue->reads -= transfer->op == KVT_TRANSFER_READ;
	if (slot->buffer != NO_BUFFER)
		queue->free_buffers[queue->n_free_buffers++] = slot->buffer;
	transfer->pieces--;
	if (transfer->status == 0)
		transfer->status = status;
	if (transfer->pieces == 0 && transfer->begun == transfer->length)
		verbs_connection_finish(queue->connection, transfer);
}

static int status_of(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_SUCCESS:
		return 0;
	case IBV_WC_REM_ACCESS_ERR:
	case IBV_WC_REM_INV_REQ_ERR:
		return -EACCES;
	case IBV_WC_RETRY_EXC_ERR:
	case IBV_WC_RNR_RETRY_EXC_ERR:
		return -ETIMEDOUT;
	case IBV_WC_WR_FLUSH_ERR:
		return -ECONNRESET;
	default:
		return -EIO;
	}
}

/* Those before it that were not signalled have gone well: the first that fails always tells. */
static void complete_send(verbs_slot *slot, int status)
{
	verbs_queue *queue = slot->queue;
	queue->active = true;
	while (&queue->sends[queue->tail % queue->n_sends] != slot)
		end_slot(queue, 0);
	end_slot(queue, status);
	if (status != 0)
		verbs_connection_close(
			queue->connection, status == -ETIMEDOUT ? -ETIMEDOUT : -ECONNRESET);
	else if (queue->connection->waiting > 0 || owes_update(queue))
		verbs_fabric_set_dirty(queue->connection);
}

static void give_back(verbs_queue *queue, verbs_slot *slot)
{
	if (queue->qp && !post_receive(queue, slot))
		verbs_connection_close(queue->connection, -ECONNRESET);
}

static void deliver(void *arg)
{
	verbs_slot *slot = arg;
	verbs_queue *queue = slot->queue;
	kvt_connection *connection = queue->connection;
	const uint8_t *bytes = queue->memory + (size_t)(slot - queue->receives) *
						       connection->settings.message_bytes;
	if (!connection->quiet)
		connection->handlers.message(
			connection->arg, connection, (int)queue->index, bytes, slot->length);
	give_back(queue, slot);
	queue->owed++;
	verbs_fabric_set_dirty(connection);
}

static void complete_receive(verbs_slot *slot, const struct ibv_wc *completion)
{
	verbs_queue *queue = slot->queue;
	kvt_connection *connection = queue->connection;
	if (completion->status != IBV_WC_SUCCESS) {
		verbs_connection_close(connection, -ECONNRESET);
		return;
	}
	queue->active = true;
	uint32_t beside = completion->wc_flags & IBV_WC_WITH_IMM ? ntohl(completion->imm_data) : 0;
	queue->credits += beside & CREDITS;
	if (beside & CREDITS)
		verbs_fabric_set_dirty(connection);
	/* the peer is up, whatever became of its last word about it */
	if (queue->state == VERBS_QUEUE_OPENING)
		verbs_queue_is_up(queue);
	if (beside & UPDATE) {
		give_back(queue, slot);
		return;
	}
	slot->length = completion->byte_len;
	if (connection->state != VERBS_OPENING) {
		verbs_connection_call(connection, deliver, slot);
		return;
	}
	slot->next = NULL;
	if (queue->early)
		queue->late->next = slot;
	else
		queue->early = slot;
	queue->late = slot;
}

void verbs_queue_complete(const struct ibv_wc *completion)
{
	verbs_slot *slot = (verbs_slot *)(uintptr_t)completion->wr_id;
	if (slot->receive)
		complete_receive(slot, completion);
	else
		complete_send(slot, status_of(completion->status));
}

void verbs_queue_deliver_early(verbs_queue *queue)
{
	for (verbs_slot *slot = queue->early; slot; slot = slot->next)
		verbs_connection_call(queue->connection, deliver, slot);
	queue->early = NULL;
}

void verbs_queue_drop(verbs_queue *queue, int status)
{
	while (queue->tail < queue->head)
		end_slot(queue, status);
	queue->n_chain = 0;
}
