/* SPDX-License-Identifier: Apache-2.0 */

/* doctor: looks at this host as an operator would, changes nothing, and says of each thing that it is in order, or why not and what to do. Here are the table
 * of checks, their rounds, and how they are printed. */

#include "agent/ctl/doctor.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/ctl/client.h"
#include "agent/ctl/creds.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/term.h"
#include "base/hash.h"
#include "base/text.h"

#define WAIT_MAX       86400
#define ROUND_USEC     (7 * USEC_PER_SEC)
#define PATIENCE_LEAST (500 * USEC_PER_MSEC)

static const struct { const char *word, *json; } verdicts[_VERDICT_MAX] = {
        [FINE]     = { "ok",      "ok"       },
        [WARNING]  = { "warning", "warning"  },
        [BAD]      = { "failed",  "failed"   },
        [NOT_HERE] = { "-",       "not_here" },
};

/* In this order: later ones use what earlier ones found out. */
static const struct { const char *name; Verdict (*look)(Doctor *d); } checks[] = {
        { "configuration", look_configuration },
        { "credentials",   look_credentials },
        { "identity",      look_identity },
        { "metadata",      look_metadata },
        { "hop limit",     look_hop_limit },
        { "user-data",     look_user_data },
        { "proxy",         look_proxy },
        { "control plane", look_control_plane },
        { "certificate",   look_certificate },
        { "clock",         look_clock },
        { "organization",  look_organization },
        { "engine",        look_engine },
        { "live-restore",  look_live_restore },
        { "cgroups",       look_cgroups },
        { "disk",          look_disk },
        { "inodes",        look_inodes },
        { "ballast",       look_ballast },
        { "runtime",       look_runtime },
        { "swap",          look_swap },
        { "unit",          look_unit },
        { "agent",         look_agent },
        { "memory lock",   look_memory },
        { "session",       look_session },
        { "pins",          look_pins },
        { "outbox",        look_outbox },
        { "held",          look_held },
};

/* One round over all checks: what each came to. */
typedef struct Finding { Verdict verdict; char code[48], words[400]; } Finding;

typedef struct Round {
        Finding  found[ELEMENTS(checks)];
        unsigned count[_VERDICT_MAX];
} Round;

typedef struct Words {
        const char *store;
        uint64_t    wait;
        bool        waits, json;
} Words;

/* ── for the checks ──────────────────────────────────────────────────────────────────────────────────────────── */

static Verdict speak(Doctor *d, Verdict v, const char *code, const char *format, va_list ap) __attribute__((format(printf, 4, 0)));

static Verdict speak(Doctor *d, Verdict v, const char *code, const char *format, va_list ap) {
        d->code = code;
        (void) vsnprintf(d->words, sizeof d->words, format, ap);
        text_make_printable(d->words);          /* some of it others have said */
        return v;
}

Verdict say(Doctor *d, Verdict v, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        v = speak(d, v, NULL, format, ap);
        va_end(ap);
        return v;
}

Verdict blame(Doctor *d, Verdict v, const char *code, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        v = speak(d, v, code, format, ap);
        va_end(ap);
        return v;
}

uint64_t doctor_patience(const Doctor *d, uint64_t usec) {
        uint64_t now = now_boottime(), left = d->until > now + PATIENCE_LEAST ? d->until - now : PATIENCE_LEAST;

        return usec < left ? usec : left;
}

const char *doctor_state_directory(void) { return getenv("STATE_DIRECTORY") ?: "/var/lib/molecule-agent"; }
const char *doctor_runtime_directory(void) { return getenv("RUNTIME_DIRECTORY") ?: "/run/molecule-agent"; }

/* ── rounds ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void doctor_done(Doctor *d) {
        imds_close(&d->imds);
        config_free(d->config);
        engine_info_done(&d->engine);
        cJSON_Delete(d->status);
}

static void make_round(const Words *w, Round *ret) {
        _cleanup_(doctor_done) Doctor d = { .store = w->store, .until = now_boottime() + ROUND_USEC };

        *ret = (Round) {};
        (void) config_load(NULL, false, &d.config, &d.config_fault);
        for (size_t i = 0; i < ELEMENTS(checks); i++) {
                Finding *f = &ret->found[i];

                f->verdict = checks[i].look(&d);
                (void) snprintf(f->code, sizeof f->code, "%s", d.code ?: "");
                (void) snprintf(f->words, sizeof f->words, "%s", d.words);
                ret->count[f->verdict]++;
        }
}

/* Until nothing has failed; false where the time was over before. */
static bool wait_rounds(const Words *w, Round *ret) {
        uint64_t until = now_boottime() + w->wait * USEC_PER_SEC;

        for (;;) {
                make_round(w, ret);
                if (ret->count[BAD] == 0)
                        return true;
                if (!w->waits || now_boottime() >= until)
                        return false;
                (void) nanosleep(&(struct timespec) { .tv_sec = 1 }, NULL);
        }
}

/* ── printing ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void print(const Round *r) {
        for (size_t i = 0; i < ELEMENTS(checks); i++) {
                const char *word = verdicts[r->found[i].verdict].word;

                printf("%s%-8s%s %-14s %s\n", term_on(term_tone(word)), word, term_off(), checks[i].name, r->found[i].words);
        }
        if (r->count[BAD] + r->count[WARNING] == 0)
                puts("Nothing is wrong.");
        else
                printf("%u failed, %u warnings.\n", r->count[BAD], r->count[WARNING]);
}

static cJSON *finding_view(const char *name, const Finding *f) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        return json && json_add_string(json, "name", name) && json_add_string(json, "verdict", verdicts[f->verdict].json) &&
               json_add_string(json, "why", f->words) && (!f->code[0] || json_add_string(json, "code", f->code)) ? TAKE_PTR(json) : NULL;
}

static int print_json(const Round *r) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject(), *list = cJSON_CreateArray();
        bool good = json && list;

        for (size_t i = 0; good && i < ELEMENTS(checks); i++) {
                cJSON *one = finding_view(checks[i].name, &r->found[i]);

                good = one && cJSON_AddItemToArray(list, one);
        }
        good = good && json_add_item(json, "checks", TAKE_PTR(list));
        for (size_t i = 0; good && i < _VERDICT_MAX; i++)
                good = json_add_i64(json, verdicts[i].json, r->count[i]);
        return client_print(good ? json : NULL);
}

static int answer(const Words *w, const Round *r, bool well) {
        if (!w->json)
                print(r);
        else if (print_json(r) != CTL_OK)
                return CTL_FAILED;
        if (!well)
                return w->waits ? CTL_TIMED_OUT : CTL_FAILED;
        return r->count[WARNING] ? CTL_DEGRADED : CTL_OK;
}

/* ── the verb ────────────────────────────────────────────────────────────────────────────────────────────────── */

static int usage(void) {
        fputs("Usage: molecule-agentctl doctor [--wait SECONDS] [--json] [--credstore DIRECTORY]\n", stderr);
        return CTL_USAGE;
}

int ctl_doctor(int argc, char **argv) {
        static const struct option options[] = {
                { "wait", required_argument, NULL, 'w' },
                { "json", no_argument, NULL, 'j' },
                { "credstore", required_argument, NULL, 'c' },
                {},
        };
        Words w = { .store = CREDSTORE };
        Round round;
        bool well;
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (opt) {
                case 'w':
                        w.waits = true;
                        if (u64_parse(optarg, &w.wait) < 0 || w.wait > WAIT_MAX)
                                return usage();
                        break;
                case 'j': w.json = true; break;
                case 'c': w.store = optarg; break;
                default: return usage();
                }
        if (optind != argc)
                return usage();
        if (geteuid() != 0) {
                fputs("Credentials and state are root's to look at: run it as root.\n", stderr);
                return CTL_REFUSED;
        }
        if (hash_init() < 0)
                return CTL_FAILED;
        well = wait_rounds(&w, &round);
        return answer(&w, &round, well);
}
