/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One job at work on one workspace, from its first step to its outcome. The steps and their order are tables in flow.c. */

#include "engine/engine.h"
#include "engine/image.h"
#include "provision/report.h"
#include "provision/settings.h"
#include "provision/workspace.h"

typedef struct Flow Flow;

/* How a flow ended. Borrowed during the callback. */
typedef struct FlowEnd {
        ReportState            state;           /* succeeded, failed, superseded, cancelled */
        Fault                  fault;           /* set when failed */
        const WorkspaceSpec   *spec;            /* of a provision */
        const EngineContainer *container;       /* a provision that passed its gate: as last seen; NULL otherwise */
        bool                   container_restarted;     /* false: restart:false left the old one running */
        bool                   volumes_gone;    /* a deprovision that erased: no volume of it is left */
        bool                   undone;          /* false after rollback_failed: undo must be tried again */
        const char            *rescue;          /* the redacted end of what a failed container said; NULL */
} FlowEnd;

typedef struct FlowEvents {
        void (*stage)(Workspace *w, Stage stage, int progress, void *userdata);
        void (*pulling)(Workspace *w, uint64_t bytes, uint64_t total, void *userdata);  /* at most once a second; total: as far as it is known by now */
        void (*wrote)(int r, const Fault *fault, void *userdata);       /* the record was written, or not */
        bool (*held)(const Workspace *w, void *userdata);       /* nothing of w may be changed now */
        int  (*new_port)(Workspace *w, void *userdata);         /* gives w another port; -ENOSPC: none is left */
        void (*rested)(Workspace *w, void *userdata);           /* after flow_pause(): what was in flight is over */
        void (*done)(Workspace *w, const FlowEnd *end, void *userdata);         /* last call; the owner frees the flow in it or later */
} FlowEvents;

typedef struct FlowContext {
        sd_event           *event;
        Http               *http;
        Engine             *engine;
        Images             *images;
        const Settings     *settings;
        const WorkspaceDir *dir;
        FlowEvents          events;
        void               *userdata;
} FlowContext;

/* Begins w->work, or goes on with it after a restart. context and w are borrowed as long as the flow lives; job (what the workspace is to be; NULL
 * for a deprovision) is owned from here, also on failure. */
int   flow_new(const FlowContext *context, Workspace *w, Job *job, Flow **ret);
void  flow_begin(Flow *f);      /* the first step; the first engine call is on its way when it returns. Events may come from inside */
Flow *flow_free(Flow *f);       /* drops what waits for an answer; the record says how far it is */
DEFINE_CLEANUP(Flow *, flow_free)

/* A higher job came. Before the stop the flow ends `superseded` at its next step, or at once where it only waits; after the stop it runs to its
 * end, unless the higher job removes the workspace. NULL: that was called off, and a flow that has not ended goes on. */
void flow_supersede(Flow *f, const Work *next);

/* Someone wants it undone: 0, and the flow ends `cancelled` (undo first, if it made anything). -EALREADY: it is past that. */
int flow_cancel(Flow *f);

bool flow_is_held(const Flow *f);       /* it waits for the end of a hold; its deadline stands still */
void flow_resume(Flow *f);              /* a hold may be over */

void flow_log_left_behind(const char *workspace_id, const Fault *why);  /* a start's -EUCLEAN, for which a container is removed */

/* SIGTERM: no further step is begun. True while an engine change is in flight and must be awaited. */
bool flow_pause(Flow *f);

bool  flow_is_over(const Flow *f);      /* done() came: to be freed from the loop */
bool  flow_touches(const Flow *f);      /* past the point where the old container was stopped */
