/* SPDX-License-Identifier: Apache-2.0 */

/* A record stored durably, beside the calls it cannot do without, on the same bytes:
 *
 *      bench-disk record  DIR COUNT    as the agent does: a header with length and checksum, file_write_atomic()
 *      bench-disk renamed DIR COUNT    the bare way that lasts: temporary file, write, fsync, rename, fsync of the directory
 *      bench-disk plain   DIR COUNT    write and fsync in place, which a crash can tear
 *
 * The bytes are those of a settled workspace's record. Prints the seconds; on the wall, since what is waited for is the disk. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/record.h"

#define NAME "3b241101-e2bb-4255-8caf-4136c566a962"

static const char content[] =
        "{\"spec_floor\":\"12\",\"restart_floor\":\"0\",\"first_generation\":\"1\",\"spec_job_id\":\"" NAME "\",\"port\":20417,"
        "\"wanted\":{\"generation\":\"12\",\"job_id\":\"" NAME "\",\"runtime\":\"langgraph\",\"kind\":\"workspace\",\"tier\":2},"
        "\"settled\":{\"generation\":\"12\",\"job_id\":\"" NAME "\",\"runtime\":\"langgraph\",\"kind\":\"workspace\",\"tier\":2,"
        "\"image_ref\":\"registry.example.com/molecule/langgraph@sha256:5ec8cbacaa2f4ba193cf83b003e2a2e0e944d4c6fa1b78f7b3eb2a96fe61cc41\","
        "\"container_id\":\"33fcca050e24cff09d90861a8600cc2629daae65d8636c563e5804ee9471861a\"},\"outcome\":{\"report_id\":\"" NAME "\","
        "\"job_id\":\"" NAME "\",\"state\":\"succeeded\",\"stage\":\"ready\",\"progress\":100},\"outcome_acked\":true}";

typedef struct Work { int dir; const cJSON *json; const char *text; size_t size; } Work;

static int do_record(const Work *w) { return record_write(w->dir, NAME, "workspace", w->json, NULL); }

static int put(const Work *w, const char *name, int flags) {
        _cleanup_close_ int fd = openat(w->dir, name, O_WRONLY|O_CREAT|O_CLOEXEC|flags, 0600);

        return fd < 0 || write(fd, w->text, w->size) != (ssize_t) w->size || fsync(fd) < 0 ? -errno : 0;
}

static int do_renamed(const Work *w) {
        int r = put(w, NAME ".tmp", O_EXCL);

        if (r < 0)
                return r;
        return renameat(w->dir, NAME ".tmp", w->dir, NAME) < 0 || fsync(w->dir) < 0 ? -errno : 0;
}

static int do_plain(const Work *w) { return put(w, NAME, 0); }

static const struct { const char *name; int (*run)(const Work *w); } ways[] = {
        { "record", do_record }, { "renamed", do_renamed }, { "plain", do_plain },
};

static double now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
        _cleanup_json_ cJSON *json = NULL;
        _cleanup_free_ char *text = NULL;
        size_t which = 0, size = 0;
        double began;
        int r = 0;
        Work w;

        while (argc == 4 && which < sizeof ways / sizeof *ways && strcmp(ways[which].name, argv[1]) != 0)
                which++;
        if (argc != 4 || which == sizeof ways / sizeof *ways || hash_init() < 0 || json_parse(content, strlen(content), &json, NULL) < 0 ||
            record_format("workspace", json, &text, &size) < 0)
                return 2;
        w = (Work) { open(argv[2], O_RDONLY|O_DIRECTORY|O_CLOEXEC), json, text, size };
        began = now();
        for (long left = atol(argv[3]); r >= 0 && left > 0; left--)
                r = ways[which].run(&w);
        if (w.dir < 0 || r < 0) {
                (void) fprintf(stderr, "bench-disk: %s\n", strerror(w.dir < 0 ? errno : -r));
                return 1;
        }
        (void) printf("%.6f\n", now() - began);
        (void) close(w.dir);
        return 0;
}
