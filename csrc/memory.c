/*
 * memory.c - how much memory processes have.  proc_pid_status(5), proc_pid_smaps(5)
 *
 * Never more than there is: what several processes share may be counted once
 * for each by the quick figures, and is then looked at again, page by page.
 * Shared memory that nobody has mapped, or that a process keeps from being
 * seen, is not found.
 */
#include "core.h"
#include "memory.h"
#include <linux/fcntl.h>
#include <linux/stat.h>

/* struct statfs of asm-generic/statfs.h, which cannot be included beside linux/stat.h's kin. */
struct file_system {
	long type, block_size;
	uint64_t blocks, free, available, files, free_files;
	int id[2];
	long name_len, fragment_size, flags, spare[4];
};

#define PAGE_BYTES 4096 /* where statm is asked; larger pages would only count for less */

/*
 * By the kernel's own counters, which cost little; shared pages count in full.
 * A user of very many groups has a status that is cut before its memory: then
 * all that is resident counts as the process's own.
 */
static void quickly(int proc, int pid, struct jail_memory *ret_memory)
{
	char text[STATUS_BYTES], pages[64];

	if (proc_read(proc, pid, "status", text, sizeof(text)) == sizeof(text) - 1) {
		proc_read(proc, pid, "statm", pages, sizeof(pages));
		ret_memory->own = proc_number_after(pages) * PAGE_BYTES;
		ret_memory->shared = 0;
		return;
	}
	ret_memory->own = (proc_number(text, "RssAnon:") + proc_number(text, "VmSwap:")) * 1024;
	ret_memory->shared = proc_number(text, "RssShmem:") * 1024;
}

/* Page by page: a page of n processes counts one n-th for each.  Linux 5.4. */
void memory_of(int proc, int pid, int exactly, struct jail_memory *ret_memory)
{
	char text[2048];

	if (exactly && proc_read(proc, pid, "smaps_rollup", text, sizeof(text)) > 0) {
		ret_memory->own =
			(proc_number(text, "Pss_Anon:") + proc_number(text, "SwapPss:")) * 1024;
		ret_memory->shared = proc_number(text, "Pss_Shmem:") * 1024;
	} else {
		quickly(proc, pid, ret_memory);
	}
}

/* What the tmpfs holds, and which of its limits is reached (enum jail_hit). */
uint64_t memory_of_tmpfs(int fd, uint32_t *ret_hits)
{
	struct file_system fs;

	*ret_hits = 0;
	if (fd < 0 || sys(fstatfs, fd, &fs) < 0)
		return 0;
	*ret_hits = (fs.free ? 0 : JAIL_HIT_BYTES) | (fs.free_files ? 0 : JAIL_HIT_INODES);
	return (fs.blocks - fs.free) * (uint64_t)fs.block_size;
}

void memory_forget(struct jail_inodes *inodes)
{
	inodes->count = 0;
	for (uint32_t i = 0; i < INODES_MAX; i++)
		inodes->inode[i] = 0;
}

/* Whether it was not counted yet.  When there is no room to know, it was. */
static int is_new(struct jail_inodes *inodes, uint64_t inode)
{
	uint32_t at = (uint32_t)(inode * 0x9E3779B97F4A7C15U >> 32) % INODES_MAX;

	if (inodes->count >= INODES_MAX / 2)
		return 0;
	for (; inodes->inode[at]; at = (at + 1) % INODES_MAX)
		if (inodes->inode[at] == inode)
			return 0;
	inodes->inode[at] = inode;
	inodes->count++;
	return 1;
}

static uint64_t memfd_bytes(int directory, const char *name, struct jail_inodes *inodes)
{
	static const char memfd[] = "/memfd:";
	char target[sizeof(memfd)];
	struct statx st;
	long n = sys(readlinkat, directory, name, target, sizeof(memfd) - 1);

	if (n != sizeof(memfd) - 1)
		return 0;
	for (size_t i = 0; i < sizeof(memfd) - 1; i++)
		if (target[i] != memfd[i])
			return 0;
	if (sys(statx, directory, name, 0, STATX_BLOCKS | STATX_INO, &st) < 0)
		return 0;
	return is_new(inodes, st.stx_ino) ? st.stx_blocks * 512 : 0;
}

/* Files of memfd_create(2) that a process has open, mapped or not, but for those seen before. */
uint64_t memory_of_memfds(int proc, int pid, struct jail_inodes *inodes)
{
	__attribute__((aligned(8))) char buffer[4096];
	auto_close fd = proc_open(proc, pid, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t bytes = 0;
	long n = fd;

	while (n >= 0 && (n = sys(getdents64, fd, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < n;) {
			const struct directory_entry *entry = (const void *)(buffer + at);

			if (entry->name[0] != '.')
				bytes += memfd_bytes(fd, entry->name, inodes);
			at += entry->len;
		}
	}
	return bytes;
}
