/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which of many bears a name: filled by the caller, put in order once, asked often. What is walked for each of a thousand is walked
 * a million times. */

#include <stddef.h>

typedef struct Name {
        const char *text;               /* borrowed */
        size_t      at;                 /* the caller's number for it */
} Name;

void        names_sort(Name *names, size_t n);
const Name *names_find(const Name *names, size_t n, const char *text);  /* of equal ones any; NULL, also for text NULL */
