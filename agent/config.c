/* SPDX-License-Identifier: Apache-2.0 */

/* One row a setting: name, kind, place, default, limits, and the platform's name for it where there is one. The kinds are the only code. */

#include "agent/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api-metrics.h"
#include "base/conf.h"
#include "base/file.h"
#include "base/http.h"
#include "base/text.h"

#define CONFIG_FILE      "agent.conf"
#define CONFIG_DROPINS   "agent.conf.d"
#define CONFIG_DIR       "/etc/molecule-agent"
#define GOOD_FILE        "config.good"
#define PRELOADED_DEFAULT "/usr/share/molecule-agent/preloaded.json"
#define LAUNCHER_DEFAULT "/usr/lib/molecule-agent/molecule-launch"
#define REGISTRY_DEFAULT "registry.moleculesai.app,registry.enteros.ai"

typedef enum Kind { KIND_TEXT, KIND_NUMBER, KIND_BYTES, KIND_BOOL, KIND_PORTS } Kind;

/* A rule beyond the kind's own; NULL words: fine. */
typedef const char *(*Rule)(const char *value);

typedef struct Setting {
        const char *key;
        Kind        kind;
        size_t      offset;
        const char *otherwise;          /* the default */
        uint64_t    low, high;          /* of a number */
        Rule        rule;
        const char *platform;           /* the platform's own environment name */
} Setting;

static const char *rule_uuid(const char *v) { return uuid_is_valid(v) ? NULL : "is not a lower-case UUID"; }
static const char *rule_slug(const char *v) { return slug_is_valid(v) ? NULL : "is not an organization's slug"; }
static const char *rule_path(const char *v) { return v[0] == '/' ? NULL : "does not begin with '/'"; }
static const char *rule_prefix(const char *v) {
        return v[0] == '/' && v[strlen(v) - 1] != '/' ? NULL : "must begin with '/' and not end with it";
}

static const char *rule_url(const char *v) {
        const char *host;

        if (strncmp(v, "https://", 8) != 0 && strncmp(v, "http://", 7) != 0)
                return "is neither https nor http";
        host = strstr(v, "://") + 3;
        if (!host[0] || host[0] == '/' || host[0] == ':')
                return "has no host";
        return strpbrk(v, " \t@?#") ? "must not hold user info, a query, a fragment or white space" : NULL;
}

static const char *rule_address(const char *v) {
        ApiAddress a;
        return api_address_parse(v, &a) < 0 ? "is not ADDRESS:PORT, with an IPv6 address in brackets" : NULL;
}

static const char *rule_file(const char *v) { return v[0] == '/' && v[strlen(v) - 1] != '/' ? NULL : "is not the path of a file, from '/'"; }

static const char *rule_level(const char *v) {
        static const char *const levels[] = { "error", "warning", "notice", "info", "debug" };

        for (size_t i = 0; i < ELEMENTS(levels); i++)
                if (strcmp(v, levels[i]) == 0)
                        return NULL;
        return "is not one of error, warning, notice, info, debug";
}

static const char *rule_imds(const char *v) { return strcmp(v, "auto") == 0 || strcmp(v, "off") == 0 ? NULL : "is neither auto nor off"; }

static const char *rule_name(const char *v) {
        for (const char *p = v; *p; p++)
                if (!isalnum((unsigned char) *p) && !strchr("_.-", *p))
                        return "holds something other than letters, digits, '_', '.' and '-'";
        return strlen(v) > 64 ? "is longer than 64" : NULL;
}

#define AT(member) offsetof(Config, member)
#define TIER_MEMORY(n, d, p) { "tier" #n "_memory_mb", KIND_NUMBER, AT(tier_memory_mb[n]), d, 16, 1 << 24, NULL, p }
#define TIER_CPU(n, d, p)    { "tier" #n "_cpu_shares", KIND_NUMBER, AT(tier_cpu_shares[n]), d, 16, 1 << 20, NULL, p }

static const Setting settings[] = {
        { "cp_url", KIND_TEXT, AT(cp_url), NULL, 0, 0, rule_url, "MOLECULE_CP_URL" },
        { "cp_prefix", KIND_TEXT, AT(cp_prefix), "/api/v1", 0, 0, rule_prefix, NULL },
        { "org_id", KIND_TEXT, AT(org_id), NULL, 0, 0, rule_uuid, "MOLECULE_ORG_ID" },
        { "org_slug", KIND_TEXT, AT(org_slug), NULL, 0, 0, rule_slug, "MOLECULE_ORG_SLUG" },
        { "ca_file", KIND_TEXT, AT(ca_file), NULL, 0, 0, rule_path, NULL },
        { "proxy", KIND_TEXT, AT(proxy), NULL, 0, 0, NULL, NULL },
        { "no_proxy", KIND_TEXT, AT(no_proxy), NULL, 0, 0, NULL, NULL },
        { "connect_timeout_seconds", KIND_NUMBER, AT(connect_timeout_seconds), "10", 1, 300, NULL, NULL },
        { "allow_insecure_loopback", KIND_BOOL, AT(allow_insecure_loopback), "no", 0, 0, NULL, NULL },
        { "imds", KIND_TEXT, AT(imds), "auto", 0, 0, rule_imds, NULL },
        { "imds_url", KIND_TEXT, AT(imds_url), "http://169.254.169.254", 0, 0, rule_url, NULL },
        { "admin_group", KIND_TEXT, AT(admin_group), NULL, 0, 0, rule_name, NULL },
        { "metrics_listen", KIND_TEXT, AT(metrics_listen), NULL, 0, 0, rule_address, NULL },
        { "textfile_path", KIND_TEXT, AT(textfile_path), NULL, 0, 0, rule_file, NULL },
        { "log_level", KIND_TEXT, AT(log_level), "info", 0, 0, rule_level, NULL },
        { "engine_socket", KIND_TEXT, AT(engine_socket), "/var/run/docker.sock", 0, 0, rule_path, NULL },
        { "engine_timeout_seconds", KIND_NUMBER, AT(engine_timeout_seconds), "60", 1, 3600, NULL, NULL },
        { "engine_wait_seconds", KIND_NUMBER, AT(engine_wait_seconds), "600", 1, 86400, NULL, NULL },
        { "network", KIND_TEXT, AT(network), "molecule-core-net", 0, 0, rule_name, NULL },
        { "advertise_host", KIND_TEXT, AT(advertise_host), "127.0.0.1", 0, 0, rule_name, "MOLECULE_WORKSPACE_ADVERTISE_HOST" },
        { "port_range", KIND_PORTS, AT(port_low), "20000-29999", 0, 0, NULL, NULL },
        { "max_parallel_jobs", KIND_NUMBER, AT(max_parallel_jobs), "4", 1, 64, NULL, NULL },
        { "max_workspaces", KIND_NUMBER, AT(max_workspaces), "256", 1, 4096, NULL, NULL },
        { "max_tier", KIND_NUMBER, AT(max_tier), "2", 1, 4, NULL, NULL },
        TIER_MEMORY(1, "256", NULL),
        TIER_MEMORY(2, "512", "TIER2_MEMORY_MB"),
        TIER_MEMORY(3, "2048", "TIER3_MEMORY_MB"),
        TIER_MEMORY(4, "4096", "TIER4_MEMORY_MB"),
        TIER_CPU(1, "512", NULL),
        TIER_CPU(2, "1024", "TIER2_CPU_SHARES"),
        TIER_CPU(3, "2048", "TIER3_CPU_SHARES"),
        TIER_CPU(4, "4096", "TIER4_CPU_SHARES"),
        { "stop_timeout_seconds", KIND_NUMBER, AT(stop_timeout_seconds), "10", 0, 3600, NULL, NULL },
        { "probe_path", KIND_TEXT, AT(probe_path), "/", 0, 0, rule_path, NULL },
        { "probe_timeout_seconds", KIND_NUMBER, AT(probe_timeout_seconds), "300", 1, 7200, NULL, NULL },
        { "crash_loop_restarts", KIND_NUMBER, AT(crash_loop_restarts), "5", 1, 1000, NULL, NULL },
        { "crash_loop_window_seconds", KIND_NUMBER, AT(crash_loop_window_seconds), "600", 1, 86400, NULL, NULL },
        { "volume_grace_seconds", KIND_NUMBER, AT(volume_grace_seconds), "86400", 0, 365 * 86400, NULL, NULL },
        { "job_deadline_seconds", KIND_NUMBER, AT(job_deadline_seconds), "7200", 1, 86400, NULL, NULL },
        { "registries", KIND_TEXT, AT(registries), REGISTRY_DEFAULT, 0, 0, NULL, "MOLECULE_IMAGE_REGISTRY" },
        { "pull_stall_seconds", KIND_NUMBER, AT(pull_stall_seconds), "120", 1, 86400, NULL, NULL },
        { "registry_auth_file", KIND_TEXT, AT(registry_auth_file), NULL, 0, 0, rule_path, NULL },
        { "prefetch", KIND_BOOL, AT(prefetch), "yes", 0, 0, NULL, NULL },
        { "prefetch_spread_seconds", KIND_NUMBER, AT(prefetch_spread_seconds), "300", 0, 86400, NULL, NULL },
        { "finalize_seconds", KIND_NUMBER, AT(finalize_seconds), "86400", 0, 365 * 86400, NULL, NULL },
        { "gc_high_percent", KIND_NUMBER, AT(gc_high_percent), "85", 1, 100, NULL, NULL },
        { "gc_low_percent", KIND_NUMBER, AT(gc_low_percent), "75", 1, 100, NULL, NULL },
        { "preloaded_file", KIND_TEXT, AT(preloaded_file), PRELOADED_DEFAULT, 0, 0, rule_path, NULL },
        { "min_free_bytes", KIND_BYTES, AT(min_free_bytes), "5G", 0, UINT64_MAX, NULL, NULL },
        { "audit_max_bytes", KIND_BYTES, AT(audit_max_bytes), "64M", 64 << 10, UINT64_C(1) << 40, NULL, NULL },
        { "launcher", KIND_TEXT, AT(launcher), LAUNCHER_DEFAULT, 0, 0, rule_path, NULL },
        { "require_signed_jobs", KIND_BOOL, AT(require_signed_jobs), "no", 0, 0, NULL, NULL },
        { "signing_keys", KIND_TEXT, AT(signing_keys), NULL, 0, 0, NULL, NULL },
        { "allow_unlocked_memory", KIND_BOOL, AT(allow_unlocked_memory), "no", 0, 0, NULL, NULL },
        { "provision_secret_file", KIND_TEXT, AT(provision_secret_file), NULL, 0, 0, rule_path, NULL },
        { "admin_token_file", KIND_TEXT, AT(admin_token_file), NULL, 0, 0, rule_path, NULL },
};
#define N_SETTINGS ELEMENTS(settings)

typedef struct Origin { char text[160]; } Origin;

/* A Config and, beside it, where each row's value came from: the public pointer is to the first member. */
typedef struct Loading {
        Config c;
        Origin origin[N_SETTINGS];
        bool   warn;
} Loading;

static const Origin *origin_of(const Config *c, size_t i) { return &((const Loading *) (const void *) c)->origin[i]; }

/* ── the kinds ───────────────────────────────────────────────────────────────────────────────────────────────── */

static const char *parse_number(const char *v, const Setting *s, uint64_t *place) {
        uint64_t n;

        if (u64_parse(v, &n) < 0)
                return "is not a whole number";
        if (n < s->low || n > s->high)
                return "is out of range";
        *place = n;
        return NULL;
}

static const char *parse_bytes(const char *v, const Setting *s, uint64_t *place) {
        static const struct { char suffix; unsigned shift; } units[] = { { 'K', 10 }, { 'M', 20 }, { 'G', 30 }, { 'T', 40 } };
        char digits[24] = {};
        size_t n = strspn(v, "0123456789");
        unsigned shift = 0;
        uint64_t value;

        if (n == 0 || n >= sizeof digits)
                return "is not a size such as 5G";
        memcpy(digits, v, n);
        for (size_t i = 0; i < ELEMENTS(units); i++)
                if (v[n] == units[i].suffix && !v[n + 1])
                        shift = units[i].shift;
        if ((v[n] && !shift) || u64_parse(digits, &value) < 0)
                return "is not a size such as 5G";
        if (value > UINT64_MAX >> shift || value << shift < s->low || value << shift > s->high)
                return "is out of range";
        *place = value << shift;
        return NULL;
}

static const char *parse_bool(const char *v, bool *place) {
        static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false", "off", "0" };

        for (size_t i = 0; i < ELEMENTS(yes); i++) {
                if (strcmp(v, yes[i]) == 0)
                        return *place = true, NULL;
                if (strcmp(v, no[i]) == 0)
                        return *place = false, NULL;
        }
        return "is neither yes nor no";
}

static const char *parse_ports(const char *v, Config *c) {
        unsigned low, high;
        char rest;

        if (sscanf(v, "%5u-%5u%c", &low, &high, &rest) != 2 || low < 1024 || high > 65535 || low > high)
                return "is not LOW-HIGH within 1024..65535";
        c->port_low = low;
        c->port_high = high;
        return NULL;
}

static const char *assign(Config *c, const Setting *s, const char *value) {
        void *place = (char *) c + s->offset;
        const char *why = conf_value_refused(s->key, value);
        char *copy;

        if (!why && value[0] && s->rule)
                why = s->rule(value);
        if (why)
                return why;
        switch (s->kind) {
        case KIND_NUMBER:       return parse_number(value, s, place);
        case KIND_BYTES:        return parse_bytes(value, s, place);
        case KIND_BOOL:         return parse_bool(value, place);
        case KIND_PORTS:        return parse_ports(value, c);
        case KIND_TEXT:
                copy = value[0] ? strdup(value) : NULL;
                if (value[0] && !copy)
                        return "does not fit in memory";
                free(*(char **) place);
                *(char **) place = copy;
                return NULL;
        }
        return "has no kind";
}

/* ── where values come from ──────────────────────────────────────────────────────────────────────────────────── */

static int set(Loading *l, size_t i, const char *value, const char *origin, Fault *reterr) {
        const char *why = assign(&l->c, &settings[i], value);

        if (why)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "%s: %s %s.", origin, settings[i].key, why);
        (void) snprintf(l->origin[i].text, sizeof l->origin[i].text, "%s", origin);
        return 0;
}

static int on_line(const char *file, unsigned line, const char *key, const char *value, void *userdata, Fault *reterr) {
        Loading *l = userdata;
        char origin[160];

        (void) snprintf(origin, sizeof origin, "%s:%u", file, line);
        for (size_t i = 0; i < N_SETTINGS; i++)
                if (strcmp(settings[i].key, key) == 0)
                        return set(l, i, value, origin, reterr);
        if (l->warn)
                fprintf(stderr, "%s: unknown setting '%s' is ignored.\n", origin, key);
        return 0;
}

static int read_file(Loading *l, int dirfd, const char *name, const char *shown, Fault *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = dirfd == AT_FDCWD ? file_read_path(name, CONF_FILE_MAX, &text, &size) : file_read(dirfd, name, CONF_FILE_MAX, &text, &size);

        if (r < 0)
                return r == -ENOENT ? r : fault(reterr, r, FAULT_CONFIG_INVALID, "Cannot read %s: %m", shown);
        return conf_parse(shown, text, size, "agent", on_line, l, reterr);
}

static int is_conf(const struct dirent *d) {
        size_t n = strlen(d->d_name);
        return n > 5 && d->d_name[0] != '.' && strcmp(d->d_name + n - 5, ".conf") == 0;
}

static int read_dropins(Loading *l, const char *dir, Fault *reterr) {
        _cleanup_free_ char *path = str_printf("%s/%s", dir, CONFIG_DROPINS);
        _cleanup_close_ int fd = path ? TEMP_FAILURE_RETRY(open(path, O_RDONLY|O_DIRECTORY|O_CLOEXEC)) : -1;
        struct dirent **list = NULL;
        int n, r = 0;

        if (fd < 0)
                return path && errno == ENOENT ? 0 : fault(reterr, -errno, FAULT_CONFIG_INVALID, "Cannot open %s: %m", path ?: dir);
        n = scandirat(fd, ".", &list, is_conf, alphasort);
        if (n < 0)
                return fault(reterr, -errno, FAULT_CONFIG_INVALID, "Cannot read %s: %m", path);
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *shown = str_printf("%s/%s", path, list[i]->d_name);

                if (r >= 0)
                        r = read_file(l, fd, list[i]->d_name, shown ?: list[i]->d_name, reterr);
                free(list[i]);
        }
        free(list);
        return r;
}

/* White space around it is dropped, as it is in a file. */
static int set_from_environment(Loading *l, size_t i, const char *value, const char *name, Fault *reterr) {
        _cleanup_free_ char *copy = strdup(value);
        const char *bare = copy ? conf_trim(copy) : NULL;

        if (!bare)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        return *bare ? set(l, i, bare, name, reterr) : 0;
}

static int read_environment(Loading *l, Fault *reterr) {
        for (size_t i = 0; i < N_SETTINGS; i++) {
                char name[80] = "MOLECULE_AGENT_";
                const char *value;
                size_t n = strlen(name);
                int r;

                for (const char *k = settings[i].key; *k && n < sizeof name - 1; k++)
                        name[n++] = (char) toupper((unsigned char) *k);
                name[n] = 0;
                value = getenv(name);
                if ((!value || !value[0]) && settings[i].platform && strcmp(l->origin[i].text, "default") == 0) {
                        value = getenv(settings[i].platform);
                        (void) snprintf(name, sizeof name, "%s", settings[i].platform);
                }
                if (!value || !value[0])
                        continue;
                r = set_from_environment(l, i, value, name, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────── */

static int split_registries(Config *c, Fault *reterr) {
        _cleanup_free_ char *text = strdup(c->registries ?: "");
        char *save = NULL;
        size_t n = 0;

        if (!text)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        for (char *part = strtok_r(text, ", \t", &save); part; part = strtok_r(NULL, ", \t", &save)) {
                if (n >= CONFIG_REGISTRIES_MAX)
                        return fault(reterr, -E2BIG, FAULT_CONFIG_INVALID, "registries names more than %d.", CONFIG_REGISTRIES_MAX);
                c->registry_list[n] = strdup(part);
                if (!c->registry_list[n++])
                        return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        }
        return 0;
}

/* Keys imply that everything must be signed; to ask for signatures without saying whose would refuse every job. */
static int read_signing_keys(Config *c, Fault *reterr) {
        _cleanup_free_ char *text = strdup(c->signing_keys ?: "");
        char *save = NULL;
        unsigned n = 0;

        if (!text)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        for (char *part = strtok_r(text, ", \t", &save); part; part = strtok_r(NULL, ", \t", &save)) {
                int r = trusted_keys_add(&c->trusted, part);

                n++;
                if (r == -E2BIG)
                        return fault(reterr, r, FAULT_CONFIG_INVALID, "signing_keys names more than %d keys.", TRUSTED_KEYS_MAX);
                if (r < 0)
                        return fault(reterr, r, FAULT_CONFIG_INVALID, "signing_keys: the entry number %u is not the base64 of a 32-byte Ed25519 key.", n);
        }
        if (c->require_signed_jobs && n == 0)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "require_signed_jobs=yes needs signing_keys: whose signature?");
        c->require_signed_jobs = n > 0;
        return 0;
}

static int check_whole(Config *c, Fault *reterr) {
        int r;

        if (c->cp_url && strncmp(c->cp_url, "http://", 7) == 0 && !(c->allow_insecure_loopback && http_url_is_loopback(c->cp_url)))
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID,
                             "cp_url must be https; plain http only to a loopback address with allow_insecure_loopback=yes.");
        if (c->gc_low_percent >= c->gc_high_percent)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID,
                             "gc_low_percent (%llu) must be below gc_high_percent (%llu).", (unsigned long long) c->gc_low_percent,
                             (unsigned long long) c->gc_high_percent);
        for (char *end = c->cp_url ? c->cp_url + strlen(c->cp_url) : NULL; end && end > c->cp_url && end[-1] == '/'; end--)
                end[-1] = 0;
        r = split_registries(c, reterr);
        return r < 0 ? r : read_signing_keys(c, reterr);
}

static Loading *loading_new(bool warn) {
        Loading *l = calloc(1, sizeof *l);

        if (!l)
                return NULL;
        l->warn = warn;
        for (size_t i = 0; i < N_SETTINGS; i++) {
                if (settings[i].otherwise && assign(&l->c, &settings[i], settings[i].otherwise)) {
                        config_free(&l->c);
                        return NULL;
                }
                strcpy(l->origin[i].text, "default");
        }
        return l;
}

int config_load(const char *path, bool warn, Config **ret, Fault *reterr) {
        const char *dir = getenv("CONFIGURATION_DIRECTORY") ?: CONFIG_DIR;
        _cleanup_free_ char *standard = str_printf("%s/%s", dir, CONFIG_FILE);
        Loading *l = loading_new(warn);
        _cleanup_(config_freep) Config *c = l ? &l->c : NULL;
        int r;

        if (!l || !standard)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        r = read_file(l, AT_FDCWD, path ?: standard, path ?: standard, reterr);
        if (r == -ENOENT)
                r = path ? fault(reterr, r, FAULT_CONFIG_INVALID, "There is no file %s.", path) : 0;
        if (r >= 0 && !path)
                r = read_dropins(l, dir, reterr);
        if (r >= 0)
                r = read_environment(l, reterr);
        if (r >= 0)
                r = check_whole(c, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

Config *config_free(Config *c) {
        if (!c)
                return NULL;
        for (size_t i = 0; i < N_SETTINGS; i++)
                if (settings[i].kind == KIND_TEXT)
                        free(*(char **) (void *) ((char *) c + settings[i].offset));
        for (size_t i = 0; i < CONFIG_REGISTRIES_MAX; i++)
                free(c->registry_list[i]);
        free((Loading *) (void *) c);
        return NULL;
}

static void print_value(const Config *c, const Setting *s, FILE *to) {
        const void *place = (const char *) c + s->offset;

        switch (s->kind) {
        case KIND_NUMBER: case KIND_BYTES: fprintf(to, "%llu", (unsigned long long) *(const uint64_t *) place); break;
        case KIND_BOOL:  fputs(*(const bool *) place ? "yes" : "no", to); break;
        case KIND_PORTS: fprintf(to, "%u-%u", (unsigned) c->port_low, (unsigned) c->port_high); break;
        case KIND_TEXT:  fputs(*(char *const *) place ?: "", to); break;
        }
}

/* A proxy's user and password are for the proxy. */
static void print_shown(const Config *c, const Setting *s, FILE *to) {
        const char *at = s->offset == offsetof(Config, proxy) && c->proxy ? strrchr(c->proxy, '@') : NULL, *scheme = at ? strstr(c->proxy, "://") : NULL;

        if (at)
                fprintf(to, "%.*s***%s", scheme && scheme < at ? (int) (scheme + 3 - c->proxy) : 0, c->proxy, at);
        else
                print_value(c, s, to);
}

void config_show(const Config *c, FILE *to) {
        for (size_t i = 0; i < N_SETTINGS; i++) {
                fprintf(to, "%s = ", settings[i].key);
                print_shown(c, &settings[i], to);
                fprintf(to, "\t# %s\n", origin_of(c, i)->text);
        }
}

static char *value_text(const Config *c, const Setting *s) {
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        print_shown(c, s, f);
        if (fclose(f) == 0)
                return text;
        free(text);
        return NULL;
}

cJSON *config_list(const Config *c) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();

        for (size_t i = 0; list && i < N_SETTINGS; i++) {
                _cleanup_json_ cJSON *item = cJSON_CreateObject();
                _cleanup_free_ char *value = value_text(c, &settings[i]);

                if (!item || !value || !json_add_string(item, "key", settings[i].key) || !json_add_string(item, "value", value) ||
                    !json_add_string(item, "origin", origin_of(c, i)->text) || !cJSON_AddItemToArray(list, item))
                        return NULL;
                item = NULL;
        }
        return TAKE_PTR(list);
}

bool config_can_enrol(const Config *c) { return c->cp_url && c->org_id; }

/* As a file that says all of it. */
static char *whole_text(const Config *c, size_t *ret_size) {
        char *text = NULL;
        FILE *f = open_memstream(&text, ret_size);

        if (!f)
                return NULL;
        fputs("[agent]\n", f);
        for (size_t i = 0; i < N_SETTINGS; i++) {
                fprintf(f, "%s = ", settings[i].key);
                print_value(c, &settings[i], f);
                fputc('\n', f);
        }
        if (fclose(f) == 0)
                return text;
        free(text);
        return NULL;
}

int config_save_good(int state_fd, const Config *c) {
        size_t size = 0, old_size = 0;
        _cleanup_free_ char *text = whole_text(c, &size), *old = NULL;

        if (!text)
                return -ENOMEM;
        if (file_read(state_fd, GOOD_FILE, CONF_FILE_MAX, &old, &old_size) == 0 && old_size == size && memcmp(old, text, size) == 0)
                return 0;
        return file_write_atomic(state_fd, GOOD_FILE, text, size);
}

int config_hash(const Config *c, char ret[static HASH_TEXT_SIZE]) {
        size_t size;
        _cleanup_free_ char *text = whole_text(c, &size);

        if (!text)
                return -ENOMEM;
        hash_text(text, size, ret);
        return 0;
}

static bool is_same(const Config *a, const Config *b, const Setting *s) {
        const void *x = (const char *) a + s->offset, *y = (const char *) b + s->offset;

        switch (s->kind) {
        case KIND_NUMBER: case KIND_BYTES: return *(const uint64_t *) x == *(const uint64_t *) y;
        case KIND_BOOL:  return *(const bool *) x == *(const bool *) y;
        case KIND_PORTS: return a->port_low == b->port_low && a->port_high == b->port_high;
        case KIND_TEXT:  return str_equal(*(char *const *) x, *(char *const *) y);
        }
        return false;
}

bool config_differences(const Config *before, const Config *now, cJSON *keys) {
        Loading *l = before ? NULL : loading_new(false);
        _cleanup_(config_freep) Config *defaults = l ? &l->c : NULL;

        if (!before && !defaults)
                return false;
        for (size_t i = 0; i < N_SETTINGS; i++)
                if (!is_same(before ?: defaults, now, &settings[i]) && !cJSON_AddItemToArray(keys, cJSON_CreateString(settings[i].key)))
                        return false;
        return true;
}

int config_load_good(int state_fd, Config **ret, Fault *reterr) {
        Loading *l = loading_new(false);
        _cleanup_(config_freep) Config *c = l ? &l->c : NULL;
        int r;

        if (!l)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        r = read_file(l, state_fd, GOOD_FILE, GOOD_FILE, reterr);
        if (r >= 0)
                r = check_whole(c, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}
