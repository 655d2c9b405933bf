/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput(), which states what holds for every input whatever: libFuzzer calls
 * it with what it makes up (make fuzz), tests/fuzz-replay.c with the seeds and with seeds that are damaged (make check). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

_Noreturn static inline void must_fail(const char *file, int line, const char *what) {
        fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
        abort();
}

#define MUST(expr) do { if (!(expr)) must_fail(__FILE__, __LINE__, #expr); } while (0)

/* The bytes up to the first NUL as a string with nothing behind it: one read too many is seen. */
static inline char *fuzz_text(const uint8_t *data, size_t size) {
        char *text = strndup((const char *) data, size);

        if (!text)
                abort();
        return text;
}

/* One byte off the front of the input; 0 where it is empty. */
static inline uint8_t fuzz_byte(const uint8_t **data, size_t *size) {
        if (*size == 0)
                return 0;
        --*size;
        return *(*data)++;
}

/* A number that depends on all of the input (FNV-1a): in place of randomness, so that a finding comes again. */
static inline uint64_t fuzz_number(const uint8_t *data, size_t size) {
        uint64_t v = UINT64_C(0xcbf29ce484222325);

        for (size_t i = 0; i < size; i++)
                v = (v ^ data[i]) * UINT64_C(0x100000001b3);
        return v;
}
