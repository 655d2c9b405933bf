/* SPDX-License-Identifier: Apache-2.0 */

/* The judge: what the design says must hold (the invariants I1 to I5, I9 and I10), over what the engine was made to do and what the agent said, with nothing of how the
 * agent does it. A word counts from when it leaves the agent, whether or not it arrives: that is when it must be true. The ends that a job may have are those of
 * tests/lab/model.py. */

#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

static uint64_t settled[8], before[8];          /* by workspace: the generation of what served last, and of what did before it; 0: nothing */
static bool     has_data[8];                    /* something served on its volumes, and nobody had them erased */
static bool     half_gone[8];                   /* its removal was begun and not ended, and nothing has served since: what is left is the next job's */

static unsigned place_of(const char *workspace) {
        for (unsigned w = 0; w < n_workspaces; w++)
                if (strcmp(workspace_ids[w], workspace) == 0)
                        return w;
        wrong("there is no workspace %s", workspace);
}

#define EACH_JOB(j) (SimJob *j = sim_jobs; j < sim_jobs + n_sim_jobs; j++)

static SimJob *job_of(const char *id) {
        for EACH_JOB(j)
                if (id && strcmp(j->id, id) == 0)
                        return j;
        return NULL;
}

/* The highest spec job that was accepted. */
static const SimJob *newest_accepted(unsigned workspace) {
        const SimJob *best = NULL;

        for EACH_JOB(j)
                if (j->workspace == workspace && j->kind != RESTART && j->accepted && (!best || j->generation > best->generation))
                        best = j;
        return best;
}

static const SimJob *provision_of(unsigned workspace, uint64_t generation) {
        for EACH_JOB(j)
                if (j->workspace == workspace && j->kind == PROVISION && j->generation == generation)
                        return j;
        return NULL;
}

/* The agent has it, as far as anyone can know, and it has not ended. */
static bool is_open(const SimJob *j) { return j->handed && !j->end[0]; }
static bool is_open_removal(const SimJob *j) { return is_open(j) && j->kind == DEPROVISION; }
static bool is_open_erasure(const SimJob *j) { return is_open_removal(j) && j->prune; }

static bool has(unsigned workspace, bool (*is)(const SimJob *j)) {
        for EACH_JOB(j)
                if (j->workspace == workspace && is(j))
                        return true;
        return false;
}

/* ── what the engine is made to do ───────────────────────────────────────────────────────────────────────────── */

static bool has_secret(const Container *b, const SimJob *spec) {
        char value[64];

        secret_value(spec, value, sizeof value);
        return !spec->secret || box_has_secret(b, value);
}

static bool is_current(const Container *b) { return strncmp(b->name, "ws-", 3) == 0 && strcmp(b->name + 3, b->workspace) == 0; }

/* It serves under its name, with the files and secrets of its generation. */
static bool serves(const Container *b) {
        const SimJob *spec = provision_of(place_of(b->workspace), b->generation);
        char content[100];

        if (!spec || b->state != BOX_RUNNING || !is_current(b) || sim_now < b->ready_at || b->image != spec->image)
                return false;
        file_content(spec, content, sizeof content);
        return volume_has(b->workspace, "config.yaml", content) && has_secret(b, spec);
}

static void note_good(void) {
        Container *b;

        TAILQ_FOREACH(b, &boxes, link) {
                SimJob *j = job_of(b->job);
                unsigned w = place_of(b->workspace);

                if (b->was_good || b->probes < 2 || !serves(b))
                        continue;
                b->was_good = true;
                if (settled[w] != b->generation)
                        before[w] = settled[w];
                settled[w] = b->generation;
                half_gone[w] = false;
                has_data[w] = true;
                if (j)
                        j->good = true;
        }
}

static void note_gone(void) {
        for EACH_JOB(j) {
                const char *workspace = workspace_ids[j->workspace];

                if (!is_open_removal(j) || j->gone)
                        continue;
                j->gone = boxes_of(workspace, NULL) == 0 && (!j->prune || volumes_of(workspace) == 0);
                if (j->gone && j->prune)
                        has_data[j->workspace] = false;
        }
}

void model_engine(const char *what, const Container *b) {
        const SimJob *spec = b ? provision_of(place_of(b->workspace), b->generation) : NULL;
        unsigned running[8] = { 0 };
        const Container *other;

        if (b)
                trace("    %s %s of %u.%llu (%s)", what, b->name, place_of(b->workspace), (unsigned long long) b->generation, b->job);
        TAILQ_FOREACH(other, &boxes, link)
                if (other->state == BOX_RUNNING && ++running[place_of(other->workspace)] > 1)
                        wrong("I2: two containers of workspace %u run", place_of(other->workspace));
        if (spec && strcmp(what, "start") == 0 && !has_secret(b, spec))
                wrong("I5: %s is started without its secret, or with another's", b->name);
        if (b && strcmp(what, "destroy") == 0 && b->was_good && has(place_of(b->workspace), is_open_removal))
                half_gone[place_of(b->workspace)] = true;
        note_good();
        note_gone();
}

/* Somebody else laid hands on the workspace: what is at work on it may fail. */
void model_hit(const Container *b) {
        for EACH_JOB(j)
                if (j->workspace == place_of(b->workspace) && is_open(j))
                        j->hit = true;
}

/* What is at work on the workspace that is named may fail; where none is, all that is at work. */
void model_stumbles(const char *what) {
        const char *workspace = NULL;

        for (unsigned w = 0; w < n_workspaces && !workspace; w++)
                if (strstr(what, workspace_ids[w]))
                        workspace = workspace_ids[w];
        for EACH_JOB(j)
                if (is_open(j) && (!workspace || workspace == workspace_ids[j->workspace]))
                        j->stumbled = true;
}

void model_create(const char *workspace, uint64_t generation) {
        unsigned w = place_of(workspace);
        const SimJob *newest = newest_accepted(w);
        const Container *b;

        if (newest && generation < newest->generation && generation != settled[w])
                wrong("I2: generation %llu of workspace %u is made below the floor %llu", (unsigned long long) generation, w, (unsigned long long) newest->generation);
        if (newest && newest->kind == DEPROVISION && strcmp(newest->end, "succeeded") == 0 && generation <= newest->generation)
                wrong("I2: workspace %u is made again after its end", w);
        if (has(w, is_open))
                return;
        TAILQ_FOREACH(b, &boxes, link)
                if (strcmp(b->workspace, workspace) == 0 && b->was_good)
                        wrong("I10: workspace %u is made again, but %s is there", w, b->name);
}

void model_stop(const Container *b) {
        if (b->state == BOX_RUNNING && b->was_good && is_current(b) && !has(place_of(b->workspace), is_open))
                wrong("I9: %s is stopped, and no job says so", b->name);
}

void model_erase(const char *workspace) {
        unsigned w = place_of(workspace);

        if (has_data[w] && !has(w, is_open_erasure))
                wrong("I10: the volumes of workspace %u are erased, and no job says so", w);
}

/* ── what the agent says ─────────────────────────────────────────────────────────────────────────────────────── */

static bool higher(const SimJob *than) {
        for EACH_JOB(j)
                if (j->workspace == than->workspace && j->generation > than->generation && j->handed && j->what != REFUSED)
                        return true;
        return false;
}

/* It may have left nothing that can be made anew: a provision that cannot serve, a removal that stopped half-way. */
static bool lower_bad(const SimJob *than) {
        for EACH_JOB(j)
                if (j->workspace == than->workspace && j->generation < than->generation &&
                    (j->what == BAD || (j->kind == DEPROVISION && strcmp(j->end, "failed") == 0)))
                        return true;
        return false;
}

/* Whether a job may end so, whatever the order in which jobs came. */
static bool may_end(const SimJob *j, const char *state) {
        if (strcmp(state, "superseded") == 0)
                return j->kind == RESTART || higher(j);         /* a provision below a restart satisfies it */
        if (strcmp(state, "refused") == 0)
                return j->what == REFUSED || j->kind == RESTART;
        if (strcmp(state, "succeeded") == 0)
                return j->what == GOOD;
        if (strcmp(state, "failed") == 0)
                return j->what == BAD || (j->kind == RESTART && lower_bad(j)) || j->stumbled || j->hit;
        return false;
}

/* Somebody stopped it just when it had served: between the gate and the name nobody looked. */
static void note_stopped(SimJob *j) {
        Container *b;

        TAILQ_FOREACH(b, &boxes, link)
                if (j->hit && !j->good && is_current(b) && strcmp(b->job, j->id) == 0) {
                        b->was_good = j->good = has_data[j->workspace] = true;
                        settled[j->workspace] = b->generation;
                }
}

static void said_final(SimJob *j, const cJSON *r, const char *state) {
        bool done = strcmp(state, "succeeded") == 0, failed = strcmp(state, "failed") == 0;

        if (j->end[0] && strcmp(j->end, state) != 0)
                wrong("I4: %s ended %s, and now %s", j->id, j->end, state);
        if (j->end[0])
                return;
        (void) snprintf(j->end, sizeof j->end, "%s", state);
        trace("  %s (%u.%llu) ended %s: %s", j->id, j->workspace, (unsigned long long) j->generation, state, json_get_string(r, "message"));
        if (!j->handed)
                wrong("I3: %s ended, but was never handed out", j->id);
        if (!may_end(j, state))
                wrong("%s (%u.%llu) must not end %s: %s", j->id, j->workspace, (unsigned long long) j->generation, state, json_get_string(r, "message"));
        if (done)
                note_stopped(j);
        if (done && j->kind == DEPROVISION && !j->gone)
                wrong("I3: %s is done, but workspace %u was there all the time", j->id, j->workspace);
        if (done && j->kind != DEPROVISION && !j->good)
                wrong("I3: %s is done, but nothing of it ever served", j->id);
        if (done && j->kind == DEPROVISION && settled[j->workspace] <= j->generation)
                settled[j->workspace] = 0;                      /* else a later one serves since, and is told of in the same breath */
        if (j->kind == DEPROVISION && (done || failed))
                half_gone[j->workspace] = failed;
        if (failed && j->kind == PROVISION && settled[j->workspace] == j->generation)
                settled[j->workspace] = before[j->workspace];   /* it served, and a call failed behind that */
}

void model_said(const char *body) {
        _cleanup_json_ cJSON *json = NULL;
        const cJSON *r;

        if (json_parse(body, strlen(body), &json, NULL) < 0)
                wrong("reports are no JSON");
        note_good();
        note_gone();
        cJSON_ArrayForEach(r, json_get(json, "reports")) {
                SimJob *j = job_of(json_get_string(r, "job_id"));
                const char *state = json_get_string(r, "state") ?: "";

                if (j && strcmp(state, "accepted") == 0)
                        j->accepted = true;
                else if (j && strcmp(state, "running") != 0)
                        said_final(j, r, state);
        }
}

/* ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Which provision should run in the end: that of the newest accepted spec job, or what served before it where that came to nothing. */
static bool workspace_is_right(unsigned w, char *why, size_t size) {
        const SimJob *newest = newest_accepted(w);
        bool stays = newest && (newest->kind == PROVISION || strcmp(newest->end, "failed") == 0);       /* or was made again after a removal that failed */
        uint64_t want = stays ? settled[w] : 0;
        const Container *found;
        unsigned n = boxes_of(workspace_ids[w], &found);

        if (half_gone[w])
                return true;
        if (newest && newest->kind == PROVISION && strcmp(newest->end, "succeeded") == 0 && want != newest->generation)
                return snprintf(why, size, "workspace %u: generation %llu succeeded, %llu served last", w, (unsigned long long) newest->generation, (unsigned long long) want), false;
        if (!want && n == 0)
                return !newest || newest->kind != DEPROVISION || !newest->prune || volumes_of(workspace_ids[w]) == 0 ||
                       (snprintf(why, size, "workspace %u: volumes are left", w), false);
        if (!want || n != 1 || found->generation != want || !serves(found))
                return snprintf(why, size, "workspace %u: %u containers, %s of generation %llu %s, wanted is %llu", w, n, found ? found->name : "none",
                                found ? (unsigned long long) found->generation : 0, found && serves(found) ? "serves" : "does not serve", (unsigned long long) want), false;
        return true;
}

bool model_is_settled(char *why, size_t size) {
        for EACH_JOB(j)
                if (!j->delivered)
                        return snprintf(why, size, "I1: %s (%u.%llu, handed out %u times%s) has no end at the control plane", j->id, j->workspace,
                                        (unsigned long long) j->generation, j->handed, j->accepted ? ", accepted" : ""), false;
        for (unsigned w = 0; w < n_workspaces; w++)
                if (!workspace_is_right(w, why, size))
                        return false;
        return true;
}
