/* SPDX-License-Identifier: Apache-2.0 */

/* status: line 1 is the verdict, then what is not well with the command to run next. For somebody who was woken up. */

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/ctl/answer.h"
#include "agent/ctl/client.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/term.h"
#include "base/text.h"

typedef struct Tally { unsigned all, down, degraded, at_work; } Tally;

/* prefix and the age of a time in the object; nothing where there is none. */
static void print_since(const char *prefix, const cJSON *json) {
        char age[TERM_TEXT_SIZE];

        if (term_age_of(json_get_string(json, "since"), age))
                printf("%s%s", prefix, age);
}

static void print_next_try(const char *prefix, const cJSON *json) {
        int64_t seconds = json_get_i64(json, "next_try_seconds", 0);
        char age[TERM_TEXT_SIZE];

        if (seconds > 0)
                printf("%s%s", prefix, term_age((uint64_t) seconds, age));
}

static bool is_state(const cJSON *workspace, const char *state) { return str_equal(json_get_string(workspace, "status"), state); }
static bool is_well(const cJSON *workspace) { return !is_state(workspace, "failed") && !is_state(workspace, "degraded"); }

static Tally count(const cJSON *workspaces) {
        const cJSON *w;
        Tally t = {};

        cJSON_ArrayForEach(w, workspaces) {
                t.all++;
                t.down += is_state(w, "failed");
                t.degraded += is_state(w, "degraded");
                t.at_work += is_state(w, "provisioning");
        }
        return t;
}

/* The words of a hold, of the host (NULL) or of one workspace; NULL: there is none. */
static const cJSON *hold_of(const cJSON *status, const char *workspace_id) {
        return json_find(json_get_path(status, "hold/holds"), "workspace_id", workspace_id);
}

/* ── the verdict ─────────────────────────────────────────────────────────────────────────────────────────────── */

static void print_workspaces(const Tally *t) {
        const char *s = t->all == 1 ? "" : "s";

        if (t->down)
                printf("%u of %u workspace%s down", t->down, t->all, s);
        if (t->down && t->degraded)
                printf(", %u degraded", t->degraded);
        else if (t->degraded)
                printf("%u of %u workspace%s degraded", t->degraded, t->all, s);
        else if (!t->down)
                printf("%u workspace%s, none down", t->all, s);
        if (t->at_work)
                printf(", %u at work", t->at_work);
}

static void print_control(const cJSON *control) {
        const char *code = json_get_string(control, "error/code"), *state = json_get_string(control, "state");

        if (!code) {
                printf("; CP %s", str_equal(state, "polling") ? "answers" : state ?: "unknown");
                return;
        }
        fputs("; no CP", stdout);
        print_since(" for ", control);
        printf(" (%s)", code);
        print_next_try(", next try ", control);
}

static void print_hold(const cJSON *status) {
        const cJSON *hold = hold_of(status, NULL);

        if (!json_get_bool(status, "hold/held", false))
                fputs("; held: no", stdout);
        else
                printf("; held: yes (%s)", json_get_bool(status, "hold/hold_file", false) ? "the hold file is there" :
                                                                                           json_get_string(hold, "reason") ?: "no reason given");
        if (json_get_bool(status, "hold/draining", false))
                fputs("; draining", stdout);
        if (json_get_bool(status, "hold/torn_down", false))
                fputs("; torn down", stdout);
}

/* ── what is not well ────────────────────────────────────────────────────────────────────────────────────────── */

static void print_error(const char *code, const char *words) {
        if (words)
                printf("      %s\n", words);
        if (code)
                printf("      next: molecule-agentctl explain %s\n", code);
}

static void print_workspace(const cJSON *status, const cJSON *w) {
        const char *id = json_get_string(w, "workspace_id"), *code = json_get_string(w, "last_error/code");
        const cJSON *hold = hold_of(status, id);

        printf("  %s%-12s%s %s  %s", term_on(term_tone(json_get_string(w, "status"))), json_get_string(w, "status") ?: "", term_off(), id ?: "",
               json_get_string(w, "runtime") ?: "");
        if (!is_well(w)) {
                if (code)
                        printf("  %s", code);
                print_since("  since ", w);
                print_next_try("  next try ", w);
        }
        putchar('\n');
        if (hold)
                printf("      held: %s\n      next: molecule-agentctl release %s\n", json_get_string(hold, "reason") ?: "", id);
        if (is_well(w))
                return;
        if (code)
                print_error(code, json_get_string(w, "last_error/message"));
        else
                printf("      next: molecule-agentctl logs %.8s --tail 50\n", id);
}

static void print_agent(const cJSON *status) {
        const cJSON *code;

        cJSON_ArrayForEach(code, json_get_path(status, "agent/degraded"))
                if (cJSON_IsString(code)) {
                        printf("  degraded     %s\n", code->valuestring);
                        print_error(code->valuestring, NULL);
                }
        if (json_get_string(status, "control/error/code")) {
                fputs("  control plane\n", stdout);
                print_error(json_get_string(status, "control/error/code"), json_get_string(status, "control/error/message"));
        }
        if (json_get_bool(status, "hold/hold_file", false))
                fputs("  held         by a file: rm /etc/molecule-agent/hold\n", stdout);
        else if (json_get_bool(status, "hold/held", false))
                fputs("  held         next: molecule-agentctl release\n", stdout);
}

static bool all_is_well(const cJSON *status, const Tally *t) {
        return !t->down && !t->degraded && !json_get_string(status, "control/error/code") &&
               cJSON_GetArraySize(json_get_path(status, "agent/degraded")) == 0;
}

/* Before the first answer of a control plane nothing is known to be well. */
static bool is_starting(const cJSON *status) {
        return !json_get_string(status, "control/error/code") && !str_equal(json_get_string(status, "control/state"), "polling");
}

static void show(const cJSON *status, const Tally *t, bool all) {
        const cJSON *workspaces = json_get(status, "workspaces"), *w;

        bool well = all_is_well(status, t), starting = well && is_starting(status);

        printf("%s%s%s: ", term_on(starting ? TONE_WARN : well ? TONE_GOOD : TONE_BAD), starting ? "STARTING" : well ? "HEALTHY" : "DEGRADED", term_off());
        print_workspaces(t);
        print_control(json_get(status, "control"));
        print_hold(status);
        putchar('\n');
        print_agent(status);
        cJSON_ArrayForEach(w, workspaces)
                if (all || !is_well(w) || hold_of(status, json_get_string(w, "workspace_id")))
                        print_workspace(status, w);
}

static int answer(const cJSON *status, bool all, bool json) {
        Tally t = count(json_get(status, "workspaces"));

        if (!json)
                show(status, &t, all);
        else if (client_print(status) != CTL_OK)
                return CTL_FAILED;
        return all_is_well(status, &t) && !is_starting(status) ? CTL_OK : CTL_DEGRADED;
}

static int usage(void) {
        fputs("Usage: molecule-agentctl status [--all] [--json]\n", stderr);
        return CTL_USAGE;
}

int ctl_status(int argc, char **argv) {
        static const struct option options[] = { { "all", no_argument, NULL, 'a' }, { "json", no_argument, NULL, 'j' }, {} };
        _cleanup_client_ Client client = {};
        _cleanup_json_ cJSON *status = NULL;
        bool all = false, json = false;
        Fault why = {};
        int opt, code;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                all |= opt == 'a';
                json |= opt == 'j';
                if (opt == '?')
                        return usage();
        }
        if (optind != argc)
                return usage();
        code = client_open(&client);
        if (code != CTL_OK)
                return code;
        code = client_get(&client, "/v1/status", &status, &why);
        if (code == CTL_OK)
                return answer(status, all, json);
        answer_as_json(json);
        if (code == CTL_NOT_RUNNING && geteuid() == 0)
                return records_show();
        return client_say(code, &why);
}
