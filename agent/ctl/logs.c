/* SPDX-License-Identifier: Apache-2.0 */

/* logs: what a workspace's container says, by way of the agent, so that whoever may look need not be let at the engine. As it comes or, with --json, an
 * object a line. Where a failed one has been removed, root sees what is kept of its last words. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/ctl/ctl.h"
#include "agent/ctl/ids.h"
#include "agent/ctl/span.h"
#include "base/cleanup.h"
#include "base/file.h"

#define RESCUE_MAX (1 << 20)

typedef struct Given {
        const char *workspace;
        uint64_t tail, since;           /* since: seconds since the epoch; 0: all */
        bool follow, json;
} Given;

#define LINE_BYTES (64 * 1024)          /* of a longer line, its beginning */

typedef struct Reader {
        bool json, some, tame;          /* some: something came; tame: to a terminal */
        unsigned char before;           /* the byte before */
        char line[LINE_BYTES];
        size_t used;
} Reader;

static bool read_since(const char *text, uint64_t *ret) {
        uint64_t seconds, now = now_realtime() / USEC_PER_SEC;

        if (span_parse(text, &seconds))
                *ret = seconds < now ? now - seconds : 1;
        else if (time_parse(text, &seconds) == 0)
                *ret = seconds / USEC_PER_SEC;
        else
                return false;
        return true;
}

static bool read_options(int argc, char **argv, Given *g) {
        static const struct option options[] = {
                { "follow", no_argument, NULL, 'f' }, { "since", required_argument, NULL, 's' }, { "tail", required_argument, NULL, 't' },
                { "json", no_argument, NULL, 'j' }, {}
        };
        int opt;

        while ((opt = getopt_long(argc, argv, "f", options, NULL)) >= 0)
                if (opt == 'f')
                        g->follow = true;
                else if (opt == 'j')
                        g->json = true;
                else if (opt == 's' ? !read_since(optarg, &g->since) : opt != 't' || u64_parse(optarg, &g->tail) < 0 || g->tail > 100000)
                        return false;
        if (optind + 1 != argc)
                return false;
        g->workspace = argv[optind];
        return true;
}

/* What is no UTF-8 becomes '?': a container may say anything. */
static void print_line(Reader *r) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        for (size_t i = 0, n; i < r->used; i += n ?: 1) {
                n = utf8_length(r->line + i, r->used - i);
                if (n == 0 || r->line[i] == 0)
                        r->line[i] = '?';
        }
        r->line[r->used] = 0;
        r->used = 0;
        if (json_add_string(json, "line", r->line))
                (void) client_print(json);
}

static int on_part(const char *data, size_t size, void *userdata) {
        Reader *r = userdata;

        r->some = true;
        if (r->json) {
                for (size_t i = 0; i < size; i++)
                        if (data[i] == '\n')
                                print_line(r);
                        else if (r->used + 1 < sizeof r->line)
                                r->line[r->used++] = data[i];
                return fflush(stdout) == 0 ? 0 : -EPIPE;
        }
        if (r->tame) {                          /* a container may say anything, and a terminal obeys */
                for (size_t i = 0; i < size; i++) {
                        unsigned char c = (unsigned char) data[i];
                        bool obeyed = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f || (r->before == 0xc2 && c >= 0x80 && c < 0xa0);

                        if (putchar(obeyed ? '?' : c) == EOF)
                                return -EPIPE;
                        r->before = c;
                }
                return fflush(stdout) == 0 ? 0 : -EPIPE;
        }
        return fwrite(data, 1, size, stdout) == size && fflush(stdout) == 0 ? 0 : -EPIPE;
}

/* ── the last words ──────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Newest { const char *id; char name[TIME_TEXT_SIZE + UUID_SIZE + 1]; } Newest;

/* Names are TIME.ID, and come in the order of time. */
static int choose(int dirfd, const char *name, void *userdata) {
        Newest *n = userdata;
        const char *dot = strrchr(name, '.');

        (void) dirfd;
        if (dot && str_equal(dot + 1, n->id))
                (void) snprintf(n->name, sizeof n->name, "%s", name);
        return 0;
}

/* false: there are none, or they are not for this user. */
static bool say_last_words(const char *id) {
        _cleanup_close_ int state = geteuid() == 0 ? ctl_open_state() : -1, dir = -1;
        _cleanup_free_ char *text = NULL;
        Newest n = { .id = id };
        size_t size;

        dir = state < 0 ? -1 : openat(state, "rescue", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0 || file_each(dir, choose, &n) < 0 || !n.name[0] || file_read(dir, n.name, RESCUE_MAX, &text, &size) < 0)
                return false;
        printf("The last words of a container that failed and was removed, rescue/%s:\n", n.name);
        (void) fwrite(text, 1, size, stdout);
        if (size && text[size - 1] != '\n')
                putchar('\n');
        return true;
}

/* The engine could not say it, and the last line is its words; or the agent ended; or nothing was read for so long that it gave up. */
static int broken_off(Client *client, const Reader *r, const char *id) {
        _cleanup_json_ cJSON *df = NULL;
        Fault why = {};
        bool runs = client_get(client, "/v1/df", &df, &why) == CTL_OK;

        if (runs && !r->json && say_last_words(id))
                return CTL_FAILED;
        fputs("The log broke off; its last line may say why.\n", stderr);
        return runs ? CTL_FAILED : client_say(CTL_NOT_RUNNING, &why);
}

int ctl_logs(int argc, char **argv) {
        _cleanup_client_ Client client = {};
        Given g = { .tail = 200 };
        char id[UUID_SIZE], path[160];
        _cleanup_free_ Reader *reader = calloc(1, sizeof *reader);
        Fault why = {};
        int code;

        if (!read_options(argc, argv, &g)) {
                fputs("Usage: molecule-agentctl logs WORKSPACE [-f | --follow] [--since 2h | --since TIME] [--tail N] [--json]\n", stderr);
                return CTL_USAGE;
        }
        if (!reader)
                return CTL_FAILED;
        reader->json = g.json;
        reader->tame = isatty(STDOUT_FILENO);
        code = client_open(&client);
        if (code == CTL_OK)
                code = id_find(&client, ID_WORKSPACE, g.workspace, id);
        if (code != CTL_OK)
                return code;
        (void) snprintf(path, sizeof path, "/v1/logs/%s?tail=%llu&since=%llu&follow=%s", id, (unsigned long long) g.tail, (unsigned long long) g.since,
                        g.follow ? "true" : "false");
        code = client_stream(&client, path, on_part, reader, &why);
        if (reader->used)
                print_line(reader);
        return code == CTL_OK ? code : code == CTL_NOT_RUNNING && reader->some ? broken_off(&client, reader, id) : client_say(code, &why);
}
