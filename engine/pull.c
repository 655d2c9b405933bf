/* SPDX-License-Identifier: Apache-2.0 */

/* The stream a pull answers with, and what its words mean.
 *
 * The status of a pull says next to nothing: a registry that cannot be reached may be a 500 at once or a 200 with the error as its last
 * line. So the stream is read to its end, line by line, in a buffer of fixed size; its layers are counted in a table of fixed size.
 * Registries speak through the engine in plain English only, hence the table of phrases: the one place that knows them. */

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "engine/engine-json.h"
#include "engine/lines.h"

static void error_set(PullProgress *p, const char *words) {
        p->failed = true;
        if (!p->error[0])
                (void) snprintf(p->error, sizeof p->error, "%s", words && words[0] ? words : "the engine gave no reason");
}

static void step(PullProgress *p) {
        p->ticks++;
        p->steps++;
}

static void sum(PullProgress *p) {
        uint64_t bytes = 0, total = 0;

        for (size_t i = 0; i < p->n_layers; i++) {
                bytes += p->layers[i].current;
                total += p->layers[i].total;
        }
        if (bytes > p->bytes)
                p->ticks++;
        p->bytes = bytes;
        p->total = total;
}

/* The layer's place; -1 when the table is full (its bytes go uncounted). */
static ssize_t layer_find(PullProgress *p, const char *id) {
        for (size_t i = 0; i < p->n_layers; i++)
                if (strncmp(p->layers[i].id, id, sizeof p->layers[i].id - 1) == 0)
                        return (ssize_t) i;
        if (p->n_layers == ELEMENTS(p->layers))
                return -1;
        (void) snprintf(p->layers[p->n_layers].id, sizeof p->layers[0].id, "%s", id);
        return (ssize_t) p->n_layers++;
}

static void layer_moved(PullProgress *p, const char *id, bool extracting, uint64_t current, uint64_t total) {
        ssize_t i = layer_find(p, id);

        if (i < 0) {
                p->ticks++;
                return;
        }
        if (!extracting) {
                if (p->layers[i].extracting)
                        return;
                p->layers[i].current = current;
                p->layers[i].total = total > current ? total : current;
                sum(p);
                return;
        }
        if (!p->layers[i].extracting) {
                p->layers[i].extracting = true;
                p->layers[i].current = p->layers[i].total;      /* all of it was downloaded */
                sum(p);
        }
        step(p);
}

static void layer_complete(PullProgress *p, const char *id) {
        ssize_t i = layer_find(p, id);

        if (i >= 0)
                p->layers[i].current = p->layers[i].total;
        sum(p);
        step(p);
}

static void on_line(const char *line, size_t size, void *userdata) {
        static const char *const done_words[] = { "Verifying Checksum", "Download complete", "Pull complete", "Already exists" };
        _cleanup_json_ cJSON *json = NULL;
        PullProgress *p = userdata;
        const char *status, *id;
        int64_t current, total;

        if (size == 0 || json_parse(line, size, &json, NULL) < 0)
                return;
        if (json_get(json, "errorDetail") || json_get(json, "error")) {
                error_set(p, json_get_string(json, "errorDetail/message") ?: json_get_string(json, "error"));
                return;
        }
        status = json_get_string(json, "status");
        id = json_get_string(json, "id");
        if (!status || !id)
                return;
        current = json_get_i64(json, "progressDetail/current", 0);
        total = json_get_i64(json, "progressDetail/total", 0);
        if (str_equal(status, "Downloading") || str_equal(status, "Extracting"))
                layer_moved(p, id, status[0] == 'E', current > 0 ? (uint64_t) current : 0, total > 0 ? (uint64_t) total : 0);
        else
                for (size_t i = 0; i < ELEMENTS(done_words); i++)
                        if (str_equal(status, done_words[i]))
                                layer_complete(p, id);
}

static LineCut line_cut(PullProgress *p) {
        return (LineCut) {
                .line = p->line, .max = sizeof p->line, .used = &p->used, .skipping = &p->skipping, .fn = on_line, .userdata = p,
        };
}

void pull_progress_feed(PullProgress *p, const void *data, size_t size) {
        const LineCut cut = line_cut(p);

        lines_feed(&cut, data, size);
}

void pull_progress_end(PullProgress *p) {
        const LineCut cut = line_cut(p);

        lines_end(&cut);
}

FaultCode pull_error_classify(long status, const char *words) {
        static const struct { const char *phrase; FaultCode code; } phrases[] = {       /* the first that is found wins */
                { "no space left on device",            FAULT_NO_SPACE },
                { "disk quota exceeded",                FAULT_NO_SPACE },
                { "toomanyrequests",                    FAULT_IMAGE_RATE_LIMITED },
                { "too many requests",                  FAULT_IMAGE_RATE_LIMITED },
                { "rate limit",                         FAULT_IMAGE_RATE_LIMITED },
                { "status: 429",                        FAULT_IMAGE_RATE_LIMITED },
                { "unauthorized",                       FAULT_IMAGE_AUTH },
                { "authentication required",            FAULT_IMAGE_AUTH },
                { "no basic auth credentials",          FAULT_IMAGE_AUTH },
                { "authorization failed",               FAULT_IMAGE_AUTH },
                { "access denied",                      FAULT_IMAGE_AUTH },
                { "access forbidden",                   FAULT_IMAGE_AUTH },
                { "requested access to the resource",   FAULT_IMAGE_AUTH },
                { "denied:",                            FAULT_IMAGE_AUTH },
                { "status: 401",                        FAULT_IMAGE_AUTH },
                { "status: 403",                        FAULT_IMAGE_AUTH },
                { "manifest unknown",                   FAULT_IMAGE_NOT_FOUND },
                { "name unknown",                       FAULT_IMAGE_NOT_FOUND },
                { "manifest for ",                      FAULT_IMAGE_NOT_FOUND },        /* "… not found" */
                { "repository does not exist",          FAULT_IMAGE_NOT_FOUND },
                { "no matching manifest",               FAULT_IMAGE_NOT_FOUND },
                { "verification failed for digest",     FAULT_IMAGE_DIGEST_MISMATCH },
                { "filesystem layer verification failed", FAULT_IMAGE_DIGEST_MISMATCH },
                { "manifest verification failed",       FAULT_IMAGE_DIGEST_MISMATCH },
                { "failed precondition",                FAULT_IMAGE_DIGEST_MISMATCH },
                { "unexpected commit digest",           FAULT_IMAGE_DIGEST_MISMATCH },
                { "connection refused",                 FAULT_IMAGE_UNREACHABLE },
                { "connection reset",                   FAULT_IMAGE_UNREACHABLE },
                { "no such host",                       FAULT_IMAGE_UNREACHABLE },
                { "server misbehaving",                 FAULT_IMAGE_UNREACHABLE },
                { "no route to host",                   FAULT_IMAGE_UNREACHABLE },
                { "network is unreachable",             FAULT_IMAGE_UNREACHABLE },
                { "i/o timeout",                        FAULT_IMAGE_UNREACHABLE },
                { "timeout",                            FAULT_IMAGE_UNREACHABLE },
                { "deadline exceeded",                  FAULT_IMAGE_UNREACHABLE },
                { "request canceled",                   FAULT_IMAGE_UNREACHABLE },
                { "broken pipe",                        FAULT_IMAGE_UNREACHABLE },
                { "unexpected EOF",                     FAULT_IMAGE_UNREACHABLE },
                { ": EOF",                              FAULT_IMAGE_UNREACHABLE },
                { "x509:",                              FAULT_IMAGE_UNREACHABLE },
                { "tls:",                               FAULT_IMAGE_UNREACHABLE },
                { "received unexpected HTTP status: 5", FAULT_IMAGE_UNREACHABLE },
                { "bad gateway",                        FAULT_IMAGE_UNREACHABLE },
                { "service unavailable",                FAULT_IMAGE_UNREACHABLE },
                { "not found",                          FAULT_IMAGE_NOT_FOUND },
        };

        for (size_t i = 0; words && i < ELEMENTS(phrases); i++)
                if (strcasestr(words, phrases[i].phrase))
                        return phrases[i].code;
        return status == 404 ? FAULT_IMAGE_NOT_FOUND : status == 401 || status == 403 ? FAULT_IMAGE_AUTH :
               status == 429 ? FAULT_IMAGE_RATE_LIMITED : FAULT_ENGINE_ERROR;
}
