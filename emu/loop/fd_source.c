/* fd_source.c: one descriptor as a source of the real loop. */
#include "emu/loop/fd_source.h"

#include <poll.h>

static void on_ready(void *arg)
{
	kvt_fd_source *source = arg;
	source->pending = 0;
	source->ready(source->arg);
}

static unsigned look(void *arg)
{
	kvt_fd_source *source = arg;
	struct pollfd fd = { .fd = source->fd, .events = POLLIN };
	kvt_time now = kvt_loop_now(source->loop);
	if (source->pending != 0 ||
		(!source->source.readable && now - source->looked < KVT_MILLISECOND))
		return 0;
	source->source.readable = false;
	source->looked = now;
	if (poll(&fd, 1, 0) <= 0)
		return 0;
	source->pending = kvt_loop_at(source->loop, now, on_ready, source);
	return 1;
}

void kvt_fd_source_add(
	kvt_fd_source *source, kvt_loop *loop, int fd, void (*ready)(void *arg), void *arg)
{
	*source = (kvt_fd_source){ .source = { .poll = look, .wait_fd = fd, .arg = source },
		.loop = loop,
		.fd = fd,
		.ready = ready,
		.arg = arg };
	kvt_real_loop_add_source(loop, &source->source);
}

void kvt_fd_source_remove(kvt_fd_source *source)
{
	kvt_real_loop_remove_source(source->loop, &source->source);
	if (source->pending != 0)
		kvt_loop_cancel(source->loop, source->pending);
}
