/* SPDX-License-Identifier: Apache-2.0 */

/* enroll: this host for an organization at a control plane. What was tried and taken there is kept: the credentials encrypted for this machine, the rest as a
 * drop-in of agent.conf. credentials set: one of the two anew, the old one staying until the new one was taken. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/config.h"
#include "agent/ctl/answer.h"
#include "agent/ctl/aws.h"
#include "agent/ctl/client.h"
#include "agent/ctl/creds.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/note.h"
#include "agent/ctl/trial.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"

#define CONFIG_DIR  "/etc/molecule-agent"
#define DROPIN      "10-enroll.conf"
#define RUNNING     "/run/credentials/" UNIT
#define INPUT_MAX   (CREDENTIAL_MAX + 64)
#define ARENA_BYTES (64 * 1024)
#define AWS_SOURCE  "aws-secretsmanager"

typedef struct Enroll {
        const char *cp_url, *org_id, *org_slug, *max_tier, *provision_secret_file, *admin_token_file, *from, *store;
        char *reason;
        AwsBootstrap aws;
        bool no_restart;
        Arena *arena;
        Credentials credentials;
} Enroll;

static void enroll_done(Enroll *e) {
        credentials_done(&e->credentials);
        arena_free(e->arena);
}

static int usage(void) {
        fputs("Usage: molecule-agentctl enroll --cp-url URL --org-id UUID [--org-slug SLUG] [--max-tier N]\n"
              "         --provision-secret-file FILE|- --admin-token-file FILE|- [--reason TEXT] [--credstore DIRECTORY] [--no-restart] [--json]\n"
              "       molecule-agentctl enroll --from aws-secretsmanager[:NAME] [--cp-url URL] [--org-id UUID] [--org-slug SLUG] [--max-tier N]\n"
              "         [--reason TEXT] [--credstore DIRECTORY] [--no-restart] [--json]\n"
              "       molecule-agentctl credentials set provision-secret|admin-token FILE|- [--reason TEXT] [--credstore DIRECTORY] [--no-restart] [--json]\n",
              stderr);
        return CTL_USAGE;
}

/* ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What stands on standard input, to its end: secrets are given so, and not as arguments. */
static int read_input(char *ret, size_t size) {
        size_t used = 0;
        ssize_t n;

        while ((n = read(STDIN_FILENO, ret + used, size - 1 - used)) > 0)
                used += (size_t) n;
        ret[used] = 0;
        return n < 0 ? -errno : used == size - 1 ? -EFBIG
                                                 : 0;
}

static int read_secret(Arena *arena, const char *path, const char *what, Secret **ret) {
        char input[INPUT_MAX];
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        if (strcmp(path, "-") == 0) {
                r = read_input(input, sizeof input);
                if (r == 0)
                        *ret = credential_from_text(arena, input);
                explicit_bzero(input, sizeof input);
        } else {
                r = file_read_path(path, INPUT_MAX, &text, &size);
                if (r == 0)
                        *ret = credential_from_text(arena, text); /* wiped when freed: base/heap */
        }
        if (r < 0)
                fprintf(stderr, "Cannot read the %s: %s\n", what, strerror(-r));
        else if (!*ret)
                fprintf(stderr, "The %s is empty, or not one word of at most %d printable characters.\n", what, CREDENTIAL_MAX);
        return r == 0 && *ret ? CTL_OK : CTL_FAILED;
}

/* What was not given comes from the instance itself, and cp_url from the image's own configuration. */
static int read_aws(Enroll *e) {
        const char *name = e->from[strlen(AWS_SOURCE)] == ':' ? e->from + strlen(AWS_SOURCE) + 1 : NULL;
        _cleanup_(config_freep) Config *config = NULL;
        Fault why = {};
        int r = config_load(NULL, false, &config, &why);

        if (r < 0) {
                fprintf(stderr, "%s\n", why.text);
                return CTL_CONFIG;
        }
        r = aws_bootstrap(e->arena, config, name, e->org_id, &e->aws, &why);
        if (r < 0)
                return client_say(r == -ENXIO || r == -EINVAL ? CTL_CONFIG : CTL_TRY_AGAIN, &why);
        if (e->aws.from_user_data)
                fputs("Warning: the credentials stand in this instance's user-data, where every process can read them. They are used this once: "
                      "take them out of there, and put them into Secrets Manager.\n", stderr);
        e->org_id = e->aws.org_id;
        if (!e->org_slug && e->aws.org_slug[0])
                e->org_slug = e->aws.org_slug;
        e->credentials.provision_secret = TAKE_PTR(e->aws.provision_secret);
        e->credentials.admin_token = TAKE_PTR(e->aws.admin_token);
        return CTL_OK;
}

static int read_files(Enroll *e) {
        int code = read_secret(e->arena, e->provision_secret_file, "provision secret", &e->credentials.provision_secret);

        return code == CTL_OK ? read_secret(e->arena, e->admin_token_file, "admin token", &e->credentials.admin_token) : code;
}

static int prepare(Enroll *e) {
        Fault why = {};

        if (geteuid() != 0) {
                fputs("Credentials are encrypted for this machine, and that is for root.\n", stderr);
                return CTL_REFUSED;
        }
        if (hash_init() < 0 || arena_new(ARENA_BYTES, true, &e->arena, &why) < 0)
                return client_say(CTL_FAILED, &why);
        process_seal_off();
        return CTL_OK;
}

/* The configuration as it would be, judged as the daemon judges it. */
static int config_with(const Enroll *e, Config **ret) {
        const struct { const char *name, *value; } over[] = { { "MOLECULE_AGENT_CP_URL", e->cp_url },
                                                              { "MOLECULE_AGENT_ORG_ID", e->org_id },
                                                              { "MOLECULE_AGENT_ORG_SLUG", e->org_slug },
                                                              { "MOLECULE_AGENT_MAX_TIER", e->max_tier } };
        Fault why = {};

        for (size_t i = 0; i < ELEMENTS(over); i++)
                if (over[i].value && setenv(over[i].name, over[i].value, 1) < 0)
                        return CTL_FAILED;
        if (config_load(NULL, false, ret, &why) < 0) {
                fprintf(stderr, "%s\n", why.text);
                return CTL_CONFIG;
        }
        if (!config_can_enrol(*ret)) {
                fputs("cp_url or org_id is not set: enroll this host first.\n", stderr);
                return CTL_CONFIG;
        }
        return CTL_OK;
}

/* ── keeping ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static int keep(const Enroll *e, const char *name, const Secret *value) {
        int r = mkdir(e->store, 0700) < 0 && errno != EEXIST ? -errno : creds_store(e->store, name, value->data, value->size);

        if (r < 0)
                fprintf(stderr, "The credential %s could not be kept in %s: %s. Is systemd-creds there?\n", name, e->store, strerror(-r));
        return r < 0 ? CTL_FAILED : CTL_OK;
}

static int write_dropin(const Enroll *e, const Config *config) {
        const char *dir = getenv("CONFIGURATION_DIRECTORY") ?: CONFIG_DIR;
        _cleanup_free_ char *text = str_printf("# Written by molecule-agentctl enroll.\n[agent]\ncp_url = %s\norg_id = %s\n%s%s%s%s%s%s", config->cp_url, config->org_id,
                                               e->org_slug ? "org_slug = " : "", e->org_slug ?: "", e->org_slug ? "\n" : "",
                                               e->max_tier ? "max_tier = " : "", e->max_tier ?: "", e->max_tier ? "\n" : "");
        _cleanup_free_ char *path = str_printf("%s/agent.conf.d", dir);
        _cleanup_close_ int fd = -1;
        int r = text && path ? 0 : -ENOMEM;

        if (r == 0 && ((mkdir(dir, 0755) < 0 && errno != EEXIST) || (mkdir(path, 0755) < 0 && errno != EEXIST)))
                r = -errno;
        if (r == 0)
                fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (r == 0)
                r = fd < 0 ? -errno : file_write_atomic(fd, DROPIN, text, strlen(text));
        if (r == 0 && fchmodat(fd, DROPIN, 0644, 0) < 0) /* the agent's user reads it; nothing in it is secret */
                r = -errno;
        if (r < 0)
                fprintf(stderr, "Cannot write %s/agent.conf.d/" DROPIN ": %s\n", dir, strerror(-r));
        return r < 0 ? CTL_FAILED : CTL_OK;
}

static int restart(const Enroll *e) {
        bool restarted = !e->no_restart && unit_do("RestartUnit", false) >= 0;

        answer_words(restarted ? "The agent is started with them.\n" : "Restart the agent, so that it takes them up.\n");
        answer_bool("restarted", restarted);
        return answer_done(restarted || e->no_restart ? CTL_OK : CTL_TRY_AGAIN);
}

/* ── enroll ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static int enroll(Enroll *e) {
        _cleanup_(config_freep) Config *config = NULL;
        Fault why = {};
        int code = prepare(e);

        if (code == CTL_OK && e->from)
                code = read_aws(e);
        if (code == CTL_OK)
                code = config_with(e, &config);
        if (code == CTL_OK && !e->from)
                code = read_files(e);
        if (code != CTL_OK)
                return code;
        code = trial(config, &e->credentials, &why);
        if (code != CTL_OK)
                return client_say(code, &why);
        answer_words("%s takes both credentials for organization %s.\n", config->cp_url, config->org_id);
        ctl_note("enroll", e->reason);
        code = keep(e, "provision-secret", e->credentials.provision_secret);
        if (code == CTL_OK)
                code = keep(e, "admin-token", e->credentials.admin_token);
        if (code == CTL_OK)
                code = write_dropin(e, config);
        if (code != CTL_OK)
                return code;
        answer_string("cp_url", config->cp_url);
        answer_string("org_id", config->org_id);
        return restart(e);
}

static bool is_aws(const Enroll *e) {
        size_t n = strlen(AWS_SOURCE);

        return strncmp(e->from, AWS_SOURCE, n) == 0 && (!e->from[n] || (e->from[n] == ':' && e->from[n + 1])) && !e->provision_secret_file && !e->admin_token_file;
}

static bool is_by_hand(const Enroll *e) {
        return e->cp_url && e->org_id && e->provision_secret_file && e->admin_token_file &&
               !(strcmp(e->provision_secret_file, "-") == 0 && strcmp(e->admin_token_file, "-") == 0);
}

int ctl_enroll(int argc, char **argv) {
        static const struct option options[] = {
                { "cp-url", required_argument, NULL, 'u' },
                { "org-id", required_argument, NULL, 'o' },
                { "org-slug", required_argument, NULL, 's' },
                { "max-tier", required_argument, NULL, 't' },
                { "provision-secret-file", required_argument, NULL, 'p' },
                { "admin-token-file", required_argument, NULL, 'a' },
                { "from", required_argument, NULL, 'f' },
                { "credstore", required_argument, NULL, 'c' },
                { "no-restart", no_argument, NULL, 'n' },
                { "json", no_argument, NULL, 'j' },
                { "reason", required_argument, NULL, 'r' },
                {},
        };
        _cleanup_(enroll_done) Enroll e = { .store = CREDSTORE };
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (opt) {
                case 'u': e.cp_url = optarg; break;
                case 'o': e.org_id = optarg; break;
                case 's': e.org_slug = optarg; break;
                case 't': e.max_tier = optarg; break;
                case 'p': e.provision_secret_file = optarg; break;
                case 'a': e.admin_token_file = optarg; break;
                case 'f': e.from = optarg; break;
                case 'c': e.store = optarg; break;
                case 'n': e.no_restart = true; break;
                case 'j': answer_as_json(true); break;
                case 'r': e.reason = optarg; break;
                default: return usage();
                }
        if (optind != argc || !(e.from ? is_aws(&e) : is_by_hand(&e)))
                return usage();
        if (!note_reason("enroll", e.reason, false))
                return CTL_USAGE;
        return enroll(&e);
}

/* ── credentials set ─────────────────────────────────────────────────────────────────────────────────────────── */

static int set(Enroll *e, bool provision, const char *path) {
        _cleanup_(config_freep) Config *config = NULL;
        Secret *fresh = NULL, **place = provision ? &e->credentials.provision_secret : &e->credentials.admin_token;
        CredentialsEnv none = {};
        Fault why = {};
        int code = prepare(e);

        if (code == CTL_OK)
                code = config_with(e, &config);
        if (code == CTL_OK)
                code = read_secret(e->arena, path, provision ? "provision secret" : "admin token", &fresh);
        if (code != CTL_OK)
                return code;
        if (!getenv("CREDENTIALS_DIRECTORY") && access(RUNNING, R_OK) == 0)
                (void) setenv("CREDENTIALS_DIRECTORY", RUNNING, 1);
        if (credentials_load(config, e->arena, &none, &e->credentials, &why) < 0) {
                secret_free(fresh);
                fprintf(stderr, "The other credential is needed to try the new one, and is not at hand: %s Enroll this host instead.\n", why.text);
                return CTL_FAILED;
        }
        secret_free(*place);
        *place = fresh;
        code = trial(config, &e->credentials, &why);
        if (code != CTL_OK) {
                (void) client_say(code, &why);
                fputs("The old one stays.\n", stderr);
                return code;
        }
        ctl_note("credentials set", e->reason);
        code = keep(e, provision ? "provision-secret" : "admin-token", fresh);
        if (code != CTL_OK)
                return code;
        answer_string("credential", provision ? "provision-secret" : "admin-token");
        return restart(e);
}

int ctl_credentials(int argc, char **argv) {
        static const struct option options[] = { { "credstore", required_argument, NULL, 'c' }, { "no-restart", no_argument, NULL, 'n' }, { "json", no_argument, NULL, 'j' },
                                                 { "reason", required_argument, NULL, 'r' }, {} };
        _cleanup_(enroll_done) Enroll e = { .store = CREDSTORE };
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (opt) {
                case 'c': e.store = optarg; break;
                case 'n': e.no_restart = true; break;
                case 'j': answer_as_json(true); break;
                case 'r': e.reason = optarg; break;
                default: return usage();
                }
        if (optind + 3 != argc || strcmp(argv[optind], "set") != 0 ||
            (strcmp(argv[optind + 1], "provision-secret") != 0 && strcmp(argv[optind + 1], "admin-token") != 0))
                return usage();
        if (!note_reason("credentials set", e.reason, false))
                return CTL_USAGE;
        return set(&e, argv[optind + 1][0] == 'p', argv[optind + 2]);
}
