/* SPDX-License-Identifier: Apache-2.0 */

/* One line of log. Under systemd stderr is a stream to the journal, which JOURNAL_STREAM names by device and inode: only when that is
 * still so do the fields go there by its own protocol; somebody who redirected stderr wants to read lines. A line is one write, so
 * that two programs on one terminal do not mix. */

#include "base/log.h"

#define SD_JOURNAL_SUPPRESS_LOCATION                    /* our place in the source is nobody's business */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#include "base/text.h"

#define LOG_TEXT_MAX 2048
#define LOG_FIELD_MAX 160

static struct {
        int  level;
        bool journal;
        char program[64];
} output = { .level = LOG_INFO };

static const struct { const char *name; int level; } levels[] = {
        { "error",   LOG_ERR     },
        { "warning", LOG_WARNING },
        { "notice",  LOG_NOTICE  },
        { "info",    LOG_INFO    },
        { "debug",   LOG_DEBUG   },
};

static const char *level_name(int level) {
        for (size_t i = 0; i < ELEMENTS(levels); i++)
                if (levels[i].level >= level)
                        return levels[i].name;
        return "debug";
}

int log_set_level(const char *name) {
        for (size_t i = 0; i < ELEMENTS(levels); i++)
                if (str_equal(levels[i].name, name)) {
                        output.level = levels[i].level;
                        return 0;
                }
        return -EINVAL;
}

/* Without the socket sd_journal_sendv() drops everything and reports success. */
static bool stderr_is_journal(void) {
        const char *s = getenv("JOURNAL_STREAM");
        uintmax_t device, inode;
        struct stat st;
        char rest;

        return s && sscanf(s, "%ju:%ju%c", &device, &inode, &rest) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
               st.st_dev == device && st.st_ino == inode && access("/run/systemd/journal/socket", W_OK) == 0;
}

void log_open(const char *program) {
        (void) snprintf(output.program, sizeof output.program, "%s", program);
        output.journal = stderr_is_journal();
}

typedef struct LogItem { const char *journal_name, *line_name, *value; } LogItem;

#define LOG_ITEMS 4

static size_t items_from_fields(const LogFields *f, LogItem ret[static LOG_ITEMS]) {
        const LogItem all[LOG_ITEMS] = {
                { "MOLECULE_WORKSPACE_ID", "ws",    f ? f->workspace_id : NULL },
                { "MOLECULE_JOB_ID",       "job",   f ? f->job_id : NULL },
                { "MOLECULE_STAGE",        "stage", f ? f->stage : NULL },
                { "MOLECULE_ERROR_CODE",   "error", f && f->fault && f->fault->set ? fault_code_name(f->fault->code) : NULL },
        };
        size_t n = 0;

        for (size_t i = 0; i < LOG_ITEMS; i++)
                if (all[i].value)
                        ret[n++] = all[i];
        return n;
}

static const char *event_id(const LogFields *f) {
#define LOG_EVENT_ID(name, id) [EVENT_##name] = id,
        static const char ids[_EVENT_MAX][33] = { LOG_EVENTS(LOG_EVENT_ID) };

        return f && f->event != EVENT_NONE ? ids[f->event] : NULL;
}

static int write_journal(int priority, const char *id, const LogItem *items, size_t n_items, const char *text) {
        char message[LOG_TEXT_MAX + 16], level[16], identifier[96], fields[LOG_ITEMS][LOG_FIELD_MAX], event[48];
        struct iovec v[4 + LOG_ITEMS];
        size_t n = 0;

        (void) snprintf(message, sizeof message, "MESSAGE=%s", text);
        (void) snprintf(level, sizeof level, "PRIORITY=%i", priority);
        (void) snprintf(identifier, sizeof identifier, "SYSLOG_IDENTIFIER=%s", output.program);
        v[n++] = (struct iovec) { message, strlen(message) };
        v[n++] = (struct iovec) { level, strlen(level) };
        v[n++] = (struct iovec) { identifier, strlen(identifier) };
        if (id) {
                (void) snprintf(event, sizeof event, "MESSAGE_ID=%s", id);
                v[n++] = (struct iovec) { event, strlen(event) };
        }
        for (size_t i = 0; i < n_items; i++) {
                (void) snprintf(fields[i], sizeof fields[i], "%s=%s", items[i].journal_name, items[i].value);
                text_make_printable(fields[i]);
                v[n++] = (struct iovec) { fields[i], strlen(fields[i]) };
        }
        return sd_journal_sendv(v, (int) n);
}

static void write_line(int priority, const LogItem *items, size_t n_items, const char *text) {
        char line[LOG_TEXT_MAX + LOG_ITEMS * LOG_FIELD_MAX + 64], at[TIME_TEXT_SIZE];
        size_t used;

        used = (size_t) snprintf(line, sizeof line, "%s %s %s", time_text(now_realtime(), at), level_name(priority), text);
        for (size_t i = 0; i < n_items; i++)
                used += (size_t) snprintf(line + used, sizeof line - used, "%s%s %.*s", i == 0 ? " [" : " ", items[i].line_name,
                                          LOG_FIELD_MAX - 16, items[i].value);
        (void) snprintf(line + used, sizeof line - used, n_items > 0 ? "]" : "");
        text_make_printable(line);

        used = strlen(line);
        line[used] = '\n';
        (void) (write(STDERR_FILENO, line, used + 1) < 0);
}

void log_write(int priority, const LogFields *fields, const char *fmt, ...) {
        char text[LOG_TEXT_MAX];
        LogItem items[LOG_ITEMS];
        int saved = errno;
        size_t n;
        va_list ap;

        if (priority > output.level)
                return;

        va_start(ap, fmt);
        if (vsnprintf(text, sizeof text, fmt, ap) < 0)
                text[0] = 0;
        va_end(ap);
        text_make_printable(text);

        n = items_from_fields(fields, items);
        if (!output.journal || write_journal(priority, event_id(fields), items, n, text) < 0)
                write_line(priority, items, n, text);
        errno = saved;
}
