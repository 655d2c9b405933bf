/* SPDX-License-Identifier: Apache-2.0 */

/* base/conf and agent/config: what reads as settings reads as the same line by line; and whatever configuration is taken, from a file or, behind a byte 1e, from the
 * environment (NAME=VALUE), is the same one when it comes back from config.good. What is shown of it holds no user and password of a proxy. */

#include <errno.h>
#include <sys/mman.h>

#include "agent/config.h"
#include "base/conf.h"
#include "base/text.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"

#define KEYS   "abcdefghijklmnopqrstuvwxyz0123456789_"
#define PREFIX "MOLECULE_AGENT_"

typedef struct Seen { unsigned settings, last; uint64_t sum; } Seen;

static int on_setting(const char *file, unsigned line, const char *key, const char *value, void *userdata, Fault *reterr) {
        size_t n = strlen(value);
        Seen *s = userdata;

        (void) file;
        (void) reterr;
        MUST(key[0] && !key[strspn(key, KEYS)] && line > s->last);
        MUST(n == 0 || (value[0] != ' ' && value[n - 1] != ' '));
        for (size_t i = 0; i < n; i++)
                MUST((uint8_t) value[i] >= 0x20 && value[i] != 0x7f && (i == 0 || utf8_length(value, n) > 0));
        s->last = line;
        s->settings++;
        s->sum = s->sum * 31 + fuzz_number((const uint8_t *) key, strlen(key)) + fuzz_number((const uint8_t *) value, n);
        return 0;
}

/* A file that is good is good up to each of its lines; one that is not says in which it stopped. */
static void line_by_line(const char *text, size_t size) {
        Seen all = {}, part = {};
        Fault f = {};
        int r = conf_parse("x", text, size, "agent", on_setting, &all, &f);
        size_t half = size / 2;

        MUST((r == 0 && !f.set) || (r == -EBADMSG && f.set && f.code == FAULT_CONFIG_INVALID && strncmp(f.text, "x:", 2) == 0));
        while (half > 0 && text[half - 1] != '\n')
                half--;
        if (r == 0)
                MUST(conf_parse("x", text, half, "agent", on_setting, &part, NULL) == 0 && part.settings <= all.settings);
        part = (Seen) {};
        MUST(conf_parse("x", text, size, "agent", on_setting, &part, NULL) == r && part.sum == all.sum);
}

static void shown(const Config *c) {
        _cleanup_json_ cJSON *list = config_list(c);
        const char *at = c->proxy ? strrchr(c->proxy, '@') : NULL, *value = json_get_string(json_find(list, "key", "proxy"), "value");
        const char *host = c->proxy ? strstr(c->proxy, "://") : NULL;

        MUST(list && value);
        if (!at)
                return;
        host = host && host < at ? host + 3 : c->proxy;
        MUST(strlen(value) == strlen(c->proxy) - (size_t) (at - host) + 3 && strcmp(value + (host - c->proxy) + 3, at) == 0);
}

static void comes_back(const Config *c) {
        _cleanup_json_ cJSON *keys = cJSON_CreateArray();
        char before[HASH_TEXT_SIZE], after[HASH_TEXT_SIZE];
        _cleanup_(config_freep) Config *back = NULL;

        MUST(config_save_good(scratch(), c) == 0 && config_hash(c, before) == 0);
        MUST(config_load_good(scratch(), &back, NULL) == 0);
        MUST(config_hash(back, after) == 0 && strcmp(before, after) == 0);
        MUST(keys && config_differences(c, back, keys) && cJSON_GetArraySize(keys) == 0);
}

static void settings_of(Config *c) {
        MUST(!c->require_signed_jobs == !c->trusted.n && c->port_low <= c->port_high && c->port_high <= UINT16_MAX && c->gc_low_percent < c->gc_high_percent);
        MUST(!c->org_id || uuid_is_valid(c->org_id));
        shown(c);
        comes_back(c);
}

/* Opened by its path, as an operator's file is. */
static const char *file_of(const char *text, size_t size) {
        static char path[64];
        static int fd = -1;

        if (fd < 0) {
                fd = memfd_create("agent.conf", MFD_CLOEXEC);
                (void) snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
                for (char **e = environ; e && *e;)             /* of the caller's nothing counts */
                        if (strncmp(*e, "MOLECULE_", 9) == 0 || strncmp(*e, "TIER", 4) == 0)
                                (void) unsetenv(strndupa(*e, strcspn(*e, "=")));
                        else
                                e++;
        }
        if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, text, size, 0) != (ssize_t) size)
                abort();
        return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const uint8_t *mark = size ? memchr(data, 0x1e, size) : NULL;
        size_t n = mark ? (size_t) (mark - data) : size;
        _cleanup_free_ char *environment = fuzz_text(mark ? mark + 1 : data, mark ? size - n - 1 : 0), *name = NULL;
        _cleanup_(config_freep) Config *c = NULL;
        const char *path = file_of((const char *) data, n), *equals = strchr(environment, '=');
        Fault f = {};
        int r;

        line_by_line((const char *) data, n);
        if (equals && equals > environment) {
                name = str_printf(PREFIX "%.*s", (int) (equals - environment), environment);
                MUST(name && setenv(name, equals + 1, 1) == 0);
        }
        r = config_load(path, false, &c, &f);
        if (name)
                (void) unsetenv(name);
        MUST((r == 0) == !f.set && (r < 0 || c));
        if (r == 0)
                settings_of(c);
        return 0;
}
