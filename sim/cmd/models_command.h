/* models_command.h: the actions of `kvtier models` that have a file of their own. */
#ifndef KVT_MODELS_COMMAND_H
#define KVT_MODELS_COMMAND_H

#include "models/model_file.h"
#include "sim/cmd/command.h"

/* Each runs its action; argv[0] is its name, such as "show". */
int kvt_models_show_run(int argc, char **argv, GError **error);
int kvt_models_check_run(int argc, char **argv, GError **error);
int kvt_models_fit_run(int argc, char **argv, GError **error);

/* What sets a model apart, in a few words, and its title; new strings, NULL with an error. */
char *kvt_models_summary(kvt_model_kind kind, const char *name, char **title, GError **error);

#endif
