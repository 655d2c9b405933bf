/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A world behind an engine's socket: containers that are made, run, are renamed and go; volumes with what was put into them; a page that answers when a
 * workspace is asked. The n-th question about containers, volumes, networks and images goes wrong as it is told to. What is in it stands in memory that the
 * test shares with the server. */

#include "engine/tar.h"
#include "tests/server.h"

#define WORLD_THINGS 8

typedef enum Wrong {
        WRONG_500,                      /* refused, for so many questions as an engine's stumble is asked again */
        WRONG_ONCE,                     /* the same once */
        WRONG_404,                      /* somebody else took the thing away */
        WRONG_409,
        WRONG_REFUSED,
        WRONG_REFUSED_AGAIN,            /* the same twice */
        WRONG_LOST,                     /* done, and the answer is lost; and once more, for libcurl asks again by itself */
        WRONG_AWAY,                     /* the same for longer than an engine is waited for */
        WRONG_NONSENSE,                 /* done, and the answer is no answer */
        WRONG_PORT,                     /* a port that is taken, until another is tried */
        _WRONG_MAX,
} Wrong;

typedef struct WorldThing { bool there, running, created, crashes, dead, barred, netless; unsigned starts; char id[16], name[80], labels[1500]; } WorldThing;

typedef struct World {
        _Atomic int asked, wrong_at, wrong_left, wrongs;        /* wrong_at: at which question from now; 0: none */
        Wrong       wrong;
        unsigned    made, page_status;
        bool        no_command, present, crash, other_image, large;     /* crash: of what is made, again and again; other_image: is what the newest
                                                                         * runs; large: is each file that is read */
        int         lost_write;         /* the n-th archive from now is taken, and nothing of it is kept; 0: none */
        unsigned    bytes, users;       /* of each volume */
        bool        no_labels;          /* volumes are made without them */
        bool        volumes_held;       /* none goes: something else uses them */
        int         late;               /* before the next so many containers comes one of that name that an earlier job had asked for */
        int         barred;             /* the next so many containers cannot be started: a task of that id was left beneath the engine */
        int         taken;              /* the next so many starts are told that somebody else has the port */
        bool        entrypoint;         /* images have one, in place of a command */
        bool        bare;               /* an inspect tells neither when it started nor where it is */
        bool        restarting;         /* what does not run is said to be restarting */
        bool        other_listed;       /* a list says another image */
        WorldThing  containers[WORLD_THINGS], volumes[WORLD_THINGS];
        size_t      tar_size;
        char        tar[65536], last_wrong[200];
} World;

static World *world;
static int world_lock = -1;             /* one question at a time; the kernel lets go where the one who holds it ends */

static inline void world_prepare(void) {
        world = server_shared(sizeof *world);
        world_lock = memfd_create("world", MFD_CLOEXEC);
        if (world_lock < 0)
                abort();
}

static inline void world_json(const ServerRequest *q, int status, const char *body) { server_answer(q, status, "Content-Type: application/json\r\n", body); }

static inline void world_refuse(const ServerRequest *q, int status, const char *message) {
        char body[200];

        (void) snprintf(body, sizeof body, "{\"message\":\"%s\"}", message);
        world_json(q, status, body);
}

/* The thing whose id or name is the beginning of s, up to a '/', a '?' or its end. */
static inline WorldThing *world_find(WorldThing *things, const char *s) {
        size_t n = strcspn(s, "/?");

        for (int i = 0; i < WORLD_THINGS; i++) {
                WorldThing *t = &things[i];

                if (t->there && ((strlen(t->id) == n && strncmp(t->id, s, n) == 0) || (strlen(t->name) == n && strncmp(t->name, s, n) == 0)))
                        return t;
        }
        return NULL;
}

static inline WorldThing *world_add(WorldThing *things, const char *name, const char *body) {
        const char *labels = strstr(body, "\"Labels\":{");

        for (int i = 0; i < WORLD_THINGS; i++) {
                WorldThing *t = &things[i];

                if (t->there)
                        continue;
                *t = (WorldThing) { .there = true, .created = true, .crashes = world->crash };
                (void) snprintf(t->id, sizeof t->id, "c%u", ++world->made);
                (void) snprintf(t->name, sizeof t->name, "%.*s", (int) strcspn(name, "&\""), name);
                (void) snprintf(t->labels, sizeof t->labels, "%.*s", labels ? (int) strcspn(labels + 9, "}") + 1 : 2, labels ? labels + 9 : "{}");
                return t;
        }
        abort();
}

static inline const char *world_status(const WorldThing *t) { return t->running ? "running" : t->created ? "created" : "exited"; }

static inline const WorldThing *world_newest(void) {
        const WorldThing *best = NULL;

        for (int i = 0; i < WORLD_THINGS; i++)
                if (world->containers[i].there && (!best || atoi(world->containers[i].id + 1) > atoi(best->id + 1)))
                        best = &world->containers[i];
        return best;
}

static inline void world_inspect(const ServerRequest *q, const WorldThing *t) {
        char body[3000], started[40] = "";

        if (!world->bare)
                (void) snprintf(started, sizeof started, ",\"StartedAt\":\"%u\"", t->starts);

        (void) snprintf(body, sizeof body, "{\"Id\":\"%s\",\"Name\":\"/%s\",\"Image\":\"sha256:%s\",\"RestartCount\":%d,\"State\":{\"Status\":\"%s\","
                        "\"Running\":%s,\"Restarting\":%s,\"ExitCode\":1%s},\"Config\":{\"Labels\":%s}%s}", t->id, t->name,
                        world->other_image && t == world_newest() ? "5678" : "1234", t->crashes && t->starts == 1 ? 9 : 0,
                        world_status(t), t->running ? "true" : "false", world->restarting && !t->running ? "true" : "false", started, t->labels,
                        world->bare ? "" : ",\"NetworkSettings\":{\"Networks\":{\"n\":{\"IPAddress\":\"172.18.0.2\"}}}");
        world_json(q, 200, body);
}

static inline void world_list(const ServerRequest *q) {
        static char body[WORLD_THINGS * 2000];
        size_t n = 1;

        strcpy(body, "[");
        for (int i = 0; i < WORLD_THINGS; i++) {
                const WorldThing *t = &world->containers[i];

                if (t->there)
                        n += (size_t) snprintf(body + n, sizeof body - n, "%s{\"Id\":\"%s\",\"Names\":[\"/%s\"],\"ImageID\":\"sha256:%s\",\"State\":\"%s\","
                                               "\"Labels\":%s}", n > 1 ? "," : "", t->id, t->name,
                                               world->other_listed ? "5678" : "1234", world_status(t), t->labels);
        }
        strcpy(body + n, "]");
        world_json(q, 200, body);
}

/* A file that was put there, as an archive of its own. */
static inline void world_archive(const ServerRequest *q, const char *path) {
        static const char zeros[23 << 20];
        const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
        size_t offset = 0;
        Tar t = {};
        TarEntry e;

        name = strstr(path, "%2F") ? strrchr(path, 'F') + 1 : name;
        while (tar_next(world->tar, world->tar_size, &offset, &e, NULL) > 0) {
                const char *base = strrchr(e.name, '/') ? strrchr(e.name, '/') + 1 : e.name;

                if (e.type != '0' || strcmp(base, name) != 0)
                        continue;
                if (tar_add_dir(&t, "beside", 0755, 0, 0) < 0 ||
                    tar_add_file(&t, base, 0644, 0, 0, world->large ? zeros : e.data, world->large ? sizeof zeros : e.size) < 0 || tar_end(&t) < 0)
                        abort();
                server_say(q, "HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nContent-Length: %zu\r\n\r\n", t.size);
                server_say_bytes(q, t.data, t.size);
                tar_done(&t);
                return;
        }
        world_refuse(q, 404, "no such file");
}

static inline void world_container(const ServerRequest *q, const char *rest) {
        WorldThing *t = world_find(world->containers, rest);
        const char *verb = strchr(rest, '/');

        if (!t) {
                world_refuse(q, 404, "No such container");
                return;
        }
        if (strcmp(q->method, "DELETE") == 0)
                t->there = false;
        else if (strncmp(verb, "/json", 5) == 0) {
                world_inspect(q, t);
                return;
        } else if (strncmp(verb, "/logs", 5) == 0) {
                server_answer(q, 200, "Content-Type: application/octet-stream\r\n", "");
                return;
        } else if (strncmp(verb, "/archive", 8) == 0 && strcmp(q->method, "GET") == 0) {
                world_archive(q, verb);
                return;
        } else if (strncmp(verb, "/archive", 8) == 0 && !(world->lost_write > 0 && --world->lost_write == 0)) {
                world->tar_size = q->body_size < sizeof world->tar ? q->body_size : 0;
                memcpy(world->tar, q->body, world->tar_size);
        } else if (strncmp(verb, "/start", 6) == 0 && t->barred) {
                world_refuse(q, 500, "task 0123abcd: already exists");
                return;
        } else if (strncmp(verb, "/start", 6) == 0 && t->netless) {
                world_refuse(q, 404, "network molecule not found");
                return;
        } else if (strncmp(verb, "/start", 6) == 0 && world->taken > 0) {
                world->taken--;
                world_refuse(q, 500, "driver failed: port is already allocated");
                return;
        } else if (strncmp(verb, "/start", 6) == 0) {
                t->starts += !t->running;
                t->running = !t->dead;
                t->created = false;
        } else if (strncmp(verb, "/stop", 5) == 0)
                t->running = false;
        else if (strncmp(verb, "/rename", 7) == 0) {
                const char *name = strstr(verb, "name=") + 5;

                if (world_find(world->containers, name)) {
                        world_refuse(q, 409, "Conflict. The container name is already in use by container abc");
                        return;
                }
                (void) snprintf(t->name, sizeof t->name, "%s", name);
        }
        world_json(q, 200, "{}");
}

static inline void world_volume(const ServerRequest *q, const char *name) {
        WorldThing *v = world_find(world->volumes, name);
        char body[2000];

        if (!v) {
                world_refuse(q, 404, "no such volume");
                return;
        }
        if (strcmp(q->method, "DELETE") == 0 && world->volumes_held) {
                world_refuse(q, 409, "volume is in use");
                return;
        }
        if (strcmp(q->method, "DELETE") == 0)
                v->there = false;
        (void) snprintf(body, sizeof body, "{\"Name\":\"%s\",\"Labels\":%s}", v->name, v->labels);
        world_json(q, 200, body);
}

static inline void world_make_volume(const ServerRequest *q) {
        char name[80];

        (void) snprintf(name, sizeof name, "%.*s", (int) strcspn(strstr(q->body, "\"Name\":\"") + 8, "\""), strstr(q->body, "\"Name\":\"") + 8);
        if (!world_find(world->volumes, name))
                (void) world_add(world->volumes, name, world->no_labels ? "" : q->body);
        world_volume(q, name);
}

static inline void world_usage(const ServerRequest *q) {
        static char body[WORLD_THINGS * 2000];
        size_t n = (size_t) snprintf(body, sizeof body, "{\"Volumes\":[");

        for (int i = 0; i < WORLD_THINGS; i++) {
                const WorldThing *v = &world->volumes[i];

                if (v->there)
                        n += (size_t) snprintf(body + n, sizeof body - n, "%s{\"Name\":\"%s\",\"Labels\":%s,\"Options\":null,\"UsageData\":{\"RefCount\":%u,"
                                               "\"Size\":%u}}", body[n - 1] == '[' ? "" : ",", v->name, v->labels, world->users, world->bytes);
        }
        strcpy(body + n, "]}");
        world_json(q, 200, body);
}

static inline void world_make_container(const ServerRequest *q, const char *name) {
        WorldThing *t;
        char body[60];

        if (world->late > 0) {
                char *job = strstr(world_add(world->containers, name, q->body)->labels, "\"" LABEL_JOB "\":\"");

                world->late--;
                if (job)
                        job[sizeof LABEL_JOB + 3] ^= 1;
        }
        if (world_find(world->containers, name)) {
                world_refuse(q, 409, "Conflict. The container name is already in use by container abc");
                return;
        }
        t = world_add(world->containers, name, q->body);
        t->barred = world->barred > 0 && world->barred-- > 0;
        (void) snprintf(body, sizeof body, "{\"Id\":\"%s\"}", t->id);
        world_json(q, 201, body);
}

static inline void world_image(const ServerRequest *q, const char *path) {
        const char *digest = strstr(path, "sha256");
        char body[400];

        if (!world->present || !digest)
                world_refuse(q, 404, "No such image");
        else {
                (void) snprintf(body, sizeof body, "{\"Id\":\"sha256:1234\",\"RepoDigests\":[\"registry.example/codex@sha256:%.64s\"],\"Size\":4000000%s}",
                                digest + (strncmp(digest + 6, "%3A", 3) == 0 ? 9 : 7), world->no_command ? "" : world->entrypoint ? ",\"Config\":{\"Entrypoint\":[\"run\"]}" : ",\"Config\":{\"Cmd\":[\"run\"]}");
                world_json(q, 200, body);
        }
}

static inline void world_do(const ServerRequest *q, const char *path) {
        if (strncmp(path, "/images/", 8) == 0)
                world_image(q, path);
        else if (strncmp(path, "/networks/", 10) == 0)
                world_json(q, 200, "{\"Name\":\"n\"}");
        else if (strncmp(path, "/containers/json", 16) == 0)
                world_list(q);
        else if (strncmp(path, "/containers/create?name=", 24) == 0)
                world_make_container(q, path + 24);
        else if (strncmp(path, "/containers/", 12) == 0)
                world_container(q, path + 12);
        else if (strcmp(path, "/system/df?type=volume") == 0)
                world_usage(q);
        else if (strcmp(path, "/volumes/create") == 0)
                world_make_volume(q);
        else if (strncmp(path, "/volumes/", 9) == 0)
                world_volume(q, path + 9);
        else
                world_refuse(q, 404, "page not found");
}

static inline void world_take_away(const char *path) {
        WorldThing *t = strncmp(path, "/containers/", 12) == 0 ? world_find(world->containers, path + 12) :
                        strncmp(path, "/volumes/", 9) == 0     ? world_find(world->volumes, path + 9) : NULL;

        if (t && !strstr(path, "/archive"))
                t->there = t->running = false;
}

/* True where the question was answered wrongly; where it is to be done first, the caller sees that by the count. What goes wrong several times is one
 * question: others come in between. */
static inline bool world_go_wrong(const ServerRequest *q, const char *path) {
        static const struct { int status, times; } ways[_WRONG_MAX] = {
                [WRONG_500] = { 500, 3 }, [WRONG_ONCE] = { 500, 1 }, [WRONG_404] = { 404, 1 }, [WRONG_409] = { 409, 1 },
                [WRONG_REFUSED] = { 400, 1 }, [WRONG_REFUSED_AGAIN] = { 400, 2 }, [WRONG_PORT] = { 500, 2 },
                [WRONG_LOST] = { 0, 2 }, [WRONG_AWAY] = { 0, 20 }, [WRONG_NONSENSE] = { 0, 1 },
        };
        char question[sizeof world->last_wrong];

        (void) snprintf(question, sizeof question, "%s %.150s", q->method, path);
        if (world->wrong_left > 0 ? strcmp(question, world->last_wrong) != 0 : world->wrong_at == 0 || --world->wrong_at > 0)
                return false;
        if (world->wrong_left == 0)
                world->wrong_left = ways[world->wrong].times;
        world->wrong_left--;
        world->wrongs++;
        (void) strcpy(world->last_wrong, question);
        if (world->wrong == WRONG_404)
                world_take_away(path);
        if (ways[world->wrong].status == 0)
                return false;
        world_refuse(q, ways[world->wrong].status, world->wrong != WRONG_PORT ? "words of the engine" :
                     world->wrong_left ? "driver failed: port is already allocated" : "listen tcp4: address already in use");
        return true;
}

static inline bool world_events(const ServerRequest *q) {
        server_say(q, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
        server_wait_closed(q);
        return false;
}

/* Done, and what is answered goes nowhere: into a pair of sockets whose other end nobody reads. */
static inline void world_do_unheard(const ServerRequest *q, const char *path) {
        ServerRequest away = *q;
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, pair) < 0)
                abort();
        away.fd = pair[0];
        world_do(&away, path);
        close(pair[0]);
        close(pair[1]);
}

static inline bool world_serve(const ServerRequest *q) {
        const char *path = q->path;
        int before;
        Wrong wrong;

        if (strcmp(path, "/version") == 0)
                world_json(q, 200, "{\"Version\":\"20.10.24\",\"ApiVersion\":\"1.41\",\"MinAPIVersion\":\"1.12\"}");
        else if (strcmp(path, "/v1.41/info") == 0)
                world_json(q, 200, "{\"Driver\":\"overlay2\",\"CgroupDriver\":\"systemd\",\"DockerRootDir\":\"/tmp\"}");
        else if (strncmp(path, "/v1.41/events?", 14) == 0)
                return world_events(q);
        else if (strncmp(path, "/v1.41/", 7) != 0)
                server_answer(q, (int) world->page_status, "", "page");         /* a workspace's own */
        else {
                if (lockf(world_lock, F_LOCK, 0) < 0)
                        abort();
                world->asked++;
                before = world->wrongs;
                wrong = world->wrong;
                if (!world_go_wrong(q, path + 6)) {
                        if (world->wrongs == before)
                                world_do(q, path + 6);
                        else {
                                world_do_unheard(q, path + 6);
                                if (wrong == WRONG_NONSENSE)
                                        world_json(q, 200, "[{\"nonsense\":true}]");
                        }
                }
                if (lockf(world_lock, F_ULOCK, 0) < 0)
                        abort();
                if (world->wrongs != before && (wrong == WRONG_LOST || wrong == WRONG_AWAY))
                        server_reset(q);
        }
        return true;
}
