/*
 * metrics_server.h: a text for those who ask GET /metrics over HTTP, on a Unix socket or a port of
 * this machine's loopback, which alone is taken: there is no encryption and nobody is asked who he
 * is. It knows HTTP/1.1 as far as that, and nothing of what the text says.
 */
#ifndef KVT_METRICS_SERVER_H
#define KVT_METRICS_SERVER_H

#include <glib.h>
#include <stdbool.h>

#include "sim/core/loop.h"

typedef struct kvt_metrics_server kvt_metrics_server;

/* Whether that is a place to listen at: "unix:/run/kvtier.sock", "127.0.0.1:9400", "[::1]:9400". An
 * error says what is wrong, without the key. */
gboolean kvt_metrics_where_check(const char *where, GError **error);

/*
 * Listens there, on a real loop. A Unix socket that nobody listens at any more is replaced. `text`
 * returns a new string, on the loop. NULL with an error.
 */
kvt_metrics_server *kvt_metrics_server_new(
	kvt_loop *loop, const char *where, char *(*text)(void *arg), void *arg, GError **error);

/* Where it listens, as it was given, but with the port that port 0 became. */
const char *kvt_metrics_server_where(const kvt_metrics_server *server);

/* Ends connections, and removes a Unix socket. */
void kvt_metrics_server_free(kvt_metrics_server *server);

#endif
