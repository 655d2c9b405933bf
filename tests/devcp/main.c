/* SPDX-License-Identifier: Apache-2.0 */

/* molecule-devcp: the reference control plane, for development and tests. Whoever writes a control plane for the agent may read it as the
 * example: register.c, deliver.c and reports.c are the agent protocol, statements.h is all that is remembered, docs/control-plane.md says
 * why. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "tests/devcp/server.h"
#include "tests/devcp/sign.h"

#define SECRET_MAX 4096
#define PEM_MAX    (256 * 1024)

static const char usage[] =
        "Usage: molecule-devcp --listen ADDRESS:PORT --database FILE --admin-bearer-file FILE [OPTION...]\n"
        "A reference control plane for development and tests.\n"
        "\n"
        "  --listen ADDRESS:PORT         a loopback address; port 0: any free one\n"
        "  --database FILE               SQLite database, made if absent\n"
        "  --admin-bearer-file FILE      holds the operator's token\n"
        "  --provision-secret-file FILE  holds the provision secret; absent or empty: /hosts and /workspaces are not served\n"
        "  --tls-cert FILE --tls-key FILE  PEM; without them plain http\n"
        "  --signing-key-file FILE       base64 of an Ed25519 seed's 32 bytes: signs jobs and the pin table, and says 'signing key KEY'\n"
        "  --pins-unsigned               leaves the pin table unsigned\n"
        "  --registry PREFIX             of image references (registry.moleculesai.app/molecule-ai)\n"
        "  --ack-log FILE                append 'report_id job_id state' and fsync before a report is acknowledged\n"
        "  --heartbeat-seconds N         told to agents (30)\n"
        "  --wait-seconds N              longest long poll (50)\n"
        "  --lost-seconds N              a host silent for so long is a roll's straggler (180)\n"
        "  --settle-seconds N            health must show a redeploy within so long (90)\n"
        "  --help                        this text\n";

/* The file's text without white space at its end; NULL when that leaves nothing. */
static int read_text(const char *path, size_t max, char **ret, Fault *reterr) {
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        _cleanup_free_ char *text = NULL, *folder = slash ? strndup(path, (size_t) (name - path)) : strdup(".");
        _cleanup_close_ int fd = folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        size_t size = 0;
        int r;

        r = fd < 0 ? -errno : file_read(fd, name, max, &text, &size);
        if (r < 0)
                return fault(reterr, r, FAULT_CONFIG_INVALID, "cannot read '%s': %m", path);
        while (size > 0 && strchr(" \t\r\n", text[size - 1]))
                text[--size] = 0;
        free(*ret);
        *ret = size > 0 ? TAKE_PTR(text) : NULL;
        return 0;
}

/* An empty file is not the wish to sign nothing. */
static int read_seed(const char *path, char **ret, Fault *reterr) {
        int r = read_text(path, SECRET_MAX, ret, reterr);

        return r == 0 && !*ret ? fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "'%s' is empty", path) : r;
}

static int read_number(const char *option, const char *text, unsigned *ret, Fault *reterr) {
        uint64_t v;

        if (u64_parse(text, &v) < 0 || v < 1 || v > 3600)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "--%s wants a number from 1 to 3600", option);
        *ret = (unsigned) v;
        return 0;
}

static void options_done(Options *o) {
        free(o->provision_secret);
        free(o->admin_bearer);
        free(o->tls_cert);
        free(o->tls_key);
        free(o->signing_seed);
}

static const struct option long_options[] = {
        { "listen", required_argument, NULL, 'l' },
        { "database", required_argument, NULL, 'd' },
        { "admin-bearer-file", required_argument, NULL, 'a' },
        { "provision-secret-file", required_argument, NULL, 'p' },
        { "tls-cert", required_argument, NULL, 'c' },
        { "tls-key", required_argument, NULL, 'k' },
        { "signing-key-file", required_argument, NULL, 's' },
        { "pins-unsigned", no_argument, NULL, 'u' },
        { "registry", required_argument, NULL, 'r' },
        { "ack-log", required_argument, NULL, 'A' },
        { "heartbeat-seconds", required_argument, NULL, 'H' },
        { "wait-seconds", required_argument, NULL, 'W' },
        { "lost-seconds", required_argument, NULL, 'L' },
        { "settle-seconds", required_argument, NULL, 'S' },
        { "help", no_argument, NULL, 'h' },
        {}
};

static int options_check(const Options *o, Fault *reterr) {
        if (!o->listen || !o->database)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "--listen and --database are needed");
        if (!o->admin_bearer)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "--admin-bearer-file with a token in it is needed");
        if (!o->tls_cert != !o->tls_key)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "--tls-cert and --tls-key go together");
        return 0;
}

/* 0; 1 when --help was asked for. */
static int options_parse(int argc, char *argv[], Options *o, Fault *reterr) {
        int c, index = 0, r = 0;

        while (r == 0 && (c = getopt_long(argc, argv, "", long_options, &index)) >= 0)
                switch (c) {
                case 'l': o->listen = optarg; break;
                case 'd': o->database = optarg; break;
                case 'r': o->registry = optarg; break;
                case 'A': o->ack_log = optarg; break;
                case 'a': r = read_text(optarg, SECRET_MAX, &o->admin_bearer, reterr); break;
                case 'p': r = read_text(optarg, SECRET_MAX, &o->provision_secret, reterr); break;
                case 'c': r = read_text(optarg, PEM_MAX, &o->tls_cert, reterr); break;
                case 'k': r = read_text(optarg, PEM_MAX, &o->tls_key, reterr); break;
                case 's': r = read_seed(optarg, &o->signing_seed, reterr); break;
                case 'u': o->pins_unsigned = true; break;
                case 'H': r = read_number("heartbeat-seconds", optarg, &o->heartbeat_seconds, reterr); break;
                case 'W': r = read_number("wait-seconds", optarg, &o->wait_seconds, reterr); break;
                case 'L': r = read_number("lost-seconds", optarg, &o->lost_seconds, reterr); break;
                case 'S': r = read_number("settle-seconds", optarg, &o->settle_seconds, reterr); break;
                case 'h': return 1;
                default: return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "see --help");
                }
        if (r == 0 && optind < argc)
                r = fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "'%s' is no option", argv[optind]);
        return r < 0 ? r : options_check(o, reterr);
}

static void allow_many_files(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                (void) setrlimit(RLIMIT_NOFILE, &limit);
        }
}

static int prepare_loop(sd_event *event) {
        sigset_t mask;
        int r;

        (void) signal(SIGPIPE, SIG_IGN);
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGTERM);
        (void) sigaddset(&mask, SIGINT);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);      /* no handler: ends the loop */
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
        return r < 0 ? r : 0;
}

static int serve(const Options *o, Fault *reterr) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(store_closep) Store *store = NULL;
        _cleanup_(server_stopp) Server *server = NULL;
        int r;

        r = hash_init();
        if (r >= 0)
                r = sd_event_default(&event);
        if (r >= 0)
                r = prepare_loop(event);
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "cannot prepare the event loop: %m");
        allow_many_files();
        r = store_open(o->database, &store, reterr);
        if (r < 0)
                return r;
        r = server_start(o, store, event, &server, reterr);
        if (r < 0)
                return r;
        if (server->signer)
                (void) printf("signing key %s\n", signer_public_key(server->signer));
        (void) printf("listening on %s\n", server->url);
        (void) fflush(stdout);
        r = sd_event_loop(event);
        return r < 0 ? fault(reterr, r, FAULT_INTERNAL, "the event loop failed: %m") : 0;
}

int main(int argc, char *argv[]) {
        _cleanup_(options_done) Options o = {
                .registry = "registry.moleculesai.app/molecule-ai",
                .heartbeat_seconds = 30,
                .wait_seconds = 50,
                .lost_seconds = 180,
                .settle_seconds = 90,
        };
        Fault f = {};
        int r;

        log_open("molecule-devcp");
        r = options_parse(argc, argv, &o, &f);
        if (r > 0) {
                (void) fputs(usage, stdout);
                return 0;
        }
        if (r < 0) {
                log_error("%s", f.text);
                return 2;
        }
        r = serve(&o, &f);
        if (r < 0)
                log_error("%s", f.set ? f.text : strerror(-r));
        return r < 0;
}
