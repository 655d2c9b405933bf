/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/ids.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/ctl.h"

typedef struct Search {
        const char *given;
        char found[UUID_SIZE];
        unsigned n;
        char all[400];                  /* for the words, where there are several */
} Search;

static const struct {
        const char *what, *path, *member;
        const char *lists[2];
} kinds[] = {
        [ID_WORKSPACE] = { "workspace", "/v1/workspaces", "workspace_id", { "workspaces", NULL } },
        [ID_JOB] = { "job", "/v1/jobs?tail=1000", "job_id", { "jobs", "outcomes" } },
};

bool id_is_likely(const char *given) {
        size_t n = strlen(given);

        if (strncmp(given, "ws-", 3) == 0)
                given += 3, n -= 3;
        if (n == 0 || n >= UUID_SIZE)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!isxdigit((unsigned char) given[i]) && given[i] != '-')
                        return false;
        return true;
}

static void look(Search *s, const cJSON *list, const char *member) {
        const cJSON *item;

        cJSON_ArrayForEach(item, list) {
                const char *id = json_get_string(item, member);
                size_t used = strlen(s->all);

                if (!id || strlen(id) >= UUID_SIZE || strncasecmp(id, s->given, strlen(s->given)) != 0 || strcmp(id, s->found) == 0)
                        continue;
                (void) snprintf(s->found, sizeof s->found, "%s", id);
                (void) snprintf(s->all + used, sizeof s->all - used, "\n  %s", id);
                s->n++;
        }
}

bool id_among(const char *given, const cJSON *list, const char *member) {
        Search s = { .given = strncmp(given, "ws-", 3) == 0 ? given + 3 : given };

        look(&s, list, member);
        return s.n > 0;
}

int id_find(Client *c, IdKind kind, const char *given, char ret[static UUID_SIZE]) {
        _cleanup_json_ cJSON *json = NULL;
        Search s = { .given = strncmp(given, "ws-", 3) == 0 ? given + 3 : given };
        Fault why = {};
        int code;

        if (!id_is_likely(given)) {
                fprintf(stderr, "%s is no id of a %s, and no beginning of one: hexadecimal digits, as `molecule-agentctl %ss` shows them.\n", given,
                        kinds[kind].what, kinds[kind].what);
                return CTL_USAGE;
        }
        if (uuid_is_valid(s.given)) {
                (void) snprintf(ret, UUID_SIZE, "%s", s.given);
                return CTL_OK;
        }
        code = client_get(c, kinds[kind].path, &json, &why);
        if (code != CTL_OK)
                return client_say(code, &why);
        for (size_t i = 0; i < ELEMENTS(kinds[kind].lists) && kinds[kind].lists[i]; i++)
                look(&s, json_get(json, kinds[kind].lists[i]), kinds[kind].member);
        if (s.n == 1) {
                memcpy(ret, s.found, UUID_SIZE);
                return CTL_OK;
        }
        if (s.n)
                fprintf(stderr, "%s is the beginning of %u ids:%s\n", given, s.n, s.all);
        else
                fprintf(stderr, "No %s of this host has an id that begins with %s; `molecule-agentctl %ss` lists them.\n", kinds[kind].what, given,
                        kinds[kind].what);
        return s.n ? CTL_USAGE : CTL_FAILED;
}

const char *id_short(const char *id, char ret[static UUID_SIZE], bool whole) {
        (void) snprintf(ret, UUID_SIZE, "%.*s", whole ? UUID_SIZE - 1 : ID_SHORT_SIZE - 1, id ?: "-");
        return ret;
}

void id_print_all(const cJSON *list, const char *member) {
        const cJSON *item;

        cJSON_ArrayForEach(item, list)
                if (json_get_string(item, member))
                        puts(json_get_string(item, member));
}

bool id_short_will_do(const cJSON *list, const char *member) {
        const cJSON *x, *y;

        cJSON_ArrayForEach(x, list)
                cJSON_ArrayForEach(y, list) {
                        const char *a = json_get_string(x, member), *b = json_get_string(y, member);

                        if (a && b && strncmp(a, b, ID_SHORT_SIZE - 1) == 0 && strcmp(a, b) != 0)
                                return false;
                }
        return true;
}
