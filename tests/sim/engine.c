/* SPDX-License-Identifier: Apache-2.0 */

/* What the engine has: containers and their life, volumes, and whether it is there itself. What an image does is its number: the good ones serve after a while, the
 * bad one ends at once and again. Every change is told to the judge, and those that dockerd would tell in its events to whoever listens. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/engine.h"

struct BoxList boxes = TAILQ_HEAD_INITIALIZER(boxes);
bool engine_is_up = true;

struct VolumeList volumes = TAILQ_HEAD_INITIALIZER(volumes);
Request *listener;

static const char *const digests[IMAGES] = {
        "sha256:1111111111111111111111111111111111111111111111111111111111111111", "sha256:2222222222222222222222222222222222222222222222222222222222222222",
        "sha256:3333333333333333333333333333333333333333333333333333333333333333", "sha256:badbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbad0",
};

const char *image_digest(int image) { return digests[image]; }

const char *image_ref(int image) {
        static char text[200];

        (void) snprintf(text, sizeof text, "registry.moleculesai.app/sim/image@%s", digests[image]);
        return text;
}

int image_of(const char *text) {
        for (int i = 0; i < IMAGES; i++)
                if (strstr(text, digests[i] + 7))
                        return i;
        return -1;
}

bool box_is_up(const Container *b) { return b->state == BOX_RUNNING; }

/* ── looking things up ───────────────────────────────────────────────────────────────────────────────────────── */

Container *box_find(const char *id_or_name) {
        Container *b;

        TAILQ_FOREACH(b, &boxes, link)
                if (strcmp(b->id, id_or_name) == 0 || strcmp(b->name, id_or_name) == 0)
                        return b;
        return NULL;
}

Volume *volume_find(const char *name) {
        Volume *v;

        TAILQ_FOREACH(v, &volumes, link)
                if (strcmp(v->name, name) == 0)
                        return v;
        return NULL;
}

Volume *configs_of(const char *workspace) {
        char name[100];

        (void) snprintf(name, sizeof name, "ws-%s-configs", workspace);
        return volume_find(name);
}

unsigned boxes_of(const char *workspace, const Container **ret) {
        const Container *b, *last = NULL;
        unsigned n = 0;

        TAILQ_FOREACH(b, &boxes, link)
                if (strcmp(b->workspace, workspace) == 0) {
                        last = b;
                        n++;
                }
        if (ret)
                *ret = last;
        return n;
}

bool box_has_secret(const Container *b, const char *value) {
        char path[300], text[64] = "";
        FILE *f;

        (void) snprintf(path, sizeof path, "%s/secrets/API_TOKEN", b->secrets ?: "");
        f = fopen(path, "re");
        if (f && !fgets(text, sizeof text, f))
                text[0] = 0;
        if (f)
                (void) fclose(f);
        return strcmp(text, value) == 0;
}

unsigned volumes_of(const char *workspace) {
        unsigned n = 0;
        Volume *v;

        TAILQ_FOREACH(v, &volumes, link)
                n += strncmp(v->name + 3, workspace, UUID_SIZE - 1) == 0;
        return n;
}

Kept *kept_find(Volume *v, const char *name) {
        for (size_t i = 0; v && i < v->n; i++)
                if (strcmp(v->files[i].name, name) == 0)
                        return &v->files[i];
        return NULL;
}

bool volume_has(const char *workspace, const char *file, const char *content) {
        const Kept *k = kept_find(configs_of(workspace), file);
        return k && k->size == strlen(content) && memcmp(k->data, content, k->size) == 0;
}

/* ── the life of a container ─────────────────────────────────────────────────────────────────────────────────── */

static void tell_event(const char *action, const Container *b) {
        static const char *const told[] = { "start", "die", "destroy" };
        char line[600];
        bool tells = false;

        for (size_t i = 0; i < ELEMENTS(told); i++)
                tells |= strcmp(action, told[i]) == 0;
        if (!tells || !engine_is_up || !listener || !client_waits(listener))
                return;
        (void) snprintf(line, sizeof line, "{\"Type\":\"container\",\"Action\":\"%s\",\"Actor\":{\"ID\":\"%s\",\"Attributes\":{\"%s\":\"%s\",\"exitCode\":\"%d\"}},\"timeNano\":%llu000}\n",
                        action, b->id, LABEL_WORKSPACE, b->workspace, b->exit_code, (unsigned long long) sim_true_time());
        answer_piece(listener, line);
}

void changed(const char *what, Container *b) {
        tell_event(what, b);
        model_engine(what, b);
}

typedef struct Run { char id[65]; unsigned run; } Run;

static void run_later(uint64_t usec, const Container *b, void (*fn)(void *userdata)) {
        Run *r = calloc(1, sizeof *r);

        if (!r)
                abort();
        (void) snprintf(r->id, sizeof r->id, "%s", b->id);
        r->run = b->run;
        (void) task_after(usec, fn, r);
}

/* The container, if it is still in that run. */
static Container *run_of(void *userdata) {
        Run *r = userdata;
        Container *b = box_find(r->id);
        bool same = b && b->run == r->run;

        free(r);
        return same ? b : NULL;
}

static void on_again(void *userdata) {
        Container *b = run_of(userdata);

        if (b && b->state == BOX_RESTARTING) {
                b->restarts++;
                box_begin(b);
        }
}

/* Its process ended of itself: unless-stopped. */
static void box_crash(Container *b, int code) {
        uint64_t pause = 100 * USEC_PER_MSEC << (b->restarts < 9 ? b->restarts : 9);

        b->exit_code = code;
        b->state = BOX_RESTARTING;
        b->probes = 0;
        changed("die", b);
        run_later(pause, b, on_again);
}

static void on_crash(void *userdata) {
        Container *b = run_of(userdata);

        if (b && b->state == BOX_RUNNING)
                box_crash(b, 1);
}

void box_begin(Container *b) {
        b->state = BOX_RUNNING;
        b->stopped = false;
        b->run++;
        b->probes = 0;
        b->started_at = sim_true_time();
        b->ready_at = sim_now + between(10, 3000) * USEC_PER_MSEC;
        if (b->image == IMAGE_BAD)
                run_later(between(1, 800) * USEC_PER_MSEC, b, on_crash);
        changed("start", b);
}

bool has_mounts(const Container *b) { return !b->secrets || access(b->secrets, F_OK) == 0; }

void box_end(Container *b, bool by_somebody) {
        b->stopped = b->stopped || by_somebody;
        if (b->state != BOX_RUNNING && b->state != BOX_RESTARTING)
                return;
        b->state = BOX_EXITED;
        b->exit_code = 143;
        b->run++;
        changed("die", b);
}

void box_remove(Container *b) {
        box_end(b, true);
        TAILQ_REMOVE(&boxes, b, link);
        changed("destroy", b);
        cJSON_Delete(b->labels);
        free(b->secrets);
        free(b);
}

void engine_down(bool with_boxes) {
        Container *b;

        trace("---- the engine goes%s", with_boxes ? ", with what it runs" : "");
        engine_is_up = false;
        if (listener && client_waits(listener))
                answer_break(listener, -ECONNRESET);
        listener = NULL;
        TAILQ_FOREACH(b, &boxes, link)
                if (with_boxes)
                        box_end(b, false);
}

void engine_up(void) {
        Container *b;

        trace("---- the engine is there");
        engine_is_up = true;
        TAILQ_FOREACH(b, &boxes, link)
                if (b->state == BOX_EXITED && !b->stopped && has_mounts(b))
                        box_begin(b);
}

void engine_hit(void) {
        Container *b, *hit = NULL;
        unsigned n = 0;

        TAILQ_FOREACH(b, &boxes, link)
                if (b->state == BOX_RUNNING && dice(++n) == 0)
                        hit = b;
        if (!hit)
                return;
        n = (unsigned) dice(3);
        model_hit(hit);
        trace("---- somebody %s %s", n == 0 ? "stops" : n == 1 ? "kills" : "removes", hit->name);
        if (n == 0)
                box_end(hit, true);
        else if (n == 1)
                box_crash(hit, 137);
        else
                box_remove(hit);
}
