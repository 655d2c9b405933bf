/* SPDX-License-Identifier: Apache-2.0 */

/* apply: one job from a file, without a control plane, judged and done as one that was delivered. */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/ctl.h"
#include "agent/ctl/round.h"
#include "base/file.h"
#include "base/text.h"
#include "provision/job.h"

static int usage(void) {
        fputs("Usage: molecule-agentctl apply FILE [--reason TEXT] [--dry-run] [--wait] [--timeout SECONDS] [--json]\n", stderr);
        return CTL_USAGE;
}

/* What the agent says of the job at once. */
static int judge(const cJSON *report, bool dry_run, bool json) {
        const char *state = json_get_string(report, "state") ?: "?", *code = json_get_string(report, "error/code");
        bool accepted = strcmp(state, "accepted") == 0, well = accepted || strcmp(state, "running") == 0 || strcmp(state, "succeeded") == 0;
        _cleanup_free_ char *line = json_print(report);

        if (!json)
                printf("%s %s: %s%s%s%s%s\n", json_get_string(report, "type") ?: "job", json_get_string(report, "job_id") ?: "?",
                       dry_run && accepted ? "would be accepted" : state, code ? ": " : "", code ?: "",
                       json_get_string(report, "error/message") ? ": " : "", json_get_string(report, "error/message") ?: "");
        else
                puts(line ?: "{}");
        return well ? CTL_OK : code && (strcmp(code, "held") == 0 || strcmp(code, "draining") == 0) ? CTL_REFUSED
                                                                                                    : CTL_FAILED;
}

/* Each byte that is no letter or digit as %XX. */
static char *path_with(bool dry_run, const char *reason) {
        char encoded[3 * JOB_REASON_MAX + 1] = "";
        size_t at = 0;

        for (const char *c = reason ?: ""; *c; c++)
                if ((*c >= '0' && *c <= '9') || ((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z'))
                        encoded[at++] = *c;
                else
                        at += (size_t) snprintf(encoded + at, sizeof encoded - at, "%%%02X", (unsigned) (unsigned char) *c);
        encoded[at] = 0;
        return str_printf("/v1/apply?dry_run=%s%s%s", dry_run ? "true" : "false", reason ? "&reason=" : "", encoded);
}

static int run(Client *client, const char *body, size_t size, bool dry_run, const char *reason, const RoundOptions *o) {
        _cleanup_free_ char *path = path_with(dry_run, reason);
        _cleanup_json_ cJSON *answer = NULL;
        const cJSON *report;
        Fault why = {};
        int code = path ? client_post(client, path, body, size, &answer, &why) : CTL_FAILED;
        Round r = { .client = client, .json = o->json, .timeout_seconds = o->timeout_seconds };

        if (code != CTL_OK)
                return round_refused(code, &why);
        report = json_get(answer, "report");
        code = judge(report, dry_run, o->json && !o->wait);
        if (code != CTL_OK || dry_run || !o->wait)
                return code;
        r.mark = json_get_string(answer, "mark");
        return round_watch(&r);
}

int ctl_apply(int argc, char **argv) {
        static const struct option options[] = { ROUND_LONG_OPTIONS, { "dry-run", no_argument, NULL, 'd' }, { "reason", required_argument, NULL, 'r' }, {} };
        const char *reason = NULL;
        RoundOptions o = ROUND_OPTIONS_INIT;
        _cleanup_free_ char *body = NULL;
        bool dry_run = false;
        _cleanup_client_ Client client = {};
        size_t size;
        int opt, code;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                if (opt == 'd')
                        dry_run = true;
                else if (opt == 'r')
                        reason = optarg;
                else if (!round_option(&o, opt, optarg))
                        return usage();
        if (optind + 1 != argc || (reason && strlen(reason) > JOB_REASON_MAX))
                return usage();
        code = file_read_path(argv[optind], JOB_BODY_MAX, &body, &size);
        if (code < 0) {
                fprintf(stderr, "Cannot read %s: %s\n", argv[optind], code == -EFBIG ? "it is larger than 32 MiB" : strerror(-code));
                return CTL_FAILED;
        }
        code = client_open(&client);
        return code == CTL_OK ? run(&client, body, size, dry_run, reason, &o) : code;
}
