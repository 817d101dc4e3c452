#include "base/err.h"

const char *
err_name(int err)
{
	switch ((enum err)err) {
	case ERR_OK:
		return "ok";
#define X(name, value, text) \
	case ERR_##name:     \
		return text;
		ERR_LIST(X)
#undef X
	}
	return "unknown";
}
