/* SPDX-License-Identifier: Apache-2.0 */

/* The words of a failure, and the table of codes as the rest of the program asks for it. A fault may carry bytes that came from outside
 * (a name, the engine's message), so what is kept is made printable here once and nobody further up has to think of it. */

#include "base/fault.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const struct {
        const char *name, *meaning, *advice;
        bool        retryable;
} codes[] = {
#define X(symbol, name_, passing, meaning_, advice_) [FAULT_##symbol] = { name_, meaning_, advice_, passing },
        FAULT_CODES(X)
#undef X
};
_Static_assert(ELEMENTS(codes) == _FAULT_CODE_MAX, "every code has its row");

/* A code that is none can only come from a damaged variable: it is reported as our own failure. */
static FaultCode code_known(FaultCode code) {
        return (unsigned) code < _FAULT_CODE_MAX ? code : FAULT_INTERNAL;
}

int fault(Fault *f, int r, FaultCode code, const char *fmt, ...) {
        va_list ap;

        assert(r < 0);
        if (!f || f->set)
                return r;

        va_start(ap, fmt);
        errno = -r;
        if (vsnprintf(f->text, sizeof f->text, fmt, ap) < 0)
                f->text[0] = 0;
        va_end(ap);

        text_make_printable(f->text);
        f->code = code_known(code);
        f->set = true;
        return r;
}

int fault_prefix(Fault *f, int r, const char *fmt, ...) {
        char words[2 * sizeof f->text];
        va_list ap;
        size_t n;
        int k;

        assert(r < 0);
        if (!f || !f->set)
                return r;

        va_start(ap, fmt);
        errno = -r;
        k = vsnprintf(words, sizeof f->text, fmt, ap);
        va_end(ap);
        if (k <= 0)
                return r;

        n = strlen(words);
        if (words[n - 1] != ' ')
                n = (size_t) (stpcpy(words + n, ": ") - words);
        n = (size_t) (stpncpy(words + n, f->text, sizeof words - n - 1) - words);
        n = n < sizeof f->text ? n : sizeof f->text - 1;
        memcpy(f->text, words, n);
        f->text[n] = 0;
        text_make_printable(f->text);
        return r;
}

const char *fault_code_name(FaultCode code) {
        return codes[code_known(code)].name;
}

const char *fault_code_meaning(FaultCode code) {
        return codes[code_known(code)].meaning;
}

const char *fault_code_advice(FaultCode code) {
        return codes[code_known(code)].advice;
}

bool fault_code_retryable(FaultCode code) {
        return codes[code_known(code)].retryable;
}

int fault_code_find(const char *name, FaultCode *ret) {
        for (size_t i = 0; i < ELEMENTS(codes); i++)
                if (str_equal(codes[i].name, name)) {
                        *ret = (FaultCode) i;
                        return 0;
                }
        return -ENOENT;
}
