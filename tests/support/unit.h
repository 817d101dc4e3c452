/* What every unit test includes: cmocka with its prerequisites. */
#ifndef SUPPORT_UNIT_H
#define SUPPORT_UNIT_H

/* cmocka wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/slice.h"

/* a equals b, byte for byte, and says both when not. */
#define assert_slice(a, b)                                                  \
	do {                                                                \
		struct slice a_ = (a), b_ = (b);                            \
		if (!slice_eq(a_, b_))                                      \
			fail_msg("\"%.*s\" is not \"%.*s\"", SLICE_FMT(a_), \
			    SLICE_FMT(b_));                                 \
	} while (0)

#endif
