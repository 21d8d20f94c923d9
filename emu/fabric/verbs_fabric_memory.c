/*
 * verbs_fabric_memory.c: protection domains and registered memory.
 */
#include <errno.h>

#include "emu/fabric/verbs_fabric_internal.h"
#include "sim/base/error.h"

/* Registrations at once in search of a key that was not in use lately. */
enum { ATTEMPTS = 16 };

/* Where the memory of a region is. */
typedef struct region_source {
	int fd; /* of a dma-buf, or -1 */
	uint64_t offset;
	void *memory;
	uint64_t bytes;
	int access;
} region_source;

kvt_fabric_domain *verbs_domain_new(kvt_fabric *base, GError **error)
{
	verbs_fabric *fabric = (verbs_fabric *)base;
	struct ibv_pd *pd = ibv_alloc_pd(fabric->device);
	if (!pd) {
		kvt_error_failed(error, "RDMA device %s: no protection domain: %s",
			kvt_verbs_fabric_device(base), g_strerror(errno));
		return NULL;
	}
	kvt_fabric_domain *domain = g_new0(kvt_fabric_domain, 1);
	domain->fabric = fabric;
	domain->pd = pd;
	fabric->domains++;
	return domain;
}

void verbs_domain_free(kvt_fabric_domain *domain)
{
	if (!domain)
		return;
	int error = ibv_dealloc_pd(domain->pd);
	g_assert(error == 0);
	domain->fabric->domains--;
	g_free(domain);
}

static int access_flags(kvt_fabric_access access)
{
	int flags = IBV_ACCESS_LOCAL_WRITE;
	if (access == KVT_FABRIC_REMOTE_READ || access == KVT_FABRIC_REMOTE_BOTH)
		flags |= IBV_ACCESS_REMOTE_READ;
	if (access == KVT_FABRIC_REMOTE_WRITE || access == KVT_FABRIC_REMOTE_BOTH)
		flags |= IBV_ACCESS_REMOTE_WRITE;
	return flags;
}

static struct ibv_mr *register_once(struct ibv_pd *pd, const region_source *from)
{
	errno = 0;
	if (from->fd < 0)
		return ibv_reg_mr(pd, from->memory, from->bytes, from->access);
	return ibv_reg_dmabuf_mr(
		pd, from->offset, from->bytes, (uintptr_t)from->memory, from->fd, from->access);
}

/* What no peer may touch has no key. */
static uint32_t key_of(const struct ibv_mr *mr, const region_source *from)
{
	return from->access & (IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE) ? mr->rkey : 0;
}

/* Some drivers hand out the key again that was given back last. */
static struct ibv_mr *register_fresh(kvt_fabric_domain *domain, const region_source *from)
{
	verbs_fabric *fabric = domain->fabric;
	struct ibv_mr *stale[ATTEMPTS], *mr = NULL;
	unsigned n = 0;
	kvt_time now = kvt_loop_now(fabric->loop);
	int reason = 0;
	while (n < ATTEMPTS) {
		mr = register_once(domain->pd, from);
		reason = errno;
		if (!mr || key_of(mr, from) == 0 ||
			!kvt_key_quarantine_has(fabric->keys, mr->rkey, now))
			break;
		stale[n++] = mr;
		mr = NULL;
		reason = ENOMEM;
	}
	while (n > 0)
		ibv_dereg_mr(stale[--n]);
	errno = reason;
	return mr;
}

static int open_region(
	kvt_fabric_domain *domain, const region_source *from, kvt_fabric_region *region)
{
	struct ibv_mr *mr = register_fresh(domain, from);
	if (!mr && errno == ENOSPC)
		return -ENOMEM;
	if (!mr)
		return errno ? -errno : -EIO;
	*region = (kvt_fabric_region){ .domain = domain,
		.memory = from->memory,
		.bytes = from->bytes,
		.address = (uintptr_t)from->memory,
		.key = key_of(mr, from),
		.handle = mr };
	return 0;
}

int verbs_region_open(kvt_fabric_domain *domain, void *memory, uint64_t bytes,
	kvt_fabric_access access, kvt_fabric_region *region)
{
	const region_source from = {
		.fd = -1, .memory = memory, .bytes = bytes, .access = access_flags(access)
	};
	return open_region(domain, &from, region);
}

int kvt_verbs_region_open_dmabuf(kvt_fabric_domain *domain, int fd, uint64_t offset, void *memory,
	uint64_t bytes, kvt_fabric_access access, kvt_fabric_region *region)
{
	const region_source from = { .fd = fd,
		.offset = offset,
		.memory = memory,
		.bytes = bytes,
		.access = access_flags(access) };
	if (fd < 0)
		return -EBADF;
	int error = open_region(domain, &from, region);
	return error == -ENOTSUP || error == -ENOSYS || error == -EPROTONOSUPPORT ? -EOPNOTSUPP
										  : error;
}

void verbs_region_close(kvt_fabric_region *region)
{
	verbs_fabric *fabric = region->domain->fabric;
	int error = ibv_dereg_mr(region->handle);
	g_assert(error == 0);
	if (region->key != 0)
		kvt_key_quarantine_add(fabric->keys, region->key, kvt_loop_now(fabric->loop));
	region->handle = NULL;
}
