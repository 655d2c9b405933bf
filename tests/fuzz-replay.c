/* SPDX-License-Identifier: Apache-2.0 */

/* Runs one fuzz target, without a fuzzer: over its seeds (tests/fuzz/corpus/NAME/), or over the files that are named. Each file is one answer; it is tried as it
 * is, and at up to 512 places cut and with that byte changed. A target that finds something ends the process: it says what, and the file is the last one named. */

#include <dirent.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

#define WHOLE_MAX (1 << 20)
#define PLACES    512

static int number, failed;

static void answer(bool good, const char *what) {
        number++;
        failed += !good;
        printf("%s %d - %s\n", good ? "ok" : "not ok", number, what);
}

/* In a block of its very size. */
static void one(const uint8_t *data, size_t size, size_t changed, uint8_t with) {
        _cleanup_free_ uint8_t *copy = malloc(size ?: 1);

        if (!copy)
                abort();
        memcpy(copy, data, size);
        if (changed < size)
                copy[changed] ^= with;
        (void) LLVMFuzzerTestOneInput(copy, size);
}

static void file_try(const char *path) {
        static uint8_t data[WHOLE_MAX];
        FILE *f = fopen(path, "re");
        size_t size = f ? fread(data, 1, sizeof data, f) : 0;

        printf("# %s, %zu bytes\n", path, size);
        (void) fflush(stdout);
        for (size_t i = 0; i < size; i += 1 + size / PLACES) {
                one(data, i, i, 0);
                one(data, size, i, 0x01);
                one(data, size, i, 0x80);
        }
        one(data, size, size, 0);
        answer(f && size < sizeof data, path);
        if (f)
                (void) fclose(f);
}

static int is_file(const struct dirent *d) { return d->d_name[0] != '.'; }

static void directory_try(const char *path) {
        struct dirent **list = NULL;
        int n = scandir(path, &list, is_file, alphasort);

        for (int i = 0; i < n; i++) {
                char name[512];

                (void) snprintf(name, sizeof name, "%s/%s", path, list[i]->d_name);
                file_try(name);
                free(list[i]);
        }
        free(list);
        if (n <= 0)
                answer(false, path);
}

int main(int argc, char **argv) {
        char corpus[256];
        const char *slash = strrchr(argv[0], '/');
        struct stat st;

        (void) snprintf(corpus, sizeof corpus, "tests/fuzz/corpus/%s", slash ? slash + 1 : argv[0]);
        if (argc < 2)
                directory_try(corpus);
        for (int i = 1; i < argc; i++)
                if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
                        directory_try(argv[i]);
                else
                        file_try(argv[i]);
        printf("1..%d\n", number);
        return failed > 0;
}
