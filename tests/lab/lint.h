/* SPDX-License-Identifier: Apache-2.0 */

/* Put in front of every source when clang-tidy reads it: two contracts it cannot see from one file. fault() returns the negative number
 * it was given, and errno is positive where it is read. Without them each "return fault(…)" looks like a success that set nothing. */

#include <errno.h>

#include "base/fault.h"

static inline int *lint_errno(void) {
        int *e = __errno_location();

        if (*e <= 0)
                __builtin_unreachable();
        return e;
}

#undef errno
#define errno (*lint_errno())

#define lint_negative(r, call) ({ int _lint_r = (r); if (_lint_r >= 0) __builtin_unreachable(); (void) (call); _lint_r; })
#define fault(f, r, ...)        lint_negative(r, (fault)(f, _lint_r, __VA_ARGS__))
#define fault_prefix(f, r, ...) lint_negative(r, (fault_prefix)(f, _lint_r, __VA_ARGS__))
