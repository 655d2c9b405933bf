/* SPDX-License-Identifier: Apache-2.0 */

#include "base/names.h"

#include <stdlib.h>
#include <string.h>

static int by_text(const void *a, const void *b) { return strcmp(((const Name *) a)->text, ((const Name *) b)->text); }

void names_sort(Name *names, size_t n) {
        if (n > 0)
                qsort(names, n, sizeof *names, by_text);
}

const Name *names_find(const Name *names, size_t n, const char *text) {
        return text && n > 0 ? bsearch(&(Name) { .text = text }, names, n, sizeof *names, by_text) : NULL;
}
