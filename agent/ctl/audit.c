/* SPDX-License-Identifier: Apache-2.0 */

/* audit verify, audit export: the record of what was done on this host, read from the disk. Only the head that the agent has in memory is asked for. */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent/audit-verify.h"
#include "agent/ctl/client.h"
#include "agent/ctl/ctl.h"
#include "base/text.h"

static int usage(void) {
        fputs("Usage: molecule-agentctl audit verify [--head SEQ:HASH] [--json]\n"
              "       molecule-agentctl audit export [--since TIME] [--json]\n"
              "TIME is as in 2026-01-02T03:04:05Z.\n", stderr);
        return CTL_USAGE;
}

static int not_read(int r, const Fault *why) {
        if (r == -ENOENT)
                fputs("There is no audit record here.\n", stderr);
        else
                fprintf(stderr, "The audit record cannot be read: %s\n", why && why->set ? why->text : strerror(-r));
        return CTL_FAILED;
}

/* ── verify ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What the agent says is the newest; asked for before the files are read, so that it must be in them. */
static size_t ask_agent(AuditHead *ret) {
        _cleanup_client_ Client client = {};
        _cleanup_json_ cJSON *status = NULL;
        Fault why = {};
        const char *head;

        if (client_open(&client) != CTL_OK || client_get(&client, "/v1/status", &status, &why) != CTL_OK)
                return 0;
        head = json_get_string(status, "agent/audit_head");
        ret->whose = "is the running agent's newest";
        return head && audit_head_parse(head, &ret->line) == 0 ? 1 : 0;
}

static int print_json(int r, const AuditVerdict *v, const Fault *why) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        _cleanup_free_ char *head = str_printf("%llu:%s", (unsigned long long) v->last.seq, v->last.hash), *text = NULL;

        if (!json || !head || !json_add_bool(json, "ok", r >= 0) || !json_add_i64(json, "entries", (int64_t) v->entries) ||
            !json_add_i64(json, "first_seq", (int64_t) v->first.seq) || !json_add_string(json, "head", v->entries ? head : NULL) ||
            !json_add_i64(json, "lost", (int64_t) v->lost) || !json_add_string(json, "set_aside", v->aside[0] ? v->aside : NULL) ||
            !json_add_bool(json, "missing", v->missing) ||
            !json_add_string(json, "file", v->file) || !json_add_i64(json, "line", (int64_t) v->line) || !json_add_i64(json, "seq", (int64_t) v->seq) ||
            !json_add_string(json, "reason", r < 0 ? why->text : NULL) || !(text = json_print(json))) {
                fputs("Out of memory.\n", stderr);
                return CTL_FAILED;
        }
        puts(text);
        return r < 0 ? CTL_FAILED : CTL_OK;
}

static int print_words(int r, const AuditVerdict *v, bool given, bool asked, const Fault *why) {
        if (v->file && v->seq)
                printf("%s, line %lu, entry %llu: %s\n", v->file, v->line, (unsigned long long) v->seq, why->text);
        else if (v->file)
                printf("%s, line %lu: %s\n", v->file, v->line, why->text);
        else if (r < 0)
                puts(why->text);
        else
                printf("One chain from entry %llu to %llu:%s%s%s\n", (unsigned long long) v->first.seq, (unsigned long long) v->last.seq, v->last.hash,
                       asked ? ", and the running agent's newest entry is in it" : "",
                       given ? "; what was told of it is in it." : ". Compare it with what the control plane was told: --head SEQ:HASH.");
        if (v->aside[0])
                printf("It took the place of a broken one, which lies in quarantine/%s.\n", v->aside);
        if (v->missing)
                puts("The one before it was not there any more; the entry with `missing` says when that was found.");
        if (v->lost)
                printf("%llu entries could not be written; each `gap` says when.\n", (unsigned long long) v->lost);
        if (v->cut)
                printf("%llu times a line that a crash tore was cut off; each `recovered` says when.\n", (unsigned long long) v->cut);
        return r < 0 ? CTL_FAILED : CTL_OK;
}

static int verify(const AuditLine *given, bool as_json) {
        _cleanup_close_ int state = ctl_open_state();
        AuditHead heads[2] = {};
        AuditVerdict v;
        Fault why = {};
        size_t n = 0;
        int r;

        if (state < 0 || hash_init() < 0)
                return CTL_FAILED;
        if (given)
                heads[n++] = (AuditHead){ *given, "was told" };
        n += ask_agent(&heads[n]);
        r = audit_verify(state, ctl_agent_runs(state), heads, n, &v, &why);
        if (r < 0 && !why.set)
                return not_read(r, NULL);
        return as_json ? print_json(r, &v, &why) : print_words(r, &v, given, n > (given ? 1 : 0), &why);
}

/* ── export ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Lines as they are, so that their hashes can be checked elsewhere, too; what is no JSON is named, not printed. */
static int export_all(uint64_t since) {
        _cleanup_close_ int state = ctl_open_state();
        _cleanup_(audit_reader_close) AuditReader reader = {};
        int n, code = CTL_OK, r;

        if (state < 0)
                return CTL_FAILED;
        r = audit_reader_open(state, &reader);
        if (r < 0)
                return not_read(r, NULL);
        while ((n = audit_reader_next(&reader)) != 0) {
                _cleanup_json_ cJSON *json = NULL;
                const char *at;
                uint64_t when;

                if (n == -EIO)
                        return not_read(n, NULL);
                if (n < 0 || json_parse(reader.text, reader.size, &json, NULL) < 0 || !(at = json_get_string(json, "at")) || time_parse(at, &when) < 0) {
                        fprintf(stderr, "%s, line %lu: It is no entry and is left out; `molecule-agentctl audit verify` says more.\n", reader.file, reader.line);
                        code = CTL_FAILED;
                } else if (when >= since)
                        puts(reader.text);
        }
        if (fflush(stdout) == 0 && !ferror(stdout))
                return code;
        fputs("The entries could not be printed.\n", stderr);
        return CTL_FAILED;
}

/* ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────── */

int ctl_audit(int argc, char **argv) {
        static const struct option options[] = { { "head", required_argument, NULL, 'h' }, { "json", no_argument, NULL, 'j' }, { "since", required_argument, NULL, 's' }, {} };
        const char *head = NULL, *since = NULL;
        bool as_json = false, verifies;
        uint64_t from = 0;
        AuditLine told = {};
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (opt) {
                case 'h': head = optarg; break;
                case 'j': as_json = true; break;
                case 's': since = optarg; break;
                default:  return usage();
                }
        if (optind != argc - 1)
                return usage();
        verifies = strcmp(argv[optind], "verify") == 0;
        if (!verifies && strcmp(argv[optind], "export") != 0)
                return usage();
        if (verifies ? since || (head && audit_head_parse(head, &told) < 0) : head || (since && time_parse(since, &from) < 0))
                return usage();
        return verifies ? verify(head ? &told : NULL, as_json) : export_all(from);
}
