/* SPDX-License-Identifier: Apache-2.0 */

/* The strict check of a document, check and tree together, and cJSON's own tree alone, in turn and on one processor's clock:
 *
 *      bench-json FILE ROUNDS          prints "BYTES check SECONDS parse SECONDS cjson SECONDS" of each round */

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "base/json.h"

#define VALUES_MAX 500000

static double cpu(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static bool check(const char *text, size_t size) { return json_check_values(text, size, VALUES_MAX, NULL) == 0; }

static bool parse(const char *text, size_t size) {
        _cleanup_json_ cJSON *json = NULL;

        return json_parse_values(text, size, VALUES_MAX, &json, NULL) == 0;
}

static bool bare(const char *text, size_t size) {
        _cleanup_json_ cJSON *json = cJSON_ParseWithLength(text, size);

        return json != NULL;
}

static const struct { const char *name; bool (*run)(const char *text, size_t size); } ways[] = {
        { "check", check }, { "parse", parse }, { "cjson", bare },
};

static char *read_all(const char *path, size_t *ret_size) {
        FILE *f = fopen(path, "re");
        struct stat st;
        char *text;

        if (!f || fstat(fileno(f), &st) < 0)
                return NULL;
        *ret_size = (size_t) st.st_size;
        text = malloc(*ret_size + 1);
        if (text && fread(text, 1, *ret_size, f) != *ret_size)
                *ret_size = 0;
        (void) fclose(f);
        return text;
}

int main(int argc, char **argv) {
        size_t size = 0;
        _cleanup_free_ char *text = argc == 3 ? read_all(argv[1], &size) : NULL;

        for (long left = text ? atol(argv[2]) : 0; left > 0; left--) {
                (void) printf("%zu", size);
                for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
                        double began = cpu();

                        if (!ways[i].run(text, size))
                                return 1;
                        (void) printf(" %s %.9f", ways[i].name, cpu() - began);
                }
                (void) printf("\n");
        }
        return text ? 0 : 2;
}
