/* SPDX-License-Identifier: Apache-2.0 */

/* The table of codes, for a person: one code, or all of them as docs/errors.md is made. */

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/ctl.h"
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
                fputs("Usage: molecule-agentctl explain CODE | --all [--markdown]\n", stderr);
                return CTL_USAGE;
        }
        if (fault_code_find(argv[1], &c) < 0) {
                fprintf(stderr, "There is no error code '%s'; `molecule-agentctl explain --all` lists them.\n", argv[1]);
                return CTL_FAILED;
        }
        explain(c);
        return CTL_OK;
}
