/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What agent.c (life), agent-wire.c (who hears of what), agent-view.c (what is told), agent-watch.c (what followers are told) and
 * agent-metrics.c (what is measured) share. */

#include "agent/agent.h"
#include "agent/api.h"
#include "agent/api-metrics.h"
#include "agent/audit.h"
#include "agent/control.h"
#include "agent/events.h"
#include "agent/health.h"
#include "agent/outbox.h"
#include "agent/report.h"
#include "provision/queue.h"

/* What the followers of /v1/events were told last. */
typedef struct Told {
        sd_event_source *settle;
        cJSON           *workspaces, *control;
        char            *hold;
} Told;

/* Where metrics go besides the local API. */
typedef struct Metering {
        ApiMetrics      *listener;
        sd_event_source *file;
        int              failed;                /* the last writing of the file: 0 or negative errno */
} Metering;

struct Agent {
        AgentOptions     options;
        sd_event        *event;
        sd_event_source *watchdog, *fallback, *give_up;
        int              state_fd;
        Config          *config;
        Settings         settings;              /* views into config and identity */
        Identity         identity;
        Arena           *arena;
        Keys            *keys;
        HostKeys        *host_keys;             /* NULL while there is no organization, nothing can be sealed, or they cannot be read */
        Fault            host_keys_fault;       /* why they cannot */
        bool             host_keys_told;        /* the last register named them */
        Vault           *vault;
        CredentialsEnv   environment;
        Credentials      credentials;
        char             key_proof[HOST_KEY_TEXT_SIZE];         /* for the next register; "" */
        Loops            loops;
        Http            *http;
        Engine          *engine;
        Images          *images;
        Pins            *pins;
        Outbox          *outbox;
        Audit           *audit;
        Queue           *queue;
        Cp              *cp;
        Control         *control;
        Reporter        *reporter;
        Health          *health;
        Api             *api;                   /* NULL: --once, or it could not be had */
        Events          *events;
        Metering         metering;
        Told             told;
        unsigned         n_log_readers;
        uint64_t         started_at;            /* microseconds since the epoch */
        Fault            config_fault;          /* the file is invalid; the last good one is in force */
        Fault            enrol_fault;           /* not_enrolled and its like */
        char             slug[64];              /* as register said it; "" */
        char            *hold_file;
        bool             hold_file_there;       /* as the audit record has it */
        bool             started_control, stopping, polled_once, foreign_state;
        int              exit_code;
};

const char *agent_state_path(void);

/* agent-wire.c */
int  agent_wire(Agent *a, Fault *reterr);       /* makes engine, images, queue, control, reporter, health */
void agent_settings(Agent *a);                  /* settings out of config and identity */
void agent_start_control(Agent *a);             /* credentials, then the control plane */
void agent_once_check(Agent *a);                /* --once: is the round over? */
void agent_exit(Agent *a, int code);
EngineOptions agent_engine_options(const Agent *a);
ImageOptions  agent_image_options(const Agent *a);

/* agent-sealed.c */
int  agent_open_sealed(Agent *a, Fault *reterr);        /* arena, roots, host keys, vault */
void agent_org_changed(Agent *a);                       /* another org_id is in force: other keys */
void agent_retry_host_keys(Agent *a);                   /* with each sweep: those that could not be read; registers them */
void agent_close_sealed(Agent *a);
int  agent_load_credentials(Agent *a, Fault *reterr);           /* those of the sources, or the refreshed one in place of it */
void agent_secret_refreshed(Agent *a, const char *secret);
int  agent_prove_key(Agent *a, const char *challenge, Fault *reterr);
bool agent_destroy_keys(Agent *a);                      /* after a teardown: false where not all could go */
void agent_rotate_host_key(Agent *a);                   /* if an operator has asked for it, and the control plane knows the current one */

/* agent-watch.c */
int  agent_watch_open(Agent *a);
void agent_watch_close(Agent *a);
void agent_watch_changed(Agent *a);             /* a workspace, the hold or the control plane may be another */
void agent_tell_job(Agent *a, const cJSON *report);
void agent_tell_pull(Agent *a, const JobPull *p);

/* agent-audit.c: none of these fails towards its caller */
int  agent_open_audit(Agent *a);                /* -ENOMEM only */
void agent_audit_retry(Agent *a);                /* after each sweep: trouble ends without waiting for something to record */
void agent_audit_report(Agent *a, const cJSON *report);
void agent_audit_sealed(const char *workspace, uint64_t generation, size_t n, void *userdata);
void agent_audit_local(Agent *a, const ApiCall *c, AuditLocal *l);       /* before the change is made, so that a crash does not hide it; fills in who */
void agent_audit_hold_file(Agent *a);           /* where it came or went since the last time */
void agent_config_taken(Agent *a, const Config *c);     /* recorded where it differs from the last good one, and kept as that */

/* agent-metrics.c */
void agent_metrics_open(Agent *a);              /* as the settings say now */
void agent_metrics_close(Agent *a);

/* agent-view.c */
cJSON *agent_register_body(void *userdata);
cJSON *agent_health_view(void *userdata);
cJSON *agent_pins_view(void *userdata);
cJSON *agent_control_view(const Agent *a);      /* local: {state, error, since?, next_try_seconds?} */
cJSON *agent_degraded_view(const Agent *a);     /* [code] */
cJSON *agent_error_view(const Fault *f);        /* {code, message}; JSON null where none is set */
