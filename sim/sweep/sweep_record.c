/* sweep_record.c: frames of points and names, to bytes and back. */
#include "sim/sweep/sweep_record.h"

#include <string.h>
#include <xxhash.h>

typedef struct frame_head {
	uint32_t bytes, kind;
	uint64_t checksum;
} frame_head;

/* Before the text of HEADER and NAMES. */
typedef struct text_head {
	uint64_t id, bytes;
} text_head;

/* Before the values of DONE and the text of FAILED. */
typedef struct point_head {
	uint64_t point;
	double seconds;
	uint32_t worker, text_bytes;
	uint64_t names;
} point_head;

uint64_t kvt_sweep_names_id(const char *names, size_t length)
{
	return XXH3_64bits(names, length);
}

static void append_frame(GByteArray *out, kvt_sweep_frame_kind kind, const void *head,
	size_t head_bytes, const void *body, size_t body_bytes)
{
	static const uint8_t zeros[8];
	const guint start = out->len;
	const size_t padding = -body_bytes & 7;
	frame_head frame = { .bytes = (uint32_t)(head_bytes + body_bytes + padding), .kind = kind };
	g_byte_array_append(out, (const guint8 *)&frame, sizeof frame);
	g_byte_array_append(out, head, (guint)head_bytes);
	if (body_bytes > 0)
		g_byte_array_append(out, body, (guint)body_bytes);
	g_byte_array_append(out, zeros, (guint)padding);
	frame.checksum =
		XXH3_64bits_withSeed(out->data + start + sizeof frame, frame.bytes, frame.kind);
	memcpy(out->data + start, &frame, sizeof frame);
}

void kvt_sweep_append_text(
	GByteArray *out, kvt_sweep_frame_kind kind, const char *text, size_t length)
{
	const text_head head = { kvt_sweep_names_id(text, length), length };
	append_frame(out, kind, &head, sizeof head, text, length);
}

void kvt_sweep_append_done(GByteArray *out, uint64_t point, double seconds, uint32_t worker,
	const kvt_sweep_metrics *metrics)
{
	const point_head head = { point, seconds, worker, 0,
		kvt_sweep_names_id(metrics->names->str, metrics->names->len) };
	append_frame(out, KVT_SWEEP_FRAME_DONE, &head, sizeof head, metrics->values->data,
		metrics->values->len * sizeof(double));
}

void kvt_sweep_append_failed(
	GByteArray *out, uint64_t point, double seconds, uint32_t worker, const char *message)
{
	const size_t length = strlen(message);
	const point_head head = { point, seconds, worker, (uint32_t)length, 0 };
	append_frame(out, KVT_SWEEP_FRAME_FAILED, &head, sizeof head, message, length);
}

static bool read_text(const uint8_t *payload, uint64_t size, kvt_sweep_frame *frame)
{
	text_head head;
	if (size < sizeof head)
		return false;
	memcpy(&head, payload, sizeof head);
	frame->id = head.id;
	frame->text = (const char *)payload + sizeof head;
	frame->text_bytes = head.bytes;
	return head.bytes <= size - sizeof head &&
	       head.id == kvt_sweep_names_id(frame->text, head.bytes);
}

static bool read_point(const uint8_t *payload, uint64_t size, kvt_sweep_frame *frame)
{
	point_head head;
	if (size < sizeof head)
		return false;
	memcpy(&head, payload, sizeof head);
	frame->id = head.names;
	frame->point = head.point;
	frame->seconds = head.seconds;
	frame->worker = head.worker;
	const uint8_t *body = payload + sizeof head;
	if (frame->kind == KVT_SWEEP_FRAME_DONE) {
		frame->values = (const double *)body;
		frame->n_values = (size - sizeof head) / sizeof(double);
		return true;
	}
	frame->text = (const char *)body;
	frame->text_bytes = head.text_bytes;
	return head.text_bytes <= size - sizeof head;
}

bool kvt_sweep_frame_read(const void *bytes, uint64_t size, kvt_sweep_frame *frame)
{
	frame_head head;
	if (size < sizeof head)
		return false;
	memcpy(&head, bytes, sizeof head);
	const uint8_t *payload = (const uint8_t *)bytes + sizeof head;
	if (head.bytes % 8 != 0 || head.bytes > size - sizeof head ||
		head.checksum != XXH3_64bits_withSeed(payload, head.bytes, head.kind))
		return false;
	*frame = (kvt_sweep_frame){ .kind = (kvt_sweep_frame_kind)head.kind,
		.bytes = sizeof head + head.bytes };
	switch (frame->kind) {
	case KVT_SWEEP_FRAME_HEADER:
	case KVT_SWEEP_FRAME_NAMES:
		return read_text(payload, head.bytes, frame);
	case KVT_SWEEP_FRAME_DONE:
	case KVT_SWEEP_FRAME_FAILED:
		return read_point(payload, head.bytes, frame);
	}
	return false;
}
