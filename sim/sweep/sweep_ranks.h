/*
 * sweep_ranks.h: several processes, on one machine or many, that run one sweep: messages between
 * rank 0, which deals points and writes, and the others, which run them. It is MPI's, in a module
 * beside the program that is opened only where mpirun started it: kvtier itself is not linked
 * against MPI, and starts and builds without it.
 */
#ifndef KVT_SWEEP_RANKS_H
#define KVT_SWEEP_RANKS_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

/* What the module offers, as its symbol kvt_sweep_ranks_module. All calls come from one thread.
 * Functions return 0, or an error code of MPI's that `reason` has a text for. */
typedef struct kvt_sweep_ranks_ops {
	unsigned version; /* KVT_SWEEP_RANKS_VERSION */
	int (*begin)(int *rank, int *size);
	int (*send)(int to, const void *bytes, int size);
	/* Whether a message is there, from whom, and how long; does not wait. */
	int (*look)(bool *there, int *from, int *size);
	int (*receive)(int from, void *bytes, int size);
	void (*reason)(int code, char *text, size_t size);
	void (*end)(void);
	void (*abort)(void); /* ends all ranks at once */
} kvt_sweep_ranks_ops;

enum { KVT_SWEEP_RANKS_VERSION = 1 };

typedef struct kvt_sweep_ranks {
	const kvt_sweep_ranks_ops *ops;
	int rank, size;
} kvt_sweep_ranks;

/* Whether this process is one of several that mpirun, srun or their like started. */
bool kvt_sweep_ranks_wanted(void);

/* Joins them. False with an error when there is no module, or MPI does not start. */
gboolean kvt_sweep_ranks_begin(kvt_sweep_ranks *ranks, GError **error);
void kvt_sweep_ranks_end(kvt_sweep_ranks *ranks);

gboolean kvt_sweep_ranks_send(
	kvt_sweep_ranks *ranks, int to, const GByteArray *message, GError **error);

/* The next message, if there is one, else NULL; a new GByteArray. *error is set when it fails. */
GByteArray *kvt_sweep_ranks_receive(kvt_sweep_ranks *ranks, int *from, GError **error);

#endif
