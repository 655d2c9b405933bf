/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* agent/control with a scripted control plane on the other side, over real HTTP, and with a clock that is pushed on. */

#include <errno.h>

#include "agent/control.h"
#include "tests/cp-kit.h"

#define REGISTERED "{\"host_id\":\"" KIT_HOST "\",\"heartbeat_seconds\":7,\"wait_seconds\":20,\"max_jobs\":3,\"more\":[]}"
#define ETAG       "\\\"e1\\\""
#define NO_JOBS    "{\"pins_etag\":\"\",\"jobs\":[]}"
#define JOBS(etag) "{\"pins_etag\":\"" etag "\",\"jobs\":[{\"delivery_id\":\"one\"},{\"delivery_id\":\"two\"}]}"
#define TABLE \
        "{\"pins\":[{\"template_name\":\"codex\",\"region\":\"global\",\"image_digest\":\"" KIT_DIGEST \
        "\",\"image_ref\":\"registry.example/a@" KIT_DIGEST "\"}]}"
#define REGISTER   "POST " CP_HOSTS
#define POLL       "GET " CP_HOST "/jobs"
#define PINS       "GET " CP_HOST "/pins"
#define REFRESH    "GET /api/v1/tenants/config"
#define SIBLING    "GET /api/v1/workspaces/00000000-0000-0000-0000-000000000000/status"

typedef struct Site {
        TestDir     d;
        Cp         *cp;
        Pins       *pins;
        Control    *control;
        Loops       loops;
        Credentials credentials;
        unsigned    challenges;
        bool        can_prove;
        char        challenge[64];
        unsigned    room;
        int         registered, changed, polled, pins_at_delivery;
        uint64_t    heartbeat;
        char        delivered[100], secrets[100];
} Site;

static inline cJSON *on_register_body(void *userdata) {
        (void) userdata;
        return kit_json("{\"protocol\":1}");
}

static inline unsigned on_room(unsigned max, void *userdata) {
        Site *s = userdata;
        return s->room < max ? s->room : max;
}

static inline void on_delivery(const cJSON *delivery, void *userdata) {
        Site *s = userdata;

        s->pins_at_delivery = seen_like(PINS);
        (void) snprintf(s->delivered + strlen(s->delivered), sizeof s->delivered - strlen(s->delivered), "%.20s ",
                        json_get_string(delivery, "delivery_id") ?: "?");
}

static inline void on_registered(uint64_t heartbeat_usec, void *userdata) {
        Site *s = userdata;
        s->registered++;
        s->heartbeat = heartbeat_usec;
}

/* As the agent does it. */
static inline void on_refreshed(const char *secret, void *userdata) {
        Site *s = userdata;
        Config config = cp_config();

        (void) snprintf(s->secrets + strlen(s->secrets), sizeof s->secrets - strlen(s->secrets), "[%.30s]", secret);
        if (credentials_refresh(&s->credentials, secret) == 0)
                CHECK_INT(cp_configure(s->cp, &config, &s->credentials, NULL), 0);
}

static inline int on_challenged(const char *challenge, Fault *ret, void *userdata) {
        Site *s = userdata;

        s->challenges++;
        (void) snprintf(s->challenge, sizeof s->challenge, "%s", challenge ?: "");
        return s->can_prove ? 0 : fault(ret, -ENOKEY, FAULT_SEALING_KEY_CONFLICT, "no key");
}

static inline void on_changed(void *userdata) { ((Site *) userdata)->changed++; }
static inline void on_polled(void *userdata) { ((Site *) userdata)->polled++; }

/* known: it has registered before, so no race with the control plane's own rows is to be expected. */
static inline void site(Site *s, bool known) {
        const ControlEvents events = { .register_body = on_register_body,
                                       .room = on_room,
                                       .delivery = on_delivery,
                                       .registered = on_registered,
                                       .refreshed = on_refreshed,
                                       .challenged = on_challenged,
                                       .changed = on_changed,
                                       .polled = on_polled,
                                       .userdata = s };
        const TrustedKeys none = {};
        Config config = cp_config();

        *s = (Site) { .d = test_dir(), .credentials = kit_credentials("s1", "admin"), .room = 100 };
        cp_kit_reset();
        identity.registered_at = known;
        if (cp_new(event, http, &identity, &s->cp) < 0 || cp_configure(s->cp, &config, &s->credentials, NULL) < 0 ||
            pins_open(s->d.fd, &none, &s->pins, NULL) < 0 ||
            control_new(event, s->cp, s->pins, &identity, &s->loops, &events, &s->control) < 0)
                abort();
}

static inline void site_done(Site *s) {
        control_free(s->control);
        cp_free(s->cp);
        pins_free(s->pins);
        credentials_done(&s->credentials);
        test_dir_done(&s->d);
}
#define _cleanup_site_ _cleanup_(site_done)

/* Starts; the first request goes at once instead of within five seconds. */
static inline void start(Site *s) {
        control_start(s->control, false);
        pass(5);
}

/* A known host that is registered and whose poll hangs at the control plane. */
static inline void at_rest(Site *s) {
        site(s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, CP_HANG, "", "");
        start(s);
        CHECK(seen_until(2, 3000));
        CHECK_INT(control_state(s->control), CONTROL_POLLING);
}

/* So long it said it would rest. */
static inline uint64_t rest(const Site *s) {
        return s->loops.loop[LOOP_CONTROL].due - s->loops.loop[LOOP_CONTROL].last - 60 * USEC_PER_SEC - 1;
}

/* Runs the loop until nothing is in flight: it rests for another time than a request or a poll may take. */
static inline void settle(Site *s) {
        for (int i = 0; i < 400; i++) {
                uint64_t usec = rest(s) + 1;

                loop_for(event, 5);
                if (usec != 30 * USEC_PER_SEC && usec != 35 * USEC_PER_SEC)
                        return;
        }
        CHECK(!"at rest within two seconds");
}

static inline const char *fault_of(const Site *s) { return control_fault(s->control) ? kit_code(control_fault(s->control)) : ""; }
