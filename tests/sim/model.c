/* SPDX-License-Identifier: Apache-2.0 */

/* The judge: what the design says must hold (the invariants I1 to I10), over what the engine was made to do and what the agent said, with nothing of how the
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

static SimJob *job_of(const char *id) {
        for (unsigned i = 0; id && i < n_sim_jobs; i++)
                if (strcmp(sim_jobs[i].id, id) == 0)
                        return &sim_jobs[i];
        return NULL;
}

static bool is_spec(const SimJob *j) { return j->kind != RESTART; }

/* The highest spec job that was accepted. */
static const SimJob *newest_accepted(unsigned workspace) {
        const SimJob *best = NULL;

        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (sim_jobs[i].workspace == workspace && is_spec(&sim_jobs[i]) && sim_jobs[i].accepted && (!best || sim_jobs[i].generation > best->generation))
                        best = &sim_jobs[i];
        return best;
}

static const SimJob *provision_of(unsigned workspace, uint64_t generation) {
        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (sim_jobs[i].workspace == workspace && sim_jobs[i].kind == PROVISION && sim_jobs[i].generation == generation)
                        return &sim_jobs[i];
        return NULL;
}

/* The agent has it, as far as anyone can know, and it has not ended. */
static bool is_open(const SimJob *j) { return j->handed && !j->end[0]; }

static bool has_open_job(unsigned workspace) {
        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (sim_jobs[i].workspace == workspace && is_open(&sim_jobs[i]))
                        return true;
        return false;
}

static bool has_open_removal(unsigned workspace) {
        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (sim_jobs[i].workspace == workspace && sim_jobs[i].kind == DEPROVISION && is_open(&sim_jobs[i]))
                        return true;
        return false;
}

/* ── what the engine is made to do ───────────────────────────────────────────────────────────────────────────── */

static bool is_current(const Container *b) { return strncmp(b->name, "ws-", 3) == 0 && strcmp(b->name + 3, b->workspace) == 0; }

static bool secret_is_there(const Container *b, const SimJob *spec) {
        char path[300], value[64], text[64] = "";
        FILE *f;

        if (!spec->secret)
                return true;
        secret_value(spec, value, sizeof value);
        (void) snprintf(path, sizeof path, "%s/secrets/API_TOKEN", b->secrets ?: "");
        f = fopen(path, "re");
        if (f && !fgets(text, sizeof text, f))
                text[0] = 0;
        if (f)
                (void) fclose(f);
        return strcmp(text, value) == 0;
}

/* It serves under its name, with the files and secrets of its generation. */
static bool serves(const Container *b) {
        const SimJob *spec = provision_of(place_of(b->workspace), b->generation);
        char content[100];

        if (!spec || b->state != BOX_RUNNING || !is_current(b) || sim_now < b->ready_at || b->image != spec->image)
                return false;
        file_content(spec, content, sizeof content);
        return volume_has(b->workspace, "config.yaml", content) && secret_is_there(b, spec);
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
        for (unsigned i = 0; i < n_sim_jobs; i++) {
                SimJob *j = &sim_jobs[i];
                const Container *b;

                if (j->kind != DEPROVISION || !j->handed || j->end[0] || j->gone)
                        continue;
                TAILQ_FOREACH(b, &boxes, link)
                        if (strcmp(b->workspace, workspace_ids[j->workspace]) == 0)
                                break;
                j->gone = !b && (!j->prune || volumes_of(workspace_ids[j->workspace]) == 0);
                if (j->gone && j->prune)
                        has_data[j->workspace] = false;
        }
}

void model_engine(const char *what, const Container *b) {
        unsigned running[8] = { 0 };
        const Container *other;

        if (b)
                trace("    %s %s of %u.%llu (%s)", what, b->name, place_of(b->workspace), (unsigned long long) b->generation, b->job);
        TAILQ_FOREACH(other, &boxes, link)
                if (other->state == BOX_RUNNING && ++running[place_of(other->workspace)] > 1)
                        wrong("I2: two containers of workspace %u run", place_of(other->workspace));
        if (b && strcmp(what, "start") == 0) {
                const SimJob *spec = provision_of(place_of(b->workspace), b->generation);

                if (spec && !secret_is_there(b, spec))
                        wrong("I5: %s is started without its secret, or with another's", b->name);
        }
        if (b && strcmp(what, "destroy") == 0 && b->was_good && has_open_removal(place_of(b->workspace)))
                half_gone[place_of(b->workspace)] = true;
        note_good();
        note_gone();
}

/* Somebody else laid hands on the workspace: what is at work on it may fail. */
void model_hit(const Container *b) {
        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (strcmp(workspace_ids[sim_jobs[i].workspace], b->workspace) == 0 && is_open(&sim_jobs[i]))
                        sim_jobs[i].hit = true;
}

/* What is at work on the workspace that is named may fail; where none is, all that is at work. */
void model_stumbles(const char *what) {
        const char *workspace = NULL;

        for (unsigned w = 0; w < n_workspaces && !workspace; w++)
                if (strstr(what, workspace_ids[w]))
                        workspace = workspace_ids[w];
        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (is_open(&sim_jobs[i]) && (!workspace || workspace == workspace_ids[sim_jobs[i].workspace]))
                        sim_jobs[i].stumbled = true;
}

void model_create(const char *workspace, uint64_t generation) {
        unsigned w = place_of(workspace);
        const SimJob *newest = newest_accepted(w);
        const Container *b;

        if (newest && generation < newest->generation && generation != settled[w])
                wrong("I2: generation %llu of workspace %u is made below the floor %llu", (unsigned long long) generation, w, (unsigned long long) newest->generation);
        if (newest && newest->kind == DEPROVISION && strcmp(newest->end, "succeeded") == 0 && generation <= newest->generation)
                wrong("I2: workspace %u is made again after its end", w);
        if (has_open_job(w))
                return;
        TAILQ_FOREACH(b, &boxes, link)
                if (strcmp(b->workspace, workspace) == 0 && b->was_good)
                        wrong("I10: workspace %u is made again, but %s is there", w, b->name);
}

void model_stop(const Container *b) {
        if (b->state == BOX_RUNNING && b->was_good && is_current(b) && !has_open_job(place_of(b->workspace)))
                wrong("I9: %s is stopped, and no job says so", b->name);
}

void model_erase(const char *workspace) {
        unsigned w = place_of(workspace);

        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (sim_jobs[i].workspace == w && sim_jobs[i].kind == DEPROVISION && sim_jobs[i].prune && sim_jobs[i].handed && !sim_jobs[i].end[0])
                        return;
        if (has_data[w])
                wrong("I10: the volumes of workspace %u are erased, and no job says so", w);
}

/* ── what the agent says ─────────────────────────────────────────────────────────────────────────────────────── */

static bool higher(const SimJob *j) {
        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (sim_jobs[i].workspace == j->workspace && sim_jobs[i].generation > j->generation && sim_jobs[i].handed && sim_jobs[i].what != REFUSED)
                        return true;
        return false;
}

/* It may have left nothing that can be made anew: a provision that cannot serve, a removal that stopped half-way. */
static bool lower_bad(const SimJob *j) {
        for (unsigned i = 0; i < n_sim_jobs; i++) {
                const SimJob *other = &sim_jobs[i];

                if (other->workspace == j->workspace && other->generation < j->generation &&
                    (other->what == BAD || (other->kind == DEPROVISION && strcmp(other->end, "failed") == 0)))
                        return true;
        }
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
        if (j->end[0]) {
                if (strcmp(j->end, state) != 0)
                        wrong("I4: %s ended %s, and now %s", j->id, j->end, state);
                return;
        }
        (void) snprintf(j->end, sizeof j->end, "%s", state);
        trace("  %s (%u.%llu) ended %s: %s", j->id, j->workspace, (unsigned long long) j->generation, state, json_get_string(r, "message"));
        if (!j->handed)
                wrong("I3: %s ended, but was never handed out", j->id);
        if (!may_end(j, state))
                wrong("%s (%u.%llu) must not end %s: %s", j->id, j->workspace, (unsigned long long) j->generation, state, json_get_string(r, "message"));
        if (strcmp(state, "succeeded") == 0 && j->kind == DEPROVISION && !j->gone)
                wrong("I3: %s is done, but workspace %u was there all the time", j->id, j->workspace);
        if (strcmp(state, "succeeded") == 0)
                note_stopped(j);
        if (strcmp(state, "succeeded") == 0 && j->kind != DEPROVISION && !j->good)
                wrong("I3: %s is done, but nothing of it ever served", j->id);
        if (strcmp(state, "succeeded") == 0 && j->kind == DEPROVISION) {
                if (settled[j->workspace] <= j->generation)     /* a later one may serve since, and be told of in the same breath */
                        settled[j->workspace] = 0;
                half_gone[j->workspace] = false;
        }
        if (strcmp(state, "failed") == 0 && j->kind == DEPROVISION)
                half_gone[j->workspace] = true;
        if (strcmp(state, "failed") == 0 && j->kind == PROVISION && settled[j->workspace] == j->generation)
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

                if (!j)
                        continue;
                if (strcmp(state, "accepted") == 0)
                        j->accepted = true;
                else if (strcmp(state, "running") != 0)
                        said_final(j, r, state);
        }
}

/* ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Which provision should run in the end: that of the newest accepted spec job, or what served before it where that came to nothing. */
static bool workspace_is_right(unsigned w, char *why, size_t size) {
        const SimJob *newest = newest_accepted(w);
        bool stays = newest && (newest->kind == PROVISION || strcmp(newest->end, "failed") == 0);       /* or was made again after a removal that failed */
        uint64_t want = stays ? settled[w] : 0;
        const Container *b, *found = NULL;
        unsigned n = 0;

        TAILQ_FOREACH(b, &boxes, link)
                if (strcmp(b->workspace, workspace_ids[w]) == 0) {
                        found = b;
                        n++;
                }
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
        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (!sim_jobs[i].delivered)
                        return snprintf(why, size, "I1: %s (%u.%llu, handed out %u times%s) has no end at the control plane", sim_jobs[i].id, sim_jobs[i].workspace,
                                        (unsigned long long) sim_jobs[i].generation, sim_jobs[i].handed, sim_jobs[i].accepted ? ", accepted" : ""), false;
        for (unsigned w = 0; w < n_workspaces; w++)
                if (!workspace_is_right(w, why, size))
                        return false;
        return true;
}
