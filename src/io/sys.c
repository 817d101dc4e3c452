#include <errno.h>
#include <stddef.h>

#include "base/err.h"

#include "io/sys.h"

int
sys_err(int number)
{
	static const struct {
		int number;
		int err;
	} table[] = {
		{ EAGAIN, ERR_AGAIN },
		{ EINPROGRESS, ERR_AGAIN },
		{ ENOENT, ERR_NOT_FOUND },
		{ ENOTDIR, ERR_NOT_FOUND },
		{ ESRCH, ERR_GONE },
		{ EEXIST, ERR_EXISTS },
		{ ENOTEMPTY, ERR_EXISTS },
		{ EACCES, ERR_DENIED },
		{ EPERM, ERR_DENIED },
		{ EROFS, ERR_DENIED },
		{ ELOOP, ERR_DENIED },
		{ ENOSPC, ERR_NO_SPACE },
		{ EDQUOT, ERR_NO_SPACE },
		{ EFBIG, ERR_TOO_BIG },
		{ ENAMETOOLONG, ERR_TOO_BIG },
		{ E2BIG, ERR_TOO_BIG },
		{ EMSGSIZE, ERR_TOO_BIG },
		{ ENOMEM, ERR_NOMEM },
		{ ENOBUFS, ERR_NOMEM },
		{ EMFILE, ERR_FULL },
		{ ENFILE, ERR_FULL },
		{ EBUSY, ERR_BUSY },
		{ EADDRINUSE, ERR_BUSY },
		{ ETXTBSY, ERR_BUSY },
		{ EINVAL, ERR_INVALID },
		{ EISDIR, ERR_TYPE },
		{ ENOEXEC, ERR_TYPE },
		{ ENOSYS, ERR_UNSUPPORTED },
		{ EOPNOTSUPP, ERR_UNSUPPORTED },
		{ ECONNREFUSED, ERR_REFUSED },
		{ ECONNRESET, ERR_RESET },
		{ ECONNABORTED, ERR_RESET },
		{ EPIPE, ERR_CLOSED },
		{ ESHUTDOWN, ERR_CLOSED },
		{ ENOTCONN, ERR_CLOSED },
		{ ETIMEDOUT, ERR_TIMEOUT },
		{ EHOSTUNREACH, ERR_UNREACHABLE },
		{ ENETUNREACH, ERR_UNREACHABLE },
		{ ENETDOWN, ERR_UNREACHABLE },
		{ EHOSTDOWN, ERR_UNREACHABLE },
		{ EADDRNOTAVAIL, ERR_UNREACHABLE },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].number == number)
			return table[i].err;
	}
	return ERR_IO;
}
