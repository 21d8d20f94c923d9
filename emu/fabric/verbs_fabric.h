/*
 * verbs_fabric.h: the fabric of fabric.h over libibverbs and librdmacm: reliable connections of one
 * RDMA device (InfiniBand, RoCE, iWARP, or the kernel's soft-RoCE), which the connection manager
 * finds by IPv4 and IPv6 addresses.
 */
#ifndef KVT_VERBS_FABRIC_H
#define KVT_VERBS_FABRIC_H

#include "emu/fabric/fabric.h"

/* Which device: the one named; else the one with the local address; else the one that the way to
 * the peer goes over; else the first with an active port. 0 in a member: the value in brackets. */
typedef struct kvt_verbs_settings {
	const char *device;    /* "mlx5_0" */
	const char *address;   /* of an interface of it */
	const char *peer;      /* an address */
	uint32_t max_transfer; /* longer transfers are cut, for others to come between [1 MiB] */
	uint64_t window; /* bytes under way in a queue, past which only class 0 goes [16 MiB] */
	unsigned signal_every; /* work requests of a batch, of which the last is signalled [8] */
	/* Work requests given to the device in one call. Linux's soft-RoCE reorders packets of
	 * linked ones where it has several processors, and sends them again: at 64 KiB that costs
	 * half of the rate of reads, perftest's too [64; 1 on soft-RoCE] */
	unsigned linked;
	kvt_time keepalive; /* a queue without traffic is tried so often, or its end not seen [5 s]
			     */
	unsigned patience;  /* as io_engine.h's [16] */
} kvt_verbs_settings;

/* `settings` may be NULL. NULL with one line where there is no such device. */
kvt_fabric *kvt_verbs_fabric_new(
	kvt_loop *loop, const kvt_verbs_settings *settings, GError **error);

/* Its device's name, the fabric's. */
const char *kvt_verbs_fabric_device(const kvt_fabric *fabric);

/* Registers `bytes` of a dma-buf from `offset`: a GPU's memory, say. Transfers name places in it
 * by `memory`, an address that need not be mapped here. region_close closes it. 0 or a negative
 * errno: -EOPNOTSUPP where the device's driver has no such thing. */
int kvt_verbs_region_open_dmabuf(kvt_fabric_domain *domain, int fd, uint64_t offset, void *memory,
	uint64_t bytes, kvt_fabric_access access, kvt_fabric_region *region);

typedef struct kvt_verbs_stats {
	uint64_t posts;              /* calls of the device */
	uint64_t requests;           /* work requests in them */
	uint64_t signalled, inlined; /* of these */
	uint64_t updates;            /* that brought nothing but credits */
	uint64_t starved;            /* times that a message waited for credit */
	uint64_t completions;        /* entries of completion queues */
	unsigned queues, entries;    /* completion queues now, and entries of them promised */
} kvt_verbs_stats;

kvt_verbs_stats kvt_verbs_fabric_stats(const kvt_fabric *fabric);

#endif
