/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/round.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/ctl/ctl.h"
#include "base/text.h"

#define LOOK_USEC    (200 * USEC_PER_MSEC)
#define RESTART_USEC (15 * USEC_PER_SEC) /* a daemon that was restarted is back by then */
#define LISTED_MAX   5                   /* of anything, in words */

typedef struct Found {
        int code;
        Fault why;
        cJSON *progress, *status; /* NULL: not known */
} Found;

static void found_done(Found *f) {
        cJSON_Delete(f->progress);
        cJSON_Delete(f->status);
}

static const char *result_name(int code) {
        static const char *const names[] = {
                [CTL_OK] = "done",
                [CTL_FAILED] = "failed",
                [CTL_NOT_RUNNING] = "not_running",
                [CTL_DEGRADED] = "degraded",
                [CTL_TIMED_OUT] = "timed_out",
                [CTL_REFUSED] = "refused",
                [CTL_TRY_AGAIN] = "try_again",
                [CTL_CONFIG] = "configuration",
        };

        return code >= 0 && (size_t) code < ELEMENTS(names) && names[code] ? names[code] : "failed";
}

/* ── options ─────────────────────────────────────────────────────────────────────────────────────────────────── */

bool round_option(RoundOptions *o, int opt, const char *value) {
        switch (opt) {
        case 'w': o->wait = true; return true;
        case 'j': o->json = true; return true;
        case 't': return u64_parse(value, &o->timeout_seconds) == 0 && o->timeout_seconds > 0 && o->timeout_seconds <= 7 * 86400;
        default: return false;
        }
}

/* ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void take_error(Found *f, const cJSON *error, int code) {
        FaultCode c;

        if (fault_code_find(json_get_string(error, "code") ?: "", &c) < 0)
                c = FAULT_INTERNAL;
        f->code = code;
        (void) fault(&f->why, -EIO, c, "%s", json_get_string(error, "message") ?: "");
}

/* Idle with an error: not enrolled; parked: not again in this boot. Else the error is news only if a request failed since we asked. */
static bool cannot_poll(Found *f, const cJSON *p) {
        const char *state = json_get_string(p, "control/state"), *code = json_get_string(p, "control/error/code");
        bool idle = str_equal(state, "idle"), parked = str_equal(state, "parked");

        if (!code || (!idle && !parked && !json_get_bool(p, "failed", false)))
                return false;
        take_error(f, json_get_path(p, "control/error"), idle ? CTL_CONFIG : parked ? CTL_FAILED
                                                                                    : CTL_TRY_AGAIN);
        return true;
}

/* Whether it is over. */
static bool judge(const Round *r, Found *f) {
        const cJSON *p = f->progress;
        if (r->sync && !json_get_bool(p, "polled", false))
                return cannot_poll(f, p);
        if (json_get_bool(p, "waits_for_release", false)) {
                f->code = CTL_REFUSED;
                (void) fault(&f->why, -EBUSY, FAULT_HELD, "What is to be done waits for the end of a hold: molecule-agentctl release.");
                return true;
        }
        return json_get_bool(p, "idle", false) && (!r->sync || json_get_bool(p, "told", false));
}

static bool is_away(int code) { return code == CTL_NOT_RUNNING || code == CTL_FAILED; }

static void wait_for_end(const Round *r, Found *f) {
        _cleanup_free_ char *path = str_printf("/v1/progress?mark=%s", r->mark);
        uint64_t began = now_boottime(), seen = began;

        while (path) {
                cJSON *progress;
                Fault why = {};
                int code = client_get(r->client, path, &progress, &why);
                uint64_t now = now_boottime();

                if (code == CTL_OK) {
                        cJSON_Delete(f->progress);
                        f->progress = progress;
                        seen = now;
                        if (judge(r, f))
                                return;
                } else if (!is_away(code) || now - seen > RESTART_USEC) {
                        f->code = code;
                        f->why = why;
                        return;
                }
                if (now - began > r->timeout_seconds * USEC_PER_SEC) {
                        f->code = CTL_TIMED_OUT;
                        (void) fault(&f->why, -ETIMEDOUT, FAULT_DEADLINE_EXCEEDED, "Not done after %llu s; the work goes on.",
                                     (unsigned long long) r->timeout_seconds);
                        return;
                }
                (void) nanosleep(&(struct timespec){ .tv_nsec = LOOK_USEC * 1000 }, NULL);
        }
        f->code = CTL_FAILED;
}

/* ── what was found ──────────────────────────────────────────────────────────────────────────────────────────── */

static bool ended_badly(const cJSON *outcome) {
        static const char *const well[] = { "succeeded", "superseded", "cancelled" };
        const char *state = json_get_string(outcome, "state") ?: "";

        for (size_t i = 0; i < ELEMENTS(well); i++)
                if (strcmp(well[i], state) == 0)
                        return false;
        return true;
}

static bool is_well(const cJSON *workspace) { return str_equal(json_get_string(workspace, "status"), "online"); }
static bool is_off_target(const cJSON *workspace) { return json_get_bool(workspace, "pin_skew", false); }

static unsigned count(const cJSON *list, bool (*which)(const cJSON *item)) {
        const cJSON *item;
        unsigned n = 0;

        cJSON_ArrayForEach(item, list)
                n += which(item);
        return n;
}

static void judge_host(Found *f) {
        const cJSON *outcomes = json_get(f->progress, "outcomes"), *workspaces = json_get(f->status, "workspaces");
        unsigned bad = count(outcomes, ended_badly), total = (unsigned) cJSON_GetArraySize(workspaces), off = count(workspaces, is_off_target);
        unsigned down = 0;
        const cJSON *item;

        cJSON_ArrayForEach(item, workspaces)
                down += !is_well(item);
        if (bad) {
                f->code = CTL_FAILED;
                (void) fault(&f->why, -EIO, FAULT_INTERNAL, "%u of %d jobs did not end well.", bad, cJSON_GetArraySize(outcomes));
        } else if (down || off || cJSON_GetArraySize(json_get_path(f->status, "agent/degraded")) > 0) {
                f->code = CTL_DEGRADED;
                (void) fault(&f->why, -EIO, FAULT_INTERNAL, "Of %u workspaces %u are not online, %u do not run what their pin names.", total, down, off);
        }
}

/* ── in words ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void print_outcomes(const cJSON *outcomes) {
        const cJSON *item;
        int listed = 0;

        printf("%d jobs ended, %u of them not well.\n", cJSON_GetArraySize(outcomes), count(outcomes, ended_badly));
        cJSON_ArrayForEach(item, outcomes) if (ended_badly(item) && listed++ < LISTED_MAX)
                printf("  %s %s%s%s: %s: %s\n", json_get_string(item, "type") ?: "job", json_get_string(item, "job_id") ?: "(asked for here)",
                       json_get_string(item, "workspace_id") ? " on workspace " : "", json_get_string(item, "workspace_id") ?: "",
                       json_get_string(item, "error/code") ?: json_get_string(item, "state") ?
                                                                                             : "?",
                       json_get_string(item, "error/message") ?: "");
}

static void print_workspaces(const cJSON *workspaces) {
        const cJSON *item;
        int listed = 0;

        cJSON_ArrayForEach(item, workspaces) if ((!is_well(item) || is_off_target(item)) && listed++ < LISTED_MAX)
                printf("  workspace %s: %s%s%s%s\n", json_get_string(item, "workspace_id"), json_get_string(item, "status"),
                       is_off_target(item) ? ", not what its pin names" : "", json_get_string(item, "last_error/code") ? ": " : "",
                       json_get_string(item, "last_error/code") ?: "");
}

static void print_words(const Found *f) {
        const cJSON *code;

        if (f->progress)
                print_outcomes(json_get(f->progress, "outcomes"));
        print_workspaces(json_get(f->status, "workspaces"));
        cJSON_ArrayForEach(code, json_get_path(f->status, "agent/degraded"))
                printf("  degraded: %s (molecule-agentctl explain %s)\n", code->valuestring, code->valuestring);
        if (f->why.set)
                printf("%s%s%s\n", f->why.code == FAULT_INTERNAL ? "" : fault_code_name(f->why.code), f->why.code == FAULT_INTERNAL ? "" : ": ",
                       f->why.text);
        else
                puts("Done.");
}

/* ── the last line ───────────────────────────────────────────────────────────────────────────────────────────── */

/* Those that ended badly go in front: what does not fit is cut off at the end. */
static cJSON *brief_outcomes(const cJSON *outcomes) {
        cJSON *list = cJSON_CreateArray();
        const cJSON *item;

        for (int bad = 1; list && bad >= 0; bad--)
                cJSON_ArrayForEach(item, outcomes) {
                        cJSON *one;

                        if (ended_badly(item) != (bool) bad)
                                continue;
                        one = cJSON_CreateObject();
                        (void) json_add_string(one, "job_id", json_get_string(item, "job_id"));
                        (void) json_add_string(one, "type", json_get_string(item, "type"));
                        (void) json_add_string(one, "state", json_get_string(item, "state"));
                        if (json_get_string(item, "workspace_id"))
                                (void) json_add_string(one, "workspace_id", json_get_string(item, "workspace_id"));
                        if (json_get_string(item, "error/code"))
                                (void) json_add_string(one, "code", json_get_string(item, "error/code"));
                        (void) cJSON_AddItemToArray(list, one);
                }
        return list;
}

static void add_host(cJSON *line, const cJSON *status) {
        const cJSON *workspaces = json_get(status, "workspaces");
        int total = cJSON_GetArraySize(workspaces);

        (void) json_add_string(line, "host_id", json_get_string(status, "host_id"));
        (void) json_add_string(line, "version", json_get_string(status, "agent/version"));
        (void) json_add_bool(line, "held", json_get_bool(status, "hold/held", false));
        (void) json_add_bool(line, "draining", json_get_bool(status, "hold/draining", false));
        (void) json_add_item(line, "degraded", cJSON_Duplicate(json_get_path(status, "agent/degraded"), true));
        (void) json_add_i64(line, "workspaces", total);
        (void) json_add_i64(line, "online", count(workspaces, is_well));
        (void) json_add_i64(line, "off_target", count(workspaces, is_off_target));
}

static char *last_line(const Found *f) {
        _cleanup_json_ cJSON *line = cJSON_CreateObject();
        const cJSON *all = json_get(f->progress, "outcomes");
        cJSON *outcomes = brief_outcomes(all);
        char *text = NULL;

        (void) json_add_string(line, "result", result_name(f->code));
        (void) json_add_i64(line, "exit", f->code);
        if (f->why.set && f->why.code != FAULT_INTERNAL)
                (void) json_add_string(line, "code", fault_code_name(f->why.code));
        if (f->why.set)
                (void) json_add_string(line, "message", f->why.text);
        if (f->status)
                add_host(line, f->status);
        (void) json_add_i64(line, "jobs_ended", cJSON_GetArraySize(all));
        (void) json_add_item(line, "outcomes", outcomes);
        while ((text = json_print(line)) && strlen(text) > ROUND_LINE_MAX && cJSON_GetArraySize(outcomes) > 0) {
                free(text);
                cJSON_DeleteItemFromArray(outcomes, cJSON_GetArraySize(outcomes) - 1);
        }
        return text;
}

int round_refused(int code, const Fault *why) {
        Found f = { .code = code, .why = *why };
        _cleanup_free_ char *line = last_line(&f);

        puts(line ?: "{}");
        return client_say(code, why);
}

int round_watch(const Round *r) {
        _cleanup_(found_done) Found f = {};
        _cleanup_free_ char *line = NULL;
        Fault why = {};

        wait_for_end(r, &f);
        if (f.code != CTL_NOT_RUNNING)
                (void) client_get(r->client, "/v1/status", &f.status, &why);
        if (f.code == CTL_OK)
                judge_host(&f);
        if (!r->json)
                print_words(&f);
        line = last_line(&f);
        puts(line ?: "{}");
        return f.code;
}
