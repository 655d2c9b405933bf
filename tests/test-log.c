/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"
#include "tests/test.h"

/* What goes to stderr between the two calls. */
static int saved_stderr = -1;
static FILE *captured;

static void capture_begin(void) {
        captured = tmpfile();
        saved_stderr = dup(STDERR_FILENO);
        if (!captured || saved_stderr < 0 || dup2(fileno(captured), STDERR_FILENO) < 0)
                abort();
}

static const char *capture_end(void) {
        static char text[8192];
        size_t n;

        if (dup2(saved_stderr, STDERR_FILENO) < 0)
                abort();
        close(saved_stderr);
        rewind(captured);
        n = fread(text, 1, sizeof text - 1, captured);
        text[n] = 0;
        fclose(captured);
        return text;
}

/* The line behind "2026-01-02T03:04:05.678Z ", or NULL when it does not begin so. */
static const char *after_time(const char *line) {
        static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
        size_t i;

        for (i = 0; shape[i]; i++)
                if (shape[i] == 'd' ? line[i] < '0' || line[i] > '9' : line[i] != shape[i])
                        return NULL;
        return line + i;
}

TEST(a_line) {
        capture_begin();
        errno = ENOENT;
        log_warning("disk at %i %%: %m", 91);
        CHECK_INT(errno, ENOENT);
        CHECK_STR(after_time(capture_end()), "warning disk at 91 %: No such file or directory\n");
}

TEST(fields) {
        Fault f = {}, unset = {};

        (void) fault(&f, -EIO, FAULT_NO_SPACE, "not to be seen");
        capture_begin();
        log_write(LOG_ERR, &(LogFields) { .workspace_id = "w1", .job_id = "j1", .stage = "starting", .fault = &f }, "failed");
        CHECK_STR(after_time(capture_end()), "error failed [ws w1 job j1 stage starting error no_space]\n");

        capture_begin();
        log_write(LOG_INFO, &(LogFields) { .job_id = "j1", .fault = &unset }, "done");
        CHECK_STR(after_time(capture_end()), "info done [job j1]\n");

        capture_begin();
        log_write(LOG_NOTICE, &(LogFields) {}, "none");
        CHECK_STR(after_time(capture_end()), "notice none\n");
}

TEST(one_event_is_one_line) {
        capture_begin();
        log_write(LOG_INFO, &(LogFields) { .stage = "a\nb" }, "%s", "first\nsecond\r\x1b[31m\xff");
        CHECK_STR(after_time(capture_end()), "info first?second??[31m? [stage a?b]\n");
}

TEST(long_text_is_cut) {
        static char many[20000];
        const char *line;

        memset(many, 'x', sizeof many - 1);
        capture_begin();
        log_write(LOG_INFO, &(LogFields) { .workspace_id = many, .job_id = many, .stage = many }, "%s", many);
        line = capture_end();
        CHECK(after_time(line) != NULL);
        CHECK(strlen(line) < 4096);
        CHECK(strlen(line) > 2000);
        CHECK_STR(line + strlen(line) - 2, "]\n");
        CHECK(strchr(line, '\n') == line + strlen(line) - 1);
}

TEST(levels) {
        capture_begin();
        log_debug("not at info");
        CHECK_STR(capture_end(), "");

        CHECK_INT(log_set_level("debug"), 0);
        capture_begin();
        log_debug("now");
        CHECK_STR(after_time(capture_end()), "debug now\n");

        CHECK_INT(log_set_level("error"), 0);
        capture_begin();
        log_warning("less");
        CHECK_STR(capture_end(), "");

        CHECK_INT(log_set_level("loud"), -EINVAL);
        CHECK_INT(log_set_level(""), -EINVAL);
        capture_begin();
        log_error("still error");
        log_write(LOG_CRIT, NULL, "above");
        CHECK(strstr(capture_end(), "error above\n") != NULL);
        CHECK_INT(log_set_level("info"), 0);
}

/* Where JOURNAL_STREAM names another file than stderr's, lines are written. */
TEST(journal_stream_of_another) {
        static const char *const foreign[] = { "0:0", "nonsense", "", "1:2:3" };

        for (size_t i = 0; i < ELEMENTS(foreign); i++) {
                (void) setenv("JOURNAL_STREAM", foreign[i], 1);
                capture_begin();
                log_open("test-log");
                log_info("a line");
                CHECK_STR(after_time(capture_end()), "info a line\n");
        }
        (void) unsetenv("JOURNAL_STREAM");
}

/* Says that stderr, as captured, is the journal's stream. */
static void pretend_journal(void) {
        char stream[64];
        struct stat st;

        CHECK_INT(fstat(STDERR_FILENO, &st), 0);
        (void) snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino);
        (void) setenv("JOURNAL_STREAM", stream, 1);
        log_open("test-log");
}

/* An empty /run of this process's own, with a socket where the journal's would be. Negative where that is not allowed. */
static int journal_in_namespace(bool listening) {
        struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" };
        _cleanup_close_ int fd = -1;

        if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
                return -errno;
        if (mount(NULL, "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 || mount("none", "/run", "tmpfs", 0, NULL) < 0)
                return -errno;
        if (!listening)
                return 0;
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || mkdir("/run/systemd", 0755) < 0 || mkdir("/run/systemd/journal", 0755) < 0 ||
            bind(fd, (struct sockaddr *) &a, sizeof a) < 0)
                return -errno;
        return TAKE_FD(fd);
}

TEST(nothing_is_lost_where_no_journal_listens) {
        if (journal_in_namespace(false) < 0)
                SKIP("a mount namespace is not allowed here");
        capture_begin();
        pretend_journal();
        log_info("not lost");
        CHECK(strstr(capture_end(), "not lost") != NULL);
}

TEST(journal_gets_fields) {
        static const char *const wanted[] = {
                "\nMESSAGE=pull?failed\n", "\nPRIORITY=4\n", "\nSYSLOG_IDENTIFIER=test-log\n", "\nMOLECULE_WORKSPACE_ID=w1\n",
                "\nMOLECULE_JOB_ID=j1\n", "\nMOLECULE_STAGE=installing?PRIORITY=0\n", "\nMOLECULE_ERROR_CODE=image_auth\n",
                "\nMESSAGE_ID=ec838cb2376a93ef68d4c29056852725\n",
        };
        char got[4096] = "\n";
        _cleanup_close_ int fd = journal_in_namespace(true);
        LogFields fields = { .workspace_id = "w1", .job_id = "j1", .stage = "installing\nPRIORITY=0", .event = EVENT_JOB_FAILED };
        Fault f = {};
        ssize_t n;

        if (fd < 0)
                SKIP("a mount namespace is not allowed here");
        (void) fault(&f, -EACCES, FAULT_IMAGE_AUTH, "x");
        fields.fault = &f;
        capture_begin();
        pretend_journal();
        log_write(LOG_WARNING, &fields, "pull\nfailed");
        CHECK_STR(capture_end(), "");

        n = recv(fd, got + 1, sizeof got - 2, 0);
        if (!CHECK(n > 0))
                return;
        for (size_t i = 0; i < ELEMENTS(wanted); i++)
                if (!CHECK(strstr(got, wanted[i]) != NULL))
                        printf("#   no %s\n", wanted[i] + 1);
        CHECK(strstr(got, "CODE_FILE") == NULL);
}

TEST_MAIN
