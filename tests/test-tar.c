/* SPDX-License-Identifier: Apache-2.0 */

/* engine/tar: what is written is read by the system's tar, what that writes in each of its formats is read here, and damage is seen. */

#include <errno.h>
#include <stdarg.h>

#include "base/text.h"
#include "engine/tar.h"
#include "tests/test.h"

static char directory[64];

static char *run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The output of a shell line run in the test's directory. */
static char *run(const char *fmt, ...) {
        char command[2048], line[1200];
        char *text = calloc(1, 1 << 20);
        va_list ap;
        FILE *f;

        va_start(ap, fmt);
        (void) vsnprintf(line, sizeof line, fmt, ap);
        va_end(ap);
        (void) snprintf(command, sizeof command, "cd %s && { %s; } 2>&1", directory, line);
        (void) fflush(stdout);
        f = popen(command, "re");
        if (!f || fread(text, 1, (1 << 20) - 1, f) == (1 << 20) - 1)
                abort();
        (void) pclose(f);
        return text;
}

static void file_put(const char *name, const void *data, size_t size) {
        char path[128];
        FILE *f;

        (void) snprintf(path, sizeof path, "%s/%s", directory, name);
        f = fopen(path, "we");
        if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
                abort();
}

static char *file_get(const char *name, size_t *ret_size) {
        char path[128];
        char *data = calloc(1, 1 << 20);
        FILE *f;

        (void) snprintf(path, sizeof path, "%s/%s", directory, name);
        f = fopen(path, "re");
        if (!f)
                abort();
        *ret_size = fread(data, 1, 1 << 20, f);
        (void) fclose(f);
        return data;
}

static char *repeat(const char *s, size_t n) {
        char *text = calloc(n, strlen(s) + 1);

        for (size_t i = 0; i < n; i++)
                strcat(text, s);
        return text;
}

TEST(incident_63_read_back_by_ourselves) {
        _cleanup_(tar_done) Tar t = {};
        char block[1000];
        TarEntry e;
        size_t at = 0;

        memset(block, 'b', sizeof block);
        CHECK_INT(tar_add_dir(&t, "/", 0755, 1000, 1000), 0);
        CHECK_INT(tar_add_dir(&t, "prompts", 0755, 1000, 1000), 0);
        CHECK_INT(tar_add_file(&t, "prompts/a.md", 0644, 1000, 1000, "hello", 5), 0);
        CHECK_INT(tar_add_file(&t, ".auth_token", 0600, 0, 65534, "", 0), 0);
        CHECK_INT(tar_add_file(&t, "b", 0600, 07777777, 0, block, sizeof block), 0);
        CHECK_INT(tar_end(&t), 0);
        CHECK_INT(t.size % 512, 0);

        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 1);
        CHECK_STR(e.name, "/");
        CHECK(e.type == '5' && e.mode == 0755 && e.uid == 1000 && e.gid == 1000 && e.size == 0);
        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 1);
        CHECK_STR(e.name, "prompts");
        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 1);
        CHECK_STR(e.name, "prompts/a.md");
        CHECK(e.type == '0' && e.mode == 0644 && e.size == 5 && memcmp(e.data, "hello", 5) == 0);
        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 1);
        CHECK_STR(e.name, ".auth_token");
        CHECK(e.size == 0 && e.mode == 0600 && e.gid == 65534);
        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 1);
        CHECK(e.size == sizeof block && memcmp(e.data, block, sizeof block) == 0 && e.uid == 07777777);
        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 0);
        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 0);
}

TEST(equal_content_gives_equal_bytes) {
        _cleanup_(tar_done) Tar a = {}, b = {};

        CHECK_INT(tar_add_file(&a, "x", 0644, 1, 2, "data", 4), 0);
        CHECK_INT(tar_add_file(&b, "x", 0644, 1, 2, "data", 4), 0);
        CHECK(a.size == b.size && memcmp(a.data, b.data, a.size) == 0);
        tar_done(&b);
        CHECK(b.data == NULL && b.size == 0);
}

TEST(names_up_to_255_bytes) {
        _cleanup_free_ char *part = repeat("p", 99), *hundred = repeat("n", 100), *too_long = repeat("n", 101), *deep = repeat("/a", 76);
        char name[300];
        TarEntry e;
        size_t at = 0;
        _cleanup_(tar_done) Tar t = {};

        CHECK_INT(tar_add_file(&t, hundred, 0644, 0, 0, "", 0), 0);
        CHECK_INT(tar_add_file(&t, too_long, 0644, 0, 0, "", 0), -ENAMETOOLONG);        /* no place to cut */
        (void) snprintf(name, sizeof name, "aa%s/%s", deep, hundred);
        CHECK_INT(strlen(name), 255);
        CHECK_INT(tar_add_file(&t, name, 0644, 0, 0, "q", 1), 0);
        (void) snprintf(name, sizeof name, "aa%s/%s", deep, too_long);
        CHECK_INT(tar_add_file(&t, name, 0644, 0, 0, "", 0), -ENAMETOOLONG);
        (void) snprintf(name, sizeof name, "%s/%s/", part, part);       /* a cut must leave a name behind it */
        CHECK_INT(tar_add_dir(&t, name, 0755, 0, 0), 0);
        CHECK_INT(tar_add_file(&t, "", 0644, 0, 0, "", 0), -ENAMETOOLONG);
        CHECK_INT(tar_end(&t), 0);

        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 1);
        CHECK_STR(e.name, hundred);
        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 1);
        CHECK_INT(strlen(e.name), 255);
        CHECK(e.size == 1 && e.data[0] == 'q');
        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 1);
        CHECK_STR(e.name, name);
        CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), 0);
}

TEST(the_systems_tar_reads_ours) {
        _cleanup_free_ char *deep = repeat("abcdefghi/", 15), *list = NULL, *content = NULL;
        char name[200];
        _cleanup_(tar_done) Tar t = {};

        (void) snprintf(name, sizeof name, "%send", deep);
        CHECK_INT(tar_add_dir(&t, "d", 0755, 1000, 1000), 0);
        CHECK_INT(tar_add_file(&t, "d/f", 0600, 1000, 1001, "content\n", 8), 0);
        CHECK_INT(tar_add_file(&t, name, 0644, 0, 0, "", 0), 0);
        CHECK_INT(tar_end(&t), 0);
        file_put("ours.tar", t.data, t.size);

        list = run("tar --numeric-owner --utc -tvf ours.tar");
        CHECK(strstr(list, "drwxr-xr-x 1000/1000") && strstr(list, "-rw------- 1000/1001") && strstr(list, " d/f\n") && strstr(list, name));
        CHECK(strstr(list, "1970-01-01") && !strstr(list, "tar:"));
        content = run("tar -xOf ours.tar d/f");
        CHECK_STR(content, "content\n");
}

TEST(ours_read_the_systems) {
        static const char *const formats[] = { "ustar", "gnu", "pax", "oldgnu", "v7" };
        _cleanup_free_ char *deep = repeat("abcdefghi/", 14), *made = NULL;

        made = run("mkdir -p in/%s && printf 12345 >in/short && printf 6789 >in/%slong && ln -s short in/link && chmod 640 in/short",
                   deep, deep);
        CHECK_STR(made, "");
        for (size_t i = 0; i < ELEMENTS(formats); i++) {
                bool v7 = strcmp(formats[i], "v7") == 0, found_short = false, found_long = false, found_link = false;
                _cleanup_free_ char *out = run("tar --format=%s -C in -cf theirs.tar %s", formats[i], v7 ? "short link" : ".");
                _cleanup_free_ char *data = NULL;
                size_t size, at = 0;
                TarEntry e;
                Fault f = {};
                int r;

                CHECK_STR(out, "");
                data = file_get("theirs.tar", &size);
                while ((r = tar_next(data, size, &at, &e, &f)) > 0) {
                        const char *name = strncmp(e.name, "./", 2) == 0 ? e.name + 2 : e.name;

                        if (strcmp(name, "short") == 0)
                                found_short = e.type == '0' && e.mode == 0640 && e.size == 5 && memcmp(e.data, "12345", 5) == 0;
                        else if (strcmp(name, "link") == 0)
                                found_link = e.type == '2' && e.size == 0;
                        else if (strlen(name) == 144)
                                found_long = e.size == 4 && memcmp(e.data, "6789", 4) == 0;
                }
                if (!CHECK_INT(r, 0))
                        printf("#   %s: %s\n", formats[i], f.text);
                CHECK(found_short && found_link && (v7 || found_long));
        }
}

TEST(a_pax_size_counts) {
        _cleanup_free_ char *out = run("printf 12345 >p && tar --format=pax --pax-option=foo:=bar,size:=5 -cf pax.tar p"), *data = NULL;
        size_t size, at = 0;
        TarEntry e;

        CHECK_STR(out, "");
        data = file_get("pax.tar", &size);
        CHECK_INT(tar_next(data, size, &at, &e, NULL), 1);
        CHECK_STR(e.name, "p");
        CHECK(e.size == 5 && memcmp(e.data, "12345", 5) == 0);
        CHECK_INT(tar_next(data, size, &at, &e, NULL), 0);
}

static void sum_mend(char *header) {
        unsigned sum = 0;

        memset(header + 148, ' ', 8);
        for (int i = 0; i < 512; i++)
                sum += (unsigned char) header[i];
        (void) snprintf(header + 148, 8, "%06o", sum);
}

TEST(damage_is_seen) {
        static const struct { size_t at; const char *bytes; size_t n; bool mend; } cases[] = {
                { 0,   "X",             1,  false },    /* the checksum no longer fits */
                { 124, "00000001001",   11, true },     /* a size beyond the end */
                { 124, "77777777777",   11, true },
                { 124, "0000000000z",   11, true },
                { 124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, true },
                { 124, "\xff\xff",      2,  true },     /* a negative one */
                { 108, "zzzzzzz",       7,  true },     /* uid */
                { 148, "zzzzzz",        6,  false },
                { 0,   "\0",            1,  true },     /* no name */
                { 156, "x",             1,  true },     /* a pax header whose records are none */
        };
        _cleanup_(tar_done) Tar t = {};

        CHECK_INT(tar_add_file(&t, "n", 0644, 0, 0, "hello", 5), 0);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *copy = malloc(t.size);
                size_t at = 0;
                TarEntry e;
                Fault f = {};

                memcpy(copy, t.data, t.size);
                memcpy(copy + cases[i].at, cases[i].bytes, cases[i].n);
                if (cases[i].mend)
                        sum_mend(copy);
                if (!CHECK_INT(tar_next(copy, t.size, &at, &e, &f), -EBADMSG))
                        printf("#   case %zu\n", i);
                CHECK(f.set);
        }
        for (size_t cut = 1; cut < t.size; cut += 7) {          /* cut short anywhere but behind the data */
                _cleanup_free_ char *copy = malloc(cut);
                size_t at = 0;
                TarEntry e;
                int r;

                memcpy(copy, t.data, cut);
                r = tar_next(copy, cut, &at, &e, NULL);
                CHECK_INT(r, cut < 512 + 5 ? -EBADMSG : 1);
                if (r == 1)
                        CHECK_INT(tar_next(copy, cut, &at, &e, NULL), 0);
        }
}

TEST(pax_records_that_make_no_sense) {
        static const char *const bad[] = { "6 path=", "99 path=x\n", "0 path=x\n", "9 path-x\n", "x path=x\n", " path=x\n", "9 path=x\n1",
                                           "-9 path=x\n",
                                           "99999999999 path=x\n", "9 size=z\n", "28 size=99999999999999999999\n", "8 path=\n" };

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_(tar_done) Tar t = {};
                size_t at = 0;
                TarEntry e;

                CHECK_INT(tar_add_file(&t, "PaxHeaders/n", 0644, 0, 0, bad[i], strlen(bad[i])), 0);
                t.data[156] = 'x';
                sum_mend(t.data);
                CHECK_INT(tar_add_file(&t, "n", 0644, 0, 0, "", 0), 0);
                CHECK_INT(tar_end(&t), 0);
                if (!CHECK_INT(tar_next(t.data, t.size, &at, &e, NULL), -EBADMSG))
                        printf("#   %s\n", bad[i]);
        }
}

int main(void) {
        int bad;

        (void) snprintf(directory, sizeof directory, "%s/test.XXXXXX", P_tmpdir);
        if (!mkdtemp(directory))
                return 1;
        bad = test_run_all();
        free(run("rm -rf %s", directory));
        return bad;
}
