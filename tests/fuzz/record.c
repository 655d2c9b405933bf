/* SPDX-License-Identifier: Apache-2.0 */

/* base/record: the input is taken as a record, and as the content of one whose header is made for it, since nobody finds a checksum by trying. A good one is written
 * and read back as the same; with any byte changed, missing or added it is refused; and on disk it is loaded or set aside, never lost. */

#include <errno.h>

#include "agent/outbox.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/record.h"
#include "base/text.h"
#include "provision/workspace.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"

#define KIND     "report"
#define ID       KIT_WORKSPACE
#define MAX      (1 << 20)
#define ON_DISK  512                    /* one input in so many */
#define FEW      8

static int read_it(const char *text, size_t size, const char *kind) {
        _cleanup_json_ cJSON *json = NULL;
        Fault f = {};
        int r = record_parse(text, size, kind, &json, &f);

        MUST((r == 0) == !f.set && (r == 0) == (json != NULL));
        return r;
}

/* A record with this content, as its format says. */
static char *made(const uint8_t *data, size_t size, unsigned version, size_t *ret_size) {
        char digest[HASH128_TEXT_SIZE], *text = malloc(size + 200);
        int n;

        if (!text)
                abort();
        hash128_text(data, size, digest);
        n = sprintf(text, "molecule-agent " KIND " v%u %zu %s\n", version, size, digest);
        memcpy(text + n, data, size);
        *ret_size = (size_t) n + size;
        return text;
}

/* The same in a block of its size. */
static int changed(const char *text, size_t size, size_t at, uint8_t with) {
        _cleanup_free_ char *copy = malloc(size);

        if (!copy)
                abort();
        memcpy(copy, text, size);
        copy[at] ^= (char) with;
        return read_it(copy, size, KIND);
}

static void write_and_read(const cJSON *json) {
        _cleanup_free_ char *text = NULL, *again = NULL;
        _cleanup_json_ cJSON *back = NULL;
        size_t size, size_again;
        int r = record_format(KIND, json, &text, &size);

        MUST(r == 0 || r == -EBADMSG);          /* a fraction beyond 2^53 would be written like an integer that is too large */
        if (r < 0)
                return;
        MUST(record_parse(text, size, KIND, &back, NULL) == 0);
        MUST(record_format(KIND, back, &again, &size_again) == 0 && size == size_again && memcmp(text, again, size) == 0);
}

static void damaged(const char *text, size_t size, uint64_t number) {
        MUST(changed(text, size, number % size, (uint8_t) (number >> 32) | 1) < 0);
        MUST(read_it(text, size - 1, KIND) < 0 && read_it(text, size, "other") < 0);
}

/* ── on disk ── */

static void write_file(int dirfd, const char *text, size_t size) {
        _cleanup_close_ int fd = openat(dirfd, ID, O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600);

        if (fd < 0 || write(fd, text, size) != (ssize_t) size)
                abort();
}

/* A report that waits. */
static void loaded_or_set_aside(int state, const char *text, size_t size, bool good) {
        _cleanup_close_ int dirfd = file_open_dir(state, "outbox"), aside = file_open_dir(state, "quarantine");
        _cleanup_(outbox_freep) Outbox *o = NULL;
        struct stat st;

        write_file(dirfd, text, size);
        (void) unlinkat(aside, ID, 0);
        MUST(outbox_open(state, &o, NULL) == 0);
        MUST(outbox_depth(o) == (good && outbox_knows(o, ID)) && (good || outbox_is_empty(o)));
        MUST(fstatat(outbox_is_empty(o) ? aside : dirfd, ID, &st, 0) == 0 && (size_t) st.st_size == size);
        MUST(fstatat(outbox_is_empty(o) ? dirfd : aside, ID, &st, 0) < 0);
}

/* One version back, and forth: the same bytes. */
static void from_version_to_version(int state, const char *text, size_t size) {
        _cleanup_free_ char *back = NULL;
        size_t n;

        write_file(state, text, size);
        record_set_version(RECORD_VERSION - 1);
        MUST(record_rewrite(state, ID, MAX) == 0 && record_version_of(state, ID, MAX) == RECORD_VERSION - 1);
        record_set_version(RECORD_VERSION);
        MUST(record_rewrite(state, ID, MAX) == 0 && file_read(state, ID, MAX, &back, &n) == 0);
        MUST(n == size && memcmp(back, text, n) == 0);
        (void) unlinkat(state, ID, 0);
}

/* What a workspace's record says, written anew, says it again. */
static void workspace_there_and_back(int state, const Workspace *w) {
        const WorkspaceDir dir = { .fd = state, .rescue_fd = -1 };
        _cleanup_(workspace_freep) Workspace *back = NULL;
        _cleanup_free_ char *once = NULL, *twice = NULL;
        size_t n, m;

        MUST(workspace_save(&dir, w, NULL) == 0 && file_read(state, w->id, MAX, &once, &n) == 0);
        MUST(workspace_load(&dir, w->id, &back, NULL) == 0);
        MUST(workspace_save(&dir, back, NULL) == 0 && file_read(state, w->id, MAX, &twice, &m) == 0);
        MUST(n == m && memcmp(once, twice, n) == 0);
        (void) unlinkat(state, w->id, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint64_t number = fuzz_number(data, size);
        size_t n, m;
        _cleanup_free_ char *text = made(data, size, RECORD_VERSION, &n), *older = made(data, size, RECORD_VERSION + 1, &m);
        _cleanup_json_ cJSON *json = NULL;
        bool good = size > 0 && data[size - 1] == '\n' && json_check((const char *) data, size, NULL) == 0;
        _cleanup_(workspace_freep) Workspace *w = NULL;

        (void) read_it((const char *) data, size, KIND);
        MUST(read_it(older, m, KIND) == -EPROTONOSUPPORT);
        MUST((record_parse(text, n, KIND, &json, NULL) == 0) == good);
        damaged(text, n, number);
        if (good)
                write_and_read(json);
        if (good && workspace_from_json(json, &w, NULL) == 0 && number % FEW == 0)
                workspace_there_and_back(scratch(), w);
        if (number % ON_DISK == 0) {
                loaded_or_set_aside(scratch(), text, n, good);
                from_version_to_version(scratch(), text, n);
        }
        return 0;
}
