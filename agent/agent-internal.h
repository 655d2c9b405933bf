/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What agent.c (life), agent-wire.c (who hears of what) and agent-view.c (what is told) share. */

#include "agent/agent.h"
#include "agent/control.h"
#include "agent/health.h"
#include "agent/outbox.h"
#include "agent/report.h"
#include "provision/queue.h"

struct Agent {
        AgentOptions     options;
        sd_event        *event;
        sd_event_source *watchdog, *fallback, *give_up;
        int              state_fd;
        Config          *config;
        Settings         settings;              /* views into config and identity */
        Identity         identity;
        Credentials      credentials;
        Loops            loops;
        Http            *http;
        Engine          *engine;
        Images          *images;
        Pins            *pins;
        Outbox          *outbox;
        Queue           *queue;
        Cp              *cp;
        Control         *control;
        Reporter        *reporter;
        Health          *health;
        uint64_t         started_at;            /* microseconds since the epoch */
        Fault            config_fault;          /* the file is invalid; the last good one is in force */
        Fault            enrol_fault;           /* not_enrolled and its like */
        bool             started_control, stopping, polled_once, foreign_state;
        int              exit_code;
};

/* agent-wire.c */
int  agent_wire(Agent *a, Fault *reterr);       /* makes engine, images, queue, control, reporter, health */
void agent_settings(Agent *a);                  /* settings out of config and identity */
void agent_start_control(Agent *a);             /* credentials, then the control plane */
void agent_once_check(Agent *a);                /* --once: is the round over? */
void agent_exit(Agent *a, int code);
EngineOptions agent_engine_options(const Agent *a);
ImageOptions  agent_image_options(const Agent *a);

/* agent-view.c */
cJSON *agent_register_body(void *userdata);
cJSON *agent_health_view(void *userdata);
cJSON *agent_pins_view(void *userdata);
