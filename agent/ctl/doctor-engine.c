/* SPDX-License-Identifier: Apache-2.0 */

/* doctor: the container engine, asked over its socket as the agent asks it. */

#include <ctype.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <systemd/sd-daemon.h>

#include "agent/ctl/doctor.h"
#include "base/http-wait.h"
#include "base/text.h"

#define TIMEOUT_USEC (2 * USEC_PER_SEC)
#define ANSWER_MAX   ((size_t) 4 * 1024 * 1024)

static int unreachable(const char *socket, const HttpReply *reply, Fault *reterr) {
        static const struct { int error; const char *words; } known[] = {
                { -ENOENT,       "there is no such socket" },
                { -ECONNREFUSED, "nobody listens on it" },
                { -ETIMEDOUT,    "it takes the question and does not answer" },
        };

        for (size_t i = 0; i < ELEMENTS(known); i++)
                if (known[i].error == reply->error)
                        return fault(reterr, reply->error, FAULT_ENGINE_UNREACHABLE, "the engine cannot be asked through %s: %s", socket, known[i].words);
        return fault(reterr, reply->error, FAULT_ENGINE_UNREACHABLE, "the engine cannot be asked through %s: %s", socket, reply->words);
}

static int get(HttpWait *http, const Doctor *d, const char *path, cJSON **ret, Fault *reterr) {
        const char *socket = d->config->engine_socket;
        _cleanup_free_ char *url = str_printf("http://localhost%s", path);
        HttpRequest q = { .url = url, .socket_path = socket, .answer_max = ANSWER_MAX, .timeout_usec = doctor_patience(d, TIMEOUT_USEC) };
        HttpReply reply = {};
        int r = url ? http_wait(http, &q, &reply) : -ENOMEM;

        if (r >= 0 && reply.error < 0)
                r = unreachable(socket, &reply, reterr);
        else if (r >= 0 && (reply.status != 200 || json_parse(reply.body, reply.size, ret, NULL) < 0))
                r = fault(reterr, -EPROTO, FAULT_ENGINE_ERROR, "the engine answers %s with HTTP %ld and nothing that makes sense", path, reply.status);
        else if (r < 0)
                r = fault(reterr, r, FAULT_ENGINE_UNREACHABLE, "the engine cannot be asked through %s: %m", socket);
        http_reply_done(&reply);
        return r;
}

static int ask(Doctor *d, Fault *reterr) {
        _cleanup_(http_wait_freep) HttpWait *http = NULL;
        _cleanup_json_ cJSON *version = NULL, *info = NULL;
        char api[16], path[32];
        int r = http_wait_new(NULL, &http);

        if (r >= 0)
                r = get(http, d, "/version", &version, reterr);
        if (r >= 0)
                r = engine_api_choose(json_get_string(version, "ApiVersion"), json_get_string(version, "MinAPIVersion"), api, reterr);
        if (r < 0)
                return r;
        (void) snprintf(path, sizeof path, "/v%s/info", api);
        r = get(http, d, path, &info, reterr);
        return r < 0 ? r : engine_info_parse(version, info, &d->engine, reterr);
}

Verdict look_engine(Doctor *d) {
        Fault why = {};

        if (!d->config)
                return say(d, NOT_HERE, "which socket it has is not known: no valid configuration");
        if (ask(d, &why) < 0)                   /* words that begin a sentence here */
                return blame(d, BAD, why.set ? fault_code_name(why.code) : NULL, "%c%s. %s", toupper((unsigned char) why.text[0]), why.text + (why.text[0] != 0),
                             why.code == FAULT_ENGINE_TOO_OLD ? "Upgrade it." : "systemctl status docker; journalctl -u docker.");
        return say(d, FINE, "%s %s, API %s, in %s", d->engine.name, d->engine.version, d->engine.api_version, d->engine.root_dir ?: "an unknown place");
}

Verdict look_live_restore(Doctor *d) {
        if (!d->engine.version)
                return say(d, NOT_HERE, "no engine to ask");
        if (!str_equal(d->engine.name, "docker"))
                return say(d, NOT_HERE, "%s needs none", d->engine.name);
        if (!d->engine.live_restore)
                return say(d, WARNING, "Off: a restart of the engine stops every workspace. "
                                       "Set \"live-restore\": true in /etc/docker/daemon.json; systemctl reload docker.");
        return say(d, FINE, "workspaces outlive a restart of the engine");
}

/* With the older hierarchies cgroupfs is what an engine takes by itself, and each has its own part of them. */
static bool systemd_owns_cgroups(void) {
        struct statfs fs;

        return sd_booted() > 0 && statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

Verdict look_cgroups(Doctor *d) {
        const char *driver = d->engine.cgroup_driver;

        if (!d->engine.version || !driver || !driver[0])
                return say(d, NOT_HERE, "no engine to ask");
        if (strcmp(driver, "none") == 0)
                return say(d, BAD, "The engine has no cgroup driver: no workspace is held to its memory. "
                                   "Run the engine as root, or delegate it a cgroup.");
        if (strcmp(driver, "cgroupfs") == 0 && systemd_owns_cgroups())
                return say(d, WARNING, "The engine manages cgroups beside systemd. "
                                       "Set \"exec-opts\": [\"native.cgroupdriver=systemd\"] in /etc/docker/daemon.json, with no workspace here.");
        return say(d, FINE, "driver %s", driver);
}
