/* SPDX-License-Identifier: Apache-2.0 */

/* bundle: one file for somebody who cannot come to the host. */

#include "agent/ctl/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "agent/ctl/answer.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/term.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "engine/tar.h"

#define LEVEL       9
#define WITHOUT_MAX 16

void bundle_done(Bundle *b) {
        for (size_t i = 0; i < b->n; i++) {
                free(b->parts[i].name);
                free(b->parts[i].text);
        }
        free(b->parts);
        cJSON_Delete(b->missing);
}

static bool is_wanted(const Bundle *b, const char *name) {
        for (char **w = b->without; *w; w++)
                if (strncmp(name, *w, strlen(*w)) == 0)
                        return false;
        return true;
}

int bundle_add(Bundle *b, const char *name, char *_text, size_t size) {
        _cleanup_free_ char *text = _text, *copy = strdup(name);
        Part *larger;

        if (!is_wanted(b, name))
                return 0;
        if (!text || !copy)
                return -ENOMEM;
        if (size > BUNDLE_MAX - b->size)
                return -EFBIG;
        larger = realloc(b->parts, (b->n + 1) * sizeof *larger);
        if (!larger)
                return -ENOMEM;
        b->parts = larger;
        b->parts[b->n++] = (Part){ TAKE_PTR(copy), TAKE_PTR(text), size };
        b->size += size;
        return 0;
}

int bundle_add_json(Bundle *b, const char *name, const cJSON *json) {
        char *text = json ? cJSON_Print(json) : NULL;

        return bundle_add(b, name, text, text ? strlen(text) : 0);
}

void bundle_missing(Bundle *b, const char *name, const char *why) {
        char words[600];

        (void) snprintf(words, sizeof words, "%s: %s", name, why);
        (void) cJSON_AddItemToArray(b->missing, cJSON_CreateString(words));
}

/* ── the file ────────────────────────────────────────────────────────────────────────────────────────────────── */

static int add_manifest(Bundle *b) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *parts = cJSON_CreateArray();

        if (!json || !json_add_string(json, "version", VERSION) || !json_add_string(json, "git_sha", GIT_SHA) ||
            !json_add_time(json, "made_at", now_realtime()) || !json_add_item(json, "missing", cJSON_Duplicate(b->missing, true)) ||
            !json_add_item(json, "parts", parts))
                return -ENOMEM;
        for (size_t i = 0; i < b->n; i++)
                if (!cJSON_AddItemToArray(parts, cJSON_CreateString(b->parts[i].name)))
                        return -ENOMEM;
        return bundle_add_json(b, "manifest.json", json);
}

static int pack(const Bundle *b, const char *folder, Tar *tar) {
        char name[256];
        int r = tar_add_dir(tar, folder, 0755, 0, 0);

        for (size_t i = 0; r >= 0 && i < b->n; i++) {
                (void) snprintf(name, sizeof name, "%s/%s", folder, b->parts[i].name);
                r = tar_add_file(tar, name, 0644, 0, 0, b->parts[i].text, b->parts[i].size);
        }
        return r < 0 ? r : tar_end(tar);
}

static int compress(const Tar *tar, char **ret, size_t *ret_size) {
        size_t room = ZSTD_compressBound(tar->size);
        _cleanup_free_ char *out = malloc(room);
        size_t n = out ? ZSTD_compress(out, room, tar->data, tar->size, LEVEL) : 0;

        if (!out || ZSTD_isError(n))
                return -ENOMEM;
        *ret = TAKE_PTR(out);
        *ret_size = n;
        return 0;
}

/* Never over a file that is there, and for nobody else to read. */
static int store(const char *path, const char *data, size_t size) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        int r = fd < 0 ? -errno : file_write_full(fd, data, size);

        if (r >= 0 && fsync(fd) < 0)
                r = -errno;
        if (r < 0) {
                fprintf(stderr, "Cannot write %s: %s\n", path, strerror(-r));
                if (fd >= 0)
                        (void) unlink(path);
        }
        return r;
}

static void name_of(char *ret, size_t size) {
        char at[TIME_TEXT_SIZE];

        (void) time_text(now_realtime(), at);
        (void) snprintf(ret, size, "molecule-bundle-%.10sT%.2s%.2s%.2sZ", at, at + 11, at + 14, at + 17);
}

static int save(Bundle *b, const char *path) {
        _cleanup_(tar_done) Tar tar = {};
        _cleanup_free_ char *data = NULL;
        char folder[64], own[80], text[TERM_TEXT_SIZE];
        size_t size;

        name_of(folder, sizeof folder);
        (void) snprintf(own, sizeof own, "%s.tar.zst", folder);
        if (add_manifest(b) < 0 || pack(b, folder, &tar) < 0 || compress(&tar, &data, &size) < 0) {
                fputs("Out of memory.\n", stderr);
                return CTL_FAILED;
        }
        if (store(path ?: own, data, size) < 0)
                return CTL_FAILED;
        answer_words("%s: %zu parts, %s. It was searched for every sealed value of 6 bytes or more and for the credentials: none is in it.\n", path ?: own, b->n, term_bytes(size, text));
        answer_string("file", path ?: own);
        answer_number("parts", (int64_t) b->n);
        answer_number("bytes", (int64_t) size);
        return answer_done(CTL_OK);
}

/* ── the verb ────────────────────────────────────────────────────────────────────────────────────────────────── */

static int run(Bundle *b, const char *path) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_client_ Client client = {};
        _cleanup_close_ int state = ctl_open_state();
        Fault why = {};
        int r, code = state < 0 ? CTL_FAILED : client_open(&client);

        if (code != CTL_OK)
                return code;
        if (config_load_good(state, &config, NULL) < 0 && config_load(NULL, false, &config, &why) < 0)  /* the first is what is in force */
                bundle_missing(b, "config.txt", why.text);
        r = bundle_collect(b, &client, config, state);
        if (r < 0) {
                fprintf(stderr, "The bundle cannot be put together: %s\n", r == -EFBIG ? "it is larger than 64 MiB; leave something out with --without" : strerror(-r));
                return CTL_FAILED;
        }
        r = bundle_search(b, config, state);
        return r == 0 ? save(b, path) : r > 0 ? CTL_REFUSED : CTL_FAILED;
}

int ctl_bundle(int argc, char **argv) {
        static const struct option options[] = { { "output", required_argument, NULL, 'o' }, { "without", required_argument, NULL, 'w' },
                                                 { "json", no_argument, NULL, 'j' }, {} };
        char *without[WITHOUT_MAX + 1] = {};
        _cleanup_(bundle_done) Bundle b = { .without = without, .missing = cJSON_CreateArray() };
        const char *path = NULL;
        bool good = true;
        size_t n = 0;
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                if (opt == 'o')
                        path = optarg;
                else if (opt == 'w' && n < WITHOUT_MAX)
                        without[n++] = optarg;
                else if (opt == 'j')
                        answer_as_json(true);
                else
                        good = false;
        if (!good || optind != argc) {
                fputs("Usage: molecule-agentctl bundle [--output FILE] [--without PART]... [--json]\n", stderr);
                return CTL_USAGE;
        }
        if (geteuid() != 0) {
                fputs("Records, the journal and keys are root's to read: run it as root.\n", stderr);
                return CTL_REFUSED;
        }
        return hash_init() < 0 || !b.missing ? CTL_FAILED : run(&b, path);
}
