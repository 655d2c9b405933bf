/* SPDX-License-Identifier: Apache-2.0 */

/* A host's past, by the code that writes it: so many settled workspaces, each with its record, its sealed payload, its key and its set of one secret,
 * as a provision leaves them. The agent that owns STATE must not run; it has run once, so that there are a host id and root keys.
 *
 *      bench-fill STATE ORG HOST IMAGE-REF COUNT       prints "WORKSPACE JOB CONTAINER" of each
 *
 * The containers are nobody's: whoever lists them makes them up from what is printed. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/retry.h"
#include "provision/report.h"
#include "provision/workspace.h"

#define PORT_FIRST 20000

typedef struct Host {
        int         state_fd;
        const char *org, *id, *image_ref;
        Arena      *arena;
        Keys       *keys;
        WorkspaceDir dir;
} Host;

static Host host_open(char **words, Fault *reterr) {
        Host h = { .state_fd = open(words[0], O_RDONLY|O_DIRECTORY|O_CLOEXEC), .org = words[1], .id = words[2], .image_ref = words[3] };
        RootChecks checks = {};
        bool changed;

        h.dir.fd = h.state_fd < 0 ? -1 : file_open_dir(h.state_fd, "ws");
        h.dir.rescue_fd = h.state_fd < 0 ? -1 : file_open_dir(h.state_fd, "rescue");
        if (h.dir.fd < 0 || h.dir.rescue_fd < 0)
                (void) fault(reterr, -EIO, FAULT_INTERNAL, "%s cannot be opened.", words[0]);
        else if (arena_new(ARENA_SIZE, true, &h.arena, reterr) >= 0 && keys_open(h.state_fd, h.arena, &checks, &changed, &h.keys, reterr) >= 0)
                (void) vault_new(h.state_fd, h.keys, h.org, &h.dir.vault, reterr);
        return h;
}

static void host_done(Host *h) {
        vault_free(h->dir.vault);
        keys_free(h->keys);
        arena_free(h->arena);
        if (h->dir.fd >= 0)
                (void) close(h->dir.fd);
        if (h->dir.rescue_fd >= 0)
                (void) close(h->dir.rescue_fd);
        if (h->state_fd >= 0)
                (void) close(h->state_fd);
}

static Job *job_make(const Host *h, const char *workspace, const char *job_id, Fault *reterr) {
        JobRules rules = { .org_id = h->org, .host_id = h->id, .spec = { .max_tier = 2 } };
        char *text = str_printf(
                "{\"job_id\":\"%s\",\"type\":\"workspace.provision\",\"org_id\":\"%s\",\"host_id\":\"%s\",\"workspace_id\":\"%s\","
                "\"generation\":\"1\",\"issued_at\":\"2026-01-02T03:04:05Z\",\"spec\":{\"runtime\":\"langgraph\",\"tier\":2,"
                "\"platform_url\":\"https://platform.example.com\",\"env\":{\"DEMO_BENCH\":\"1\"},\"config_files\":{\"config.yaml\":\"b25l\"}}}",
                job_id, h->org, h->id, workspace);
        JobLabel label = {};
        Job *j = NULL;

        if (!text || job_parse(text, strlen(text), &rules, &label, &j, reterr) < 0) {
                free(text);
                return NULL;
        }
        job_keep(j, text, strlen(text));
        return j;
}

static int set_save(const Host *h, const char *workspace, Fault *reterr) {
        _cleanup_(secret_set_done) SecretSet set = {};
        Secret *value = secret_alloc(h->arena, 32);

        if (value)
                memset(value->data, 's', value->size);
        if (!value || secret_set_add(&set, "API_TOKEN", value) < 0)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        return vault_set_write(h->dir.vault, workspace, 1, &set, reterr);
}

/* As queue-end leaves it: wanted and settled are one, nothing is at work, its end is told. */
static int settle(Workspace *w, const Job *j, const char *image_ref, const char *container) {
        Report report = { .job_id = j->job_id, .type = "workspace.provision", .workspace_id = w->id, .generation = 1, .state = REPORT_SUCCEEDED,
                          .stage = STAGE_READY, .progress = 100 };
        cJSON *result = cJSON_CreateObject();

        if (!result || !json_add_string(result, "container_id", container))
                return -ENOMEM;
        w->spec_floor = 1;
        memcpy(w->spec_hash, j->payload_hash, sizeof w->spec_hash);
        memcpy(w->spec_job_id, j->job_id, sizeof w->spec_job_id);
        w->wanted = version_new(j, NULL);
        w->settled = version_new(j, image_ref);
        w->outcome = report_make(&report, result);
        w->outcome_acked = true;
        if (!w->wanted || !w->settled || !w->outcome)
                return -ENOMEM;
        w->settled->container_id = strdup(container);
        return w->settled->container_id ? 0 : -ENOMEM;
}

static int fill_one(const Host *h, size_t number, Fault *reterr) {
        char id[UUID_SIZE], job_id[UUID_SIZE], container[65];
        _cleanup_(workspace_freep) Workspace *w = NULL;
        _cleanup_(job_freep) Job *j = NULL;
        int r = uuid_make(id);

        if (r >= 0)
                r = uuid_make(job_id);
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "No random numbers.");
        (void) snprintf(container, sizeof container, "%016llx%016llx%016llx%016llx", (unsigned long long) random_u64(),
                        (unsigned long long) random_u64(), (unsigned long long) random_u64(), (unsigned long long) random_u64());
        j = job_make(h, id, job_id, reterr);
        w = workspace_new(id, 1);
        if (!j || !w || settle(w, j, h->image_ref, container) < 0)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        w->port = (uint16_t) (PORT_FIRST + number);
        r = payload_save(&h->dir, id, j, reterr);
        if (r >= 0)
                r = set_save(h, id, reterr);
        if (r >= 0)
                r = workspace_save(&h->dir, w, reterr);
        if (r >= 0)
                (void) printf("%s %s %s\n", id, job_id, container);
        return r;
}

int main(int argc, char **argv) {
        _cleanup_(host_done) Host h = { .state_fd = -1, .dir = { .fd = -1, .rescue_fd = -1 } };
        Fault why = {};

        if (argc != 6 || hash_init() < 0)
                return 2;
        h = host_open(argv + 1, &why);
        for (size_t i = 0; !why.set && i < strtoul(argv[5], NULL, 10); i++)
                (void) fill_one(&h, i, &why);
        if (why.set)
                (void) fprintf(stderr, "bench-fill: %s\n", why.text);
        return why.set ? 1 : 0;
}
