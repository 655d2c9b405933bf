/* SPDX-License-Identifier: Apache-2.0 */

/* doctor: what the daemon says of itself over its local API, and what the kernel says of the daemon. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/ctl/client.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/doctor.h"
#include "agent/ctl/term.h"
#include "base/text.h"
#include "secrets/arena.h"

#define TIMEOUT_USEC    (2 * USEC_PER_SEC)
#define OUTBOX_OLD      900                     /* seconds: a report is taken within one */
#define PINS_UNHEARD    3600                    /* seconds without a control plane, after which the pins here may be yesterday's */

/* ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Who holds the socket: the kernel names the process that listens. */
static int process_of(const char *socket_path) {
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        struct ucred peer = {};
        socklen_t size = sizeof peer;

        if (fd < 0 || strlen(socket_path) >= sizeof a.sun_path)
                return 0;
        memcpy(a.sun_path, socket_path, strlen(socket_path));
        if (connect(fd, (const struct sockaddr *) &a, sizeof a) < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return 0;
        return peer.pid;
}

static int ask(Doctor *d, Fault *why) {
        _cleanup_client_ Client client = {};
        int code = client_open(&client);

        if (code != CTL_OK)
                return code;
        client.timeout_usec = doctor_patience(d, TIMEOUT_USEC);
        code = client_get(&client, "/v1/status", &d->status, why);
        d->pid = code == CTL_OK ? process_of(client.socket) : 0;
        return code;
}

/* The first code of `degraded` for which there is no check of its own. */
static const char *trouble(const cJSON *status) {
        static const FaultCode others[] = { FAULT_CONFIG_INVALID, FAULT_ENGINE_UNREACHABLE, FAULT_ENGINE_TOO_OLD, FAULT_ENGINE_ERROR };
        const cJSON *code;

        cJSON_ArrayForEach(code, json_get_path(status, "agent/degraded")) {
                bool other = false;

                for (size_t i = 0; i < ELEMENTS(others); i++)
                        other |= str_equal(cJSON_GetStringValue(code), fault_code_name(others[i]));
                if (!other && cJSON_IsString(code))
                        return code->valuestring;
        }
        return NULL;
}

Verdict look_agent(Doctor *d) {
        const char *code;
        Fault why = {};

        if (ask(d, &why) != CTL_OK)
                return say(d, BAD, "%s", why.set ? why.text : "The agent could not be asked.");
        code = trouble(d->status);
        if (code)
                return blame(d, BAD, code, "It runs, and is degraded: %s. molecule-agentctl explain %s.", code, code);
        return say(d, FINE, "%s runs, process %d", json_get_string(d->status, "agent/version") ?: "it", d->pid);
}

static Verdict silent(Doctor *d) { return say(d, NOT_HERE, "no agent to ask"); }

/* ── what the kernel says of it ──────────────────────────────────────────────────────────────────────────────── */

Verdict look_memory(Doctor *d) {
        unsigned long long kib = 0;
        char path[40], line[160];
        bool found = false;
        FILE *f;

        if (!d->status || d->pid <= 0)
                return silent(d);
        (void) snprintf(path, sizeof path, "/proc/%d/status", d->pid);
        f = fopen(path, "re");
        while (f && !found && fgets(line, sizeof line, f))
                found = sscanf(line, "VmLck: %llu kB", &kib) == 1;
        if (f)
                (void) fclose(f);
        if (!found)
                return say(d, NOT_HERE, "the kernel does not say what is locked");
        if (kib * 1024 < ARENA_SIZE)
                return say(d, WARNING, "The agent's memory for secrets is not locked, and may be swapped out. Raise LimitMEMLOCK to 8M; allow_unlocked_memory=no.");
        return say(d, FINE, "%llu KiB for secrets are locked", kib);
}

/* ── its life with the control plane ─────────────────────────────────────────────────────────────────────────── */

/* Whole seconds since the fault began; 0 where there is none. */
static uint64_t unheard(const cJSON *status) {
        const char *since = json_get_string(status, "control/since");
        uint64_t at, now = now_realtime();

        return since && time_parse(since, &at) == 0 && now > at ? (now - at) / USEC_PER_SEC : 0;
}

Verdict look_session(Doctor *d) {
        const char *code = json_get_string(d->status, "control/error/code"), *state = json_get_string(d->status, "control/state");
        FaultCode known;
        char age[TERM_TEXT_SIZE];

        if (!d->status)
                return silent(d);
        if (!code)
                return say(d, FINE, "%s", state ?: "unknown");
        if (d->cp.error < 0 && str_equal(code, fault_code_name(FAULT_CONTROL_PLANE_UNREACHABLE)))
                return say(d, NOT_HERE, "no control plane for %s: see above", term_age(unheard(d->status), age));
        return blame(d, BAD, code, "%.200s That is so for %s. %s", json_get_string(d->status, "control/error/message") ?: code,
                     term_age(unheard(d->status), age), fault_code_find(code, &known) == 0 ? fault_code_advice(known) : "");
}

Verdict look_pins(Doctor *d) {
        int64_t age = json_get_i64(d->status, "pins/age_seconds", -1);
        char old[TERM_TEXT_SIZE], came[64] = "none came yet";

        if (!d->status)
                return silent(d);
        if (age >= 0)
                (void) snprintf(came, sizeof came, "the last came %s ago", term_age((uint64_t) age, old));
        if (json_get_bool(d->status, "pins/behind", false))
                return say(d, WARNING, "The control plane has other pins than the agent; %s. journalctl -u molecule-agentd says why they are not taken.",
                           came);
        if (unheard(d->status) > PINS_UNHEARD)
                return say(d, WARNING, "No word from the control plane for longer than an hour: they may have moved there; %s. See session.",
                           came);
        if (age < 0)
                return say(d, NOT_HERE, "none are here, and the control plane speaks of none");
        return say(d, FINE, "as the control plane has them; %s", came);
}

Verdict look_outbox(Doctor *d) {
        int64_t oldest = json_get_i64(d->status, "outbox_oldest_seconds", 0), depth = json_get_i64(d->status, "agent/outbox_depth", 0);
        char age[TERM_TEXT_SIZE];

        if (!d->status)
                return silent(d);
        (void) term_age((uint64_t) (oldest > 0 ? oldest : 0), age);
        if (oldest > OUTBOX_OLD)
                return say(d, WARNING, "%lld report%s for the control plane, the oldest for %s. Nothing is lost; see session for why, then molecule-agentctl sync.",
                           (long long) depth, depth == 1 ? " waits" : "s wait", age);
        if (depth > 0)
                return say(d, FINE, "%lld reports on their way, the oldest for %s", (long long) depth, age);
        return say(d, FINE, "empty: everything was told");
}

Verdict look_held(Doctor *d) {
        const cJSON *hold = json_get(d->status, "hold"), *one;
        const char *reason = NULL;

        if (!d->status)
                return silent(d);
        cJSON_ArrayForEach(one, json_get(hold, "holds"))
                if (!reason || !json_get_string(one, "workspace_id"))
                        reason = json_get_string(one, "reason");
        if (json_get_bool(hold, "torn_down", false))
                return blame(d, BAD, fault_code_name(FAULT_TORN_DOWN), "This host was torn down. Enrol it anew, or end the machine.");
        if (json_get_bool(hold, "hold_file", false))
                return blame(d, WARNING, fault_code_name(FAULT_HELD), "Nothing is changed here: the file hold lies beside agent.conf. "
                             "rm /etc/molecule-agent/hold.");
        if (json_get_bool(hold, "held", false))
                return blame(d, WARNING, fault_code_name(FAULT_HELD), "Nothing is changed here (%.100s). molecule-agentctl release.", reason ?: "no reason given");
        if (json_get_bool(hold, "draining", false))
                return blame(d, WARNING, fault_code_name(FAULT_DRAINING), "No new workspaces are taken (%.100s). molecule-agentctl undrain.",
                             json_get_string(hold, "drain_reason") ?: "no reason given");
        if (reason)
                return blame(d, WARNING, fault_code_name(FAULT_HELD), "A workspace is held (%.100s). molecule-agentctl status, then release WORKSPACE.", reason);
        return say(d, FINE, "no");
}
