/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/format.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent/audit.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/record.h"
#include "base/text.h"

#define FORMAT_FILE "format"
#define WITNESS     "identity"                  /* what every state has, and what is rewritten last */
#define RECORD_MAX  ((size_t) 64 * 1024 * 1024)

static const char *const directories[] = { "ws", "outbox" };

int format_open(int state_fd, Fault *reterr) {
        int version = record_version_of(state_fd, WITNESS, RECORD_MAX);

        if (version > RECORD_VERSION)
                return fault(reterr, -EPROTONOSUPPORT, FAULT_STATE_DEGRADED, "A newer agent has taken this state over for good: it is of version %d, this program "
                                                                             "knows %d. Install the newer one again.", version, RECORD_VERSION);
        if (version >= 0 && version + 1 == RECORD_VERSION) {
                record_set_version((unsigned) version);
                return 1;
        }
        return 0;
}

/* The first healthy moment since the upgrade; remembered, since a restart must not begin the time anew. */
static uint64_t healthy_since(int state_fd, uint64_t now) {
        _cleanup_json_ cJSON *json = NULL, *fresh = NULL;
        uint64_t since = 0;

        if (record_read(state_fd, FORMAT_FILE, FORMAT_FILE, RECORD_MAX, &json, NULL) >= 0 && json_get_string(json, "healthy_since") &&
            time_parse(json_get_string(json, "healthy_since"), &since) >= 0 && since <= now)
                return since;
        fresh = cJSON_CreateObject();
        if (fresh && json_add_time(fresh, "healthy_since", now))
                (void) record_write(state_fd, FORMAT_FILE, FORMAT_FILE, fresh, NULL);   /* ignoring: tried again with the next sweep */
        return now;
}

static int rewrite(int dirfd, const char *name, void *userdata) {
        bool left = strcmp(name, WITNESS) == 0 || strcmp(name, AUDIT_FILE) == 0 || strcmp(name, AUDIT_OLD_FILE) == 0 ||
                    strcmp(name, AUDIT_LOST_FILE) == 0; /* the last three: no records, two of them large */
        int r = left ? 0 : record_rewrite(dirfd, name, RECORD_MAX);

        if (r < 0 && r != -EBADMSG)             /* not a record: sealed files, the lock, the ballast */
                *(int *) userdata = r;
        return 0;
}

static int rewrite_all(int state_fd) {
        int failed = 0;

        (void) file_each(state_fd, rewrite, &failed);
        for (size_t i = 0; i < ELEMENTS(directories); i++) {
                _cleanup_close_ int fd = TEMP_FAILURE_RETRY(openat(state_fd, directories[i], O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW));

                if (fd >= 0)
                        (void) file_each(fd, rewrite, &failed);
        }
        return failed < 0 ? failed : record_rewrite(state_fd, WITNESS, RECORD_MAX);
}

void format_tick(int state_fd, uint64_t finalize_seconds, bool healthy) {
        unsigned before = record_version();
        uint64_t now = now_realtime();
        int r;

        if (before == RECORD_VERSION || !healthy || now - healthy_since(state_fd, now) < finalize_seconds * USEC_PER_SEC)
                return;
        record_set_version(RECORD_VERSION);
        r = rewrite_all(state_fd);
        if (r < 0) {
                record_set_version(before);
                log_warning("The state could not be written as this version has it: %s. It is tried again.", strerror(-r));
                return;
        }
        (void) unlinkat(state_fd, FORMAT_FILE, 0);
        log_notice("This version has been well for long enough: the state is its own now, and the former version cannot read it any more.");
}
