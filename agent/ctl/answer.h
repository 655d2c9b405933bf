/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a verb answers: words as they come or, with --json, one JSON object in one line at its end. A process runs one verb and has one answer. */

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

void answer_as_json(bool json);                 /* else in words */
bool answer_is_json(void);

void answer_words(const char *format, ...) __attribute__((format(printf, 1, 2)));       /* to stdout; nothing where JSON is wanted */

/* Members of the object; nothing where words are wanted. */
void answer_string(const char *name, const char *value);        /* NULL: null */
void answer_number(const char *name, int64_t value);
void answer_bool(const char *name, bool value);
void answer_list(const char *list);             /* is there, if only as an empty array */
void answer_add(const char *list, cJSON *item); /* owns item */

/* answer_item("name", value, ...): an object of strings, or NULL where there is no memory. A value that is NULL is null. */
cJSON *answer_item_of(const char *name, ...) __attribute__((sentinel));
#define answer_item(...) answer_item_of(__VA_ARGS__, (const char *) NULL)

/* The end of a verb. Where JSON is wanted, prints what there is to tell: nothing where it failed before anything came of it. Returns code, or CTL_FAILED
 * where it cannot be told. A change tells `done`, too. */
int answer_end(int code);
int answer_done(int code);
