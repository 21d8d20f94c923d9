/*
 * mpi_module.c: the ranks of a sweep by MPI, as a module that kvtier opens when mpirun started it
 * (sweep_ranks.h). Not linked into kvtier; built where there is an mpicc.
 */
#include <mpi.h>
#include <stdio.h>

#include "sim/sweep/sweep_ranks.h"

enum { TAG = 0 };

static int begin(int *rank, int *size)
{
	int provided = 0;
	int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
	if (code == MPI_SUCCESS)
		code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
	if (code == MPI_SUCCESS)
		code = MPI_Comm_rank(MPI_COMM_WORLD, rank);
	return code == MPI_SUCCESS ? MPI_Comm_size(MPI_COMM_WORLD, size) : code;
}

static int send_bytes(int to, const void *bytes, int size)
{
	return MPI_Send(bytes, size, MPI_BYTE, to, TAG, MPI_COMM_WORLD);
}

static int look(bool *there, int *from, int *size)
{
	MPI_Status status;
	int flag = 0;
	int code = MPI_Iprobe(MPI_ANY_SOURCE, TAG, MPI_COMM_WORLD, &flag, &status);
	*there = flag != 0;
	if (code != MPI_SUCCESS || !flag)
		return code;
	*from = status.MPI_SOURCE;
	return MPI_Get_count(&status, MPI_BYTE, size);
}

static int receive_bytes(int from, void *bytes, int size)
{
	return MPI_Recv(bytes, size, MPI_BYTE, from, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static void reason(int code, char *text, size_t size)
{
	char message[MPI_MAX_ERROR_STRING] = "";
	int length = 0;
	MPI_Error_string(code, message, &length);
	snprintf(text, size, "%s", message);
}

static void end(void)
{
	MPI_Finalize();
}

static void end_all(void)
{
	MPI_Abort(MPI_COMM_WORLD, 1);
}

extern const kvt_sweep_ranks_ops kvt_sweep_ranks_module;
const kvt_sweep_ranks_ops kvt_sweep_ranks_module = {
	.version = KVT_SWEEP_RANKS_VERSION,
	.begin = begin,
	.send = send_bytes,
	.look = look,
	.receive = receive_bytes,
	.reason = reason,
	.end = end,
	.abort = end_all,
};
