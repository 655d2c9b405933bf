/* SPDX-License-Identifier: Apache-2.0 */

/* The table of codes, for a person: one code, what is wrong with one workspace or job, or all codes as docs/errors.md is made. */

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/answer.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/ids.h"
#include "agent/ctl/term.h"
#include "base/fault.h"

static void explain(FaultCode c) {
        printf("%s (%s)\n  %s\n  What to do: %s\n", fault_code_name(c), fault_code_retryable(c) ? "passing, may be tried again" : "final",
               fault_code_meaning(c), fault_code_advice(c));
}

static cJSON *code_item(FaultCode c) {
        cJSON *item = answer_item("code", fault_code_name(c), "meaning", fault_code_meaning(c), "advice", fault_code_advice(c));

        if (item && json_add_bool(item, "retryable", fault_code_retryable(c)))
                return item;
        cJSON_Delete(item);
        return NULL;
}

static int print_json(cJSON *json) {
        _cleanup_json_ cJSON *owned = json;
        return client_print(owned);
}

static int all_as_json(void) {
        cJSON *list = cJSON_CreateArray();

        for (int c = 0; list && c < _FAULT_CODE_MAX; c++)
                if (!cJSON_AddItemToArray(list, code_item((FaultCode) c))) {
                        cJSON_Delete(list);
                        list = NULL;
                }
        return print_json(list);
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

/* The item as the agent has it, with what its code means. */
static int item_as_json(const cJSON *item, const char *code) {
        cJSON *copy = cJSON_Duplicate(item, true);
        FaultCode c;

        if (copy && !json_add_item(copy, "explanation", code && fault_code_find(code, &c) == 0 ? code_item(c) : cJSON_CreateNull())) {
                cJSON_Delete(copy);
                copy = NULL;
        }
        return print_json(copy);
}

static int explain_id(const char *given, bool json) {
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
        w = json_find(json_get(workspaces, "workspaces"), "workspace_id", id);
        j = json_find(json_get(jobs, "jobs"), "job_id", id) ?: json_find(json_get(jobs, "outcomes"), "job_id", id);
        if (json && (w || j))
                return item_as_json(w ?: j, json_get_string(w ?: j, w ? "last_error/code" : "error/code"));
        if (w || j)
                return w ? explain_workspace(w) : explain_job(j);
        fprintf(stderr, "This host knows no workspace and no job %s.\n", id);
        return CTL_FAILED;
}

static int explain_all(bool json, bool as_table) {
        if (json)
                return all_as_json();
        if (as_table)
                markdown();
        else
                for (int c = 0; c < _FAULT_CODE_MAX; c++)
                        explain((FaultCode) c);
        return CTL_OK;
}

static int explain_code(FaultCode c, bool json) {
        if (json)
                return print_json(code_item(c));
        explain(c);
        return CTL_OK;
}

int ctl_explain(int argc, char **argv) {
        int all = 0, as_table = 0, json = 0, opt;
        const struct option options[] = {
                { "all", no_argument, &all, 1 }, { "markdown", no_argument, &as_table, 1 }, { "json", no_argument, &json, 1 }, {}
        };
        FaultCode c;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) == 0)
                ;
        if (opt != -1 || argc - optind != !all || (as_table && (json || !all))) {
                fputs("Usage: molecule-agentctl explain CODE | WORKSPACE | JOB [--json]\n"
                      "       molecule-agentctl explain --all [--markdown | --json]\n", stderr);
                return CTL_USAGE;
        }
        if (all)
                return explain_all(json, as_table);
        if (fault_code_find(argv[optind], &c) == 0)
                return explain_code(c, json);
        if (id_is_likely(argv[optind]))
                return explain_id(argv[optind], json);
        fprintf(stderr, "There is no error code '%s'; `molecule-agentctl explain --all` lists them.\n", argv[optind]);
        return CTL_FAILED;
}
