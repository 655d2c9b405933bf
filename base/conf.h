/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The form of agent.conf: one flat section, `key = value`, '#' at line start only, lines up to 4 KiB, at most 64 KiB. What the keys mean
 * is agent/config's business. */

#include <stddef.h>

#include "base/fault.h"

#define CONF_LINE_MAX 4096
#define CONF_FILE_MAX 65536

/* One setting, in file order. line counts from 1. A negative return stops the reading. */
typedef int (*ConfSet)(const char *file, unsigned line, const char *key, const char *value, void *userdata, Fault *reterr);

/* Keys are [a-z0-9_]+; white space around key and value is dropped; the value may be empty; section names other than `section`, text
 * before a section, NUL, control characters, broken UTF-8, over-long lines and lines without '=' are config_invalid with file and line. */
int conf_parse(const char *file, const char *text, size_t size, const char *section, ConfSet set, void *userdata, Fault *reterr);

/* For a value from elsewhere, which may have to stand in a file one day: cuts white space off both ends, in place; why no line "key = value" holds it (NULL: one does). */
char       *conf_trim(char *s);
const char *conf_value_refused(const char *key, const char *value);
