/* requests_generate.h: `kvtier requests fit` and `generate`: models of request traces, and traces
 * drawn from them. */
#ifndef KVT_REQUESTS_GENERATE_H
#define KVT_REQUESTS_GENERATE_H

#include <glib.h>

int kvt_requests_fit_run(int argc, char **argv, GError **error);
int kvt_requests_generate_run(int argc, char **argv, GError **error);

/* What the keys of a model are. A new string. */
char *kvt_requests_model_help(void);

#endif
