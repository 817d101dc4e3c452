#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/trim.h"

/* Only segments that were never writable: relocations were written to the
 * others, and their pages are not those of the file. */
static int
trim_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size;
	(void)arg;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type != PT_LOAD || (p->p_flags & PF_W) != 0)
			continue;
		uintptr_t from = (info->dlpi_addr + p->p_vaddr) & ~(page - 1);
		uintptr_t to = info->dlpi_addr + p->p_vaddr + p->p_memsz;
		(void)madvise((void *)from, to - from, MADV_DONTNEED);
	}
	return 0;
}

void
trim_code(void)
{
	(void)dl_iterate_phdr(trim_object, NULL);
}
