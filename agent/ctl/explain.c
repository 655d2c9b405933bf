/* SPDX-License-Identifier: Apache-2.0 */

/* The table of codes, for a person: one code, what is wrong with one workspace or job, or all codes as docs/errors.md is made. */

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/ctl.h"
#include "agent/ctl/ids.h"
#include "agent/ctl/term.h"
#include "base/fault.h"

static void explain(FaultCode c) {
        printf("%s (%s)\n  %s\n  What to do: %s\n", fault_code_name(c), fault_code_retryable(c) ? "passing, may be tried again" : "final",
               fault_code_meaning(c), fault_code_advice(c));
}

static void markdown(void) {
        puts("# Error codes\n\n"
             "Every failure leaves the agent with one of these codes and a sentence: in reports, health, the journal "
             "(`MOLECULE_ERROR_CODE=`) and on the\n"
             "terminal. Codes are stable: never renamed, never reused. *Retryable* means that the trouble may pass and the same work, sent "
             "as a new\n"
             "job, may succeed. This page is printed by `molecule-agentctl explain --all --markdown`.\n\n"
             "| code | retryable | meaning | what to do |\n|---|---|---|---|");
        for (int c = 0; c < _FAULT_CODE_MAX; c++)
                printf("| `%s` | %s | %s | %s |\n", fault_code_name((FaultCode) c), fault_code_retryable((FaultCode) c) ? "yes" : "no",
                       fault_code_meaning((FaultCode) c), fault_code_advice((FaultCode) c));
}

/* Said of an item: what is known, and what its code means. */
static void explain_item(const cJSON *item, const char *code, const char *words) {
        FaultCode c;

        if (words)
                printf("  %s\n", words);
        if (code && fault_code_find(code, &c) == 0)
                explain(c);
        else if (json_get_string(item, "error/message"))
                printf("  %s\n", json_get_string(item, "error/message"));
}

static const cJSON *find(const cJSON *list, const char *member, const char *id) {
        const cJSON *item;

        cJSON_ArrayForEach(item, list)
                if (str_equal(json_get_string(item, member), id))
                        return item;
        return NULL;
}

static int explain_workspace(const cJSON *w) {
        const char *status = json_get_string(w, "status"), *code = json_get_string(w, "last_error/code");
        char age[TERM_TEXT_SIZE];

        bool dated = term_age_of(json_get_string(w, "since"), age);

        printf("Workspace %s is %s%s%s.\n", json_get_string(w, "workspace_id"), status ?: "?", dated ? " for " : "", age);
        if (code)
                explain_item(w, code, json_get_string(w, "last_error/message"));
        else
                puts("  Nothing is known to be wrong with it.");
        return CTL_OK;
}

static int explain_job(const cJSON *j) {
        const char *code = json_get_string(j, "error/code"), *stage = json_get_string(j, "stage");

        printf("Job %s (%s) is %s%s%s.\n", json_get_string(j, "job_id"), json_get_string(j, "type") ?: "?", json_get_string(j, "state") ?: "?",
               stage ? ", " : "", stage ?: "");
        explain_item(j, code, json_get_string(j, "message"));
        return CTL_OK;
}

static int explain_id(const char *given) {
        _cleanup_client_ Client client = {};
        _cleanup_json_ cJSON *workspaces = NULL, *jobs = NULL;
        char id[UUID_SIZE];
        const cJSON *w, *j;
        Fault why = {};
        int code = client_open(&client);

        if (code == CTL_OK)
                code = client_get(&client, "/v1/workspaces", &workspaces, &why);
        if (code == CTL_OK)
                code = client_get(&client, "/v1/jobs?tail=1000", &jobs, &why);
        if (code != CTL_OK)
                return client_say(code, &why);
        code = id_find(&client, id_among(given, json_get(workspaces, "workspaces"), "workspace_id") ? ID_WORKSPACE : ID_JOB, given, id);
        if (code != CTL_OK)
                return code;
        w = find(json_get(workspaces, "workspaces"), "workspace_id", id);
        j = find(json_get(jobs, "jobs"), "job_id", id) ?: find(json_get(jobs, "outcomes"), "job_id", id);
        if (w || j)
                return w ? explain_workspace(w) : explain_job(j);
        fprintf(stderr, "This host knows no workspace and no job %s.\n", id);
        return CTL_FAILED;
}

int ctl_explain(int argc, char **argv) {
        FaultCode c;

        if (argc == 3 && strcmp(argv[1], "--all") == 0 && strcmp(argv[2], "--markdown") == 0) {
                markdown();
                return CTL_OK;
        }
        if (argc == 2 && strcmp(argv[1], "--all") == 0) {
                for (int i = 0; i < _FAULT_CODE_MAX; i++)
                        explain((FaultCode) i);
                return CTL_OK;
        }
        if (argc != 2) {
                fputs("Usage: molecule-agentctl explain CODE | WORKSPACE | JOB | --all [--markdown]\n", stderr);
                return CTL_USAGE;
        }
        if (fault_code_find(argv[1], &c) < 0 && id_is_likely(argv[1]))
                return explain_id(argv[1]);
        if (fault_code_find(argv[1], &c) < 0) {
                fprintf(stderr, "There is no error code '%s'; `molecule-agentctl explain --all` lists them.\n", argv[1]);
                return CTL_FAILED;
        }
        explain(c);
        return CTL_OK;
}
