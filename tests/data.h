/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Files of tests/data, read as the tests are run: from the top of the tree. */

#include "base/json.h"
#include "tests/test.h"

/* The file with a NUL behind it; ends the test program when it is not there. */
static inline char *data_read(const char *name, size_t *ret_size) {
        char path[256];
        size_t size;
        char *text;
        FILE *f;

        (void) snprintf(path, sizeof path, "tests/data/%s", name);
        f = fopen(path, "re");
        text = calloc(1, 1 << 20);
        if (!f || !text) {
                printf("Bail out! cannot read %s\n", path);
                exit(1);
        }
        size = fread(text, 1, (1 << 20) - 1, f);
        (void) fclose(f);
        if (ret_size)
                *ret_size = size;
        return text;
}

static inline cJSON *data_json(const char *name) {
        size_t size;
        _cleanup_free_ char *text = data_read(name, &size);
        cJSON *json = NULL;
        Fault f = {};

        if (json_parse(text, size, &json, &f) < 0) {
                printf("Bail out! %s: %s\n", name, f.text);
                exit(1);
        }
        return json;
}
