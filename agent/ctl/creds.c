/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/creds.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "agent/ctl/answer.h"
#include "base/file.h"
#include "base/text.h"

#define CREDENTIAL_ROOM 8192

extern char **environ;

/* Runs systemd-creds, and waits for its end: 0 where it did what it was asked. input NULL: none. */
/* output: where its standard output goes; -1: as quiet says. */
static int run_to(char *const argv[], const void *input, size_t size, bool quiet, int output) {
        posix_spawn_file_actions_t actions;
        int fds[2], status = -1, e;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        (void) posix_spawn_file_actions_init(&actions);
        (void) posix_spawn_file_actions_adddup2(&actions, fds[0], STDIN_FILENO);
        if (output >= 0)
                (void) posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
        if (quiet) {
                if (output < 0)
                        (void) posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
                (void) posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        }
        e = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
        (void) posix_spawn_file_actions_destroy(&actions);
        (void) close(fds[0]);
        if (e != 0)
                pid = -1;
        else if (input && file_write_full(fds[1], input, size) < 0)
                e = EIO;
        (void) close(fds[1]);
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        return e != 0 ? -e : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0
                                                                           : -EIO;
}

static int run(char *const argv[], const void *input, size_t size, bool quiet) { return run_to(argv, input, size, quiet, -1); }

/* With the key on its standard input: in no argument, no file. */
static int encrypt(const void *value, size_t size, const char *name, const char *path) {
        return run((char *[]){ (char *) "systemd-creds", (char *) "encrypt", (char *) name, (char *) "-", (char *) path, NULL }, value, size, false);
}

/* It fits into the pipe, so that it can be read when the program has ended. */
int creds_open(const char *store, const char *name, char **ret, size_t *ret_size) {
        _cleanup_free_ char *text = calloc(1, CREDENTIAL_ROOM);
        _cleanup_close_ int from = -1;
        char path[256], option[80];
        int fds[2], r;
        ssize_t n;

        if (snprintf(path, sizeof path, "%s/%s", store, name) >= (int) sizeof path || snprintf(option, sizeof option, "--name=%s", name) >= (int) sizeof option)
                return -ENAMETOOLONG;
        if (!text || pipe2(fds, O_CLOEXEC) < 0)
                return -ENOMEM;
        from = fds[0];
        r = run_to((char *[]){ (char *) "systemd-creds", (char *) "decrypt", option, path, (char *) "-", NULL }, NULL, 0, true, fds[1]);
        (void) close(fds[1]);
        if (r < 0)
                return r;
        n = read(from, text, CREDENTIAL_ROOM - 1);
        if (n <= 0)
                return -EIO;
        *ret = TAKE_PTR(text);
        *ret_size = (size_t) n;
        return 0;
}

bool creds_decrypts(const char *store, const char *file, const char *name) {
        char path[256], option[160];

        if (snprintf(path, sizeof path, "%s/%s", store, file) >= (int) sizeof path || snprintf(option, sizeof option, "--name=%s", name) >= (int) sizeof option)
                return false;
        return run((char *[]){ (char *) "systemd-creds", (char *) "decrypt", option, path, (char *) "-", NULL }, NULL, 0, true) == 0;
}

int creds_sync(const char *path) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* On the disk before it is seen: the one before may be all there is. */
int creds_store(const char *store, const char *name, const void *value, size_t size) {
        char path[256], temp[264], option[80];
        int e;

        if (snprintf(path, sizeof path, "%s/%s", store, name) >= (int) sizeof path || snprintf(option, sizeof option, "--name=%s", name) >= (int) sizeof option)
                return -ENAMETOOLONG;
        (void) snprintf(temp, sizeof temp, "%s.new", path);
        (void) unlink(temp);
        e = encrypt(value, size, option, temp);
        if (e >= 0)
                e = creds_sync(temp);
        if (e >= 0 && rename(temp, path) < 0)
                e = -errno;
        if (e < 0)
                (void) unlink(temp);
        else
                e = creds_sync(store);
        return e;
}

/* ── the unit ────────────────────────────────────────────────────────────────────────────────────────────────── */

static int bus_call(sd_bus *bus, const char *method, const char *unit) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = unit ? sd_bus_call_method(bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                                          method, &error, NULL, "ss", unit, "replace")
                     : sd_bus_call_method(bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                                          method, &error, NULL, "");

        if (r < 0)
                fprintf(stderr, "%s: %s\n", method, error.message ?: strerror(-r));
        sd_bus_error_free(&error);
        return r;
}

int unit_do(const char *method, bool reload_units) {
        sd_bus *bus = NULL;
        int r = sd_bus_open_system(&bus);

        if (r >= 0 && reload_units)
                r = bus_call(bus, "Reload", NULL);
        if (r >= 0)
                r = bus_call(bus, method, UNIT);
        sd_bus_flush_close_unref(bus);
        return r;
}

#define UNIT_OBJECT "/org/freedesktop/systemd1/unit/molecule_2dagentd_2eservice"

static int bus_read(sd_bus *bus, const char *name, char type, void *ret) {
        return sd_bus_get_property_trivial(bus, "org.freedesktop.systemd1", UNIT_OBJECT,
                                           "org.freedesktop.systemd1.Service", name, NULL, type, ret);
}

void unit_say_last_end(void) {
        char *result = NULL, at[TIME_TEXT_SIZE], number[21];
        int32_t code = 0, status = 0;
        uint64_t when = 0;
        sd_bus *bus = NULL;

        if (sd_bus_open_system(&bus) >= 0 && bus_read(bus, "ExecMainExitTimestamp", 't', &when) >= 0 && when > 0 &&
            bus_read(bus, "ExecMainCode", 'i', &code) >= 0 && bus_read(bus, "ExecMainStatus", 'i', &status) >= 0 &&
            sd_bus_get_property_string(bus, "org.freedesktop.systemd1", UNIT_OBJECT,
                                       "org.freedesktop.systemd1.Service", "Result", NULL, &result) >= 0) {
                answer_words("It last ended at %s: %s %d (%s).\n", time_text(when, at), code == CLD_EXITED ? "exit status" : "signal", status, result);
                answer_string("ended_at", at);
                answer_string(code == CLD_EXITED ? "exit_status" : "signal", u64_text((uint64_t) status, number));
                answer_string("result", result);
        }
        free(result);
        sd_bus_flush_close_unref(bus);
}
