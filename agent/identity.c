/* SPDX-License-Identifier: Apache-2.0 */

/* The identity is bound to the cloud's instance id or, where there never was one, to the machine id. Only a known value that differs makes state foreign;
 * an unknown one never does. */

#include "agent/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#include "agent/audit.h"
#include "base/file.h"
#include "base/log.h"
#include "base/record.h"

#define IDENTITY_FILE "identity"
#define EPOCH_FILE    "boot_epoch"
#define LOCK_FILE     "lock"
#define ADOPT_FILE    "adopt"                   /* an operator's word that is being carried out */
#define IDENTITY_MAX  4096
#define FOREIGN       "foreign-"                /* in quarantine/, then the time */
#define FOREIGN_SIZE  40

/* Makes the application-specific id ours and nobody else's. */
#define APP_ID SD_ID128_MAKE(3b, 0c, 5e, 9d, 71, 42, 4f, 0a, 9e, 61, d8, 24, 57, bb, 1c, e3)

/* What belongs to an identity, and goes with it when it turns out to be another machine's. The identity goes last: a crash in between finds
 * it foreign again. */
static const char *const parts[] = { "ws",     "host", "outbox", "outcomes",         "pins",     "tombstones",
                                     "sealed", "keys", "rescue", "credentials.seal", AUDIT_FILE, AUDIT_OLD_FILE, AUDIT_LOST_FILE, EPOCH_FILE, IDENTITY_FILE };
static const char *const only_identity[] = { IDENTITY_FILE };

int state_open(const char *path, Fault *reterr) {
        _cleanup_close_ int fd = -1, lock = -1;

        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot make the state directory %s: %m", path);
        fd = TEMP_FAILURE_RETRY(open(path, O_RDONLY|O_DIRECTORY|O_CLOEXEC));
        if (fd < 0)
                return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot open the state directory %s: %m", path);
        lock = TEMP_FAILURE_RETRY(openat(fd, LOCK_FILE, O_RDWR|O_CREAT|O_CLOEXEC|O_NOFOLLOW, 0600));
        if (lock < 0)
                return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot open the lock in %s: %m", path);
        if (flock(lock, LOCK_EX|LOCK_NB) < 0)
                return fault(reterr, -EBUSY, FAULT_STATE_DEGRADED, "Another agent uses the state directory %s.", path);
        (void) file_sweep_temp(fd);
        TAKE_FD(lock);                          /* held for the life of the process */
        return TAKE_FD(fd);
}

/* A host may be without a machine id, but no boot is without its own: by that it is known whether another machine took this one's place. */
static int read_machine(Identity *id, Fault *reterr) {
        sd_id128_t machine, boot;
        int r = sd_id128_get_boot(&boot);

        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Cannot read the kernel's boot id: %m");
        if (sd_id128_get_machine_app_specific(APP_ID, &machine) >= 0)
                (void) sd_id128_to_string(machine, id->machine_id);
        (void) snprintf(id->boot_id, sizeof id->boot_id, SD_ID128_UUID_FORMAT_STR, SD_ID128_FORMAT_VAL(boot));
        return 0;
}

/* The identity goes last, so a place without one is of a setting aside that was cut short: it is gone on with. */
static int unfinished(int quarantine, const char *name, void *userdata) {
        _cleanup_close_ int fd = strncmp(name, FOREIGN, strlen(FOREIGN)) == 0 && strlen(name) < FOREIGN_SIZE ?
                                         openat(quarantine, name, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW) : -1;

        if (fd >= 0 && faccessat(fd, IDENTITY_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                (void) strcpy(userdata, name);
        return 0;
}

static int set_aside(int state_fd, const char *const *names, size_t n, Fault *reterr) {
        _cleanup_close_ int quarantine = file_open_dir(state_fd, "quarantine"), to = -1;
        char name[FOREIGN_SIZE], now[21];

        (void) snprintf(name, sizeof name, FOREIGN "%s", u64_text(now_realtime(), now));
        if (quarantine >= 0)
                (void) file_each_dir(quarantine, unfinished, name);
        to = quarantine < 0 ? quarantine : file_open_dir(quarantine, name);
        if (to < 0)
                return fault(reterr, to, FAULT_STATE_DEGRADED, "Cannot set state aside: %m");
        for (size_t i = 0; i < n; i++)
                if (renameat(state_fd, names[i], to, names[i]) < 0 && errno != ENOENT)
                        return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot set '%s' aside: %m", names[i]);
        if (fsync(to) < 0 || fsync(state_fd) < 0)
                return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot set state aside: %m");
        return 0;
}

typedef struct IdentityView { Identity id; char *machine_id, *instance_id; } IdentityView;

static void view_done(IdentityView *v) {
        free(v->machine_id);
        free(v->instance_id);
}
#define _cleanup_view_ _cleanup_(view_done)

/* {EPOCH: check} */
static int set_checks(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        RootChecks *checks = place;
        const cJSON *item;

        cJSON_ArrayForEach(item, v) {
                RootCheck *c = &checks->items[checks->n];
                uint64_t epoch;

                if (checks->n == ROOTS_MAX || u64_parse(item->string, &epoch) < 0 || epoch > UINT32_MAX || !cJSON_IsString(item) ||
                    strlen(item->valuestring) != ROOT_CHECK_SIZE - 1)
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "'%s' is not {epoch: check}.", f->name);
                c->epoch = (uint32_t) epoch;
                memcpy(c->check, item->valuestring, ROOT_CHECK_SIZE);
                checks->n++;
        }
        return 0;
}

static bool add_checks(cJSON *json, const RootChecks *checks) {
        cJSON *object = cJSON_CreateObject();
        char epoch[21];
        bool ok = json_add_item(json, "mk_check", object);

        for (size_t i = 0; ok && i < checks->n; i++)
                ok = json_add_string(object, u64_text(checks->items[i].epoch, epoch), checks->items[i].check);
        return ok && (!checks->wrapped || json_add_i64(json, "wrapped_epoch", checks->wrapped));
}

static const JsonField identity_fields[] = {
        { "host_id",       cJSON_String, json_set_uuid, offsetof(IdentityView, id.host_id), JSON_REQUIRED, 0, NULL },
        { "machine_id",    cJSON_String, json_set_text, offsetof(IdentityView, machine_id), JSON_REQUIRED, 32, NULL },
        { "instance_id",   cJSON_String, json_set_string, offsetof(IdentityView, instance_id), JSON_OPTIONAL, 63, NULL },
        { "parked_boot_id", cJSON_String, json_set_uuid, offsetof(IdentityView, id.parked_boot_id), JSON_OPTIONAL, 0, NULL },
        { "mk_check",      cJSON_Object, set_checks, offsetof(IdentityView, id.roots), JSON_OPTIONAL, 0, NULL },
        { "wrapped_epoch", cJSON_Number, json_set_u32, offsetof(IdentityView, id.roots.wrapped), JSON_OPTIONAL, 0, NULL },
        { "registered_at", cJSON_String, json_set_time, offsetof(IdentityView, id.registered_at), JSON_OPTIONAL, 0, NULL },
        {}
};

static int view_read(int state_fd, IdentityView *view, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        int r = record_read(state_fd, IDENTITY_FILE, "identity", IDENTITY_MAX, &json, reterr);

        if (r < 0)
                return r;
        r = json_dispatch(json, identity_fields, JSON_STRICT, view, reterr);
        if (r < 0)
                return r == -ERANGE || r == -EFBIG ? -EBADMSG : r;      /* read, but not what it should be */
        (void) snprintf(view->id.machine_id, sizeof view->id.machine_id, "%s", view->machine_id);
        (void) snprintf(view->id.instance_id, sizeof view->id.instance_id, "%s", view->instance_id ?: "");
        return 0;
}

int identity_read(int state_fd, Identity *ret, Fault *reterr) {
        _cleanup_view_ IdentityView view = {};
        int r = view_read(state_fd, &view, reterr);

        if (r < 0)
                return r;
        *ret = view.id;
        return 0;
}

int identity_save(int state_fd, const Identity *id, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_string(json, "host_id", id->host_id) || !json_add_string(json, "machine_id", id->machine_id) ||
            (id->instance_id[0] && !json_add_string(json, "instance_id", id->instance_id)) || (id->parked_boot_id[0] && !json_add_string(json, "parked_boot_id", id->parked_boot_id)) ||
            (id->registered_at && !json_add_time(json, "registered_at", id->registered_at)) ||
            (id->roots.n > 0 && !add_checks(json, &id->roots)))
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        return record_write(state_fd, IDENTITY_FILE, "identity", json, reterr);
}

/* Bumped before anything is told to anyone, so that no two starts ever share an epoch. */
static int epoch_bump(int state_fd, uint64_t *ret, Fault *reterr) {
        _cleanup_json_ cJSON *old = NULL, *json = cJSON_CreateObject();
        Fault damaged = {};
        int r = record_read(state_fd, EPOCH_FILE, "boot_epoch", IDENTITY_MAX, &old, &damaged);
        /* A damaged epoch must not go back: the time in seconds is above any count of starts. */
        uint64_t epoch = r == -ENOENT ? 0 : r < 0 ? now_realtime() / USEC_PER_SEC : json_get_u64_text(old, "boot_epoch", 0);

        if (damaged.set)
                log_warning("The record of the boot epoch is damaged, it goes on from the clock: %s", damaged.text);
        *ret = epoch + 1;
        if (!json || !json_add_u64_text(json, "boot_epoch", *ret))
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        return record_write(state_fd, EPOCH_FILE, "boot_epoch", json, reterr);
}

/* ── an operator's word ──────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Search { const char *host_id; char found[FOREIGN_SIZE]; } Search;

static int look_into(int quarantine, const char *name, void *userdata) {
        Search *s = userdata;
        _cleanup_close_ int fd = strncmp(name, FOREIGN, strlen(FOREIGN)) == 0 ? openat(quarantine, name, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW) : -1;
        Identity id = {};

        if (fd < 0 || strlen(name) >= sizeof s->found || identity_read(fd, &id, NULL) < 0 || strcmp(id.host_id, s->host_id) != 0)
                return 0;
        (void) strcpy(s->found, name);
        return 0;
}

static int bring_back(int state_fd, int quarantine, const char *name, Fault *reterr) {
        _cleanup_close_ int from = openat(quarantine, name, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW);

        if (from < 0)
                return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot open quarantine/%s: %m", name);
        for (size_t i = 0; i < ELEMENTS(parts); i++)
                if (renameat(from, parts[i], state_fd, parts[i]) < 0 && errno != ENOENT)
                        return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot bring '%s' back: %m", parts[i]);
        (void) unlinkat(quarantine, name, AT_REMOVEDIR);        /* ignoring: something else lies there, and stays */
        return fsync(quarantine) < 0 || fsync(state_fd) < 0 ? fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot bring the state back: %m") : 0;
}

/* The intent is on the disk before anything moves, and whether what lay here is aside already: a crash anywhere is gone on with at the next start. */
static int adopt_save(int state_fd, const char *host_id, bool aside, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_string(json, "host_id", host_id) || !json_add_bool(json, "aside", aside))
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        return record_write(state_fd, ADOPT_FILE, ADOPT_FILE, json, reterr);
}

static int adopt_move(int state_fd, Search *s, bool aside, Fault *reterr) {
        _cleanup_close_ int quarantine = file_open_dir(state_fd, "quarantine");
        int r = 0;

        if (quarantine < 0 || file_each_dir(quarantine, look_into, s) < 0)
                return fault(reterr, -EIO, FAULT_STATE_DEGRADED, "Cannot look into quarantine/.");
        if (!aside && s->found[0])
                r = set_aside(state_fd, parts, ELEMENTS(parts), reterr);
        if (!aside && r >= 0)
                r = adopt_save(state_fd, s->host_id, true, reterr);
        return r >= 0 && s->found[0] ? bring_back(state_fd, quarantine, s->found, reterr) : r;
}

static int adopt_go_on(int state_fd, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        Search s = {};
        Identity id = {};
        int r = record_read(state_fd, ADOPT_FILE, ADOPT_FILE, IDENTITY_MAX, &json, reterr);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        s.host_id = json_get_string(json, "host_id");
        if (!s.host_id || !uuid_is_valid(s.host_id))
                return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "The record '" ADOPT_FILE "' names no host.");
        r = adopt_move(state_fd, &s, json_get_bool(json, "aside", false), reterr);
        if (r < 0)
                return r;
        if (identity_read(state_fd, &id, NULL) < 0)
                id = (Identity) {};
        /* What it is bound to is found out at the next start, by a machine that is taken at its word. */
        id.instance_id[0] = id.machine_id[0] = id.parked_boot_id[0] = 0;
        (void) snprintf(id.host_id, sizeof id.host_id, "%s", s.host_id);
        r = read_machine(&id, reterr);
        if (r >= 0)
                r = identity_save(state_fd, &id, reterr);
        if (r >= 0 && file_remove(state_fd, ADOPT_FILE) < 0)
                r = fault(reterr, -EIO, FAULT_STATE_DEGRADED, "Cannot end the adoption: %m");
        return r;
}

int identity_adopt(int state_fd, const char *host_id, Fault *reterr) {
        int r = adopt_save(state_fd, host_id, false, reterr);

        return r < 0 ? r : adopt_go_on(state_fd, reterr);
}

int identity_reset(int state_fd, Identity *ret, Fault *reterr) {
        Identity id = {};
        int r = read_machine(&id, reterr);

        if (r >= 0)
                r = set_aside(state_fd, parts, ELEMENTS(parts), reterr);
        if (r < 0)
                return r;
        *ret = id;
        if (uuid_make(ret->host_id) < 0)
                return fault(reterr, -EIO, FAULT_INTERNAL, "The kernel gives no randomness.");
        return identity_save(state_fd, ret, reterr);
}

/* ── at start ────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool differ(const char *kept, const char *now) { return kept[0] && now[0] && strcmp(kept, now) != 0; }

static bool is_foreign(const Identity *kept, const Identity *now) {
        return kept->instance_id[0] ? differ(kept->instance_id, now->instance_id) : differ(kept->machine_id, now->machine_id);
}

/* What is known only now goes into the record; what is not known now stays there. */
static int take_over(int state_fd, Identity *id, const Identity *kept, Fault *reterr) {
        bool first = id->instance_id[0] && !kept->instance_id[0];

        memcpy(id->host_id, kept->host_id, UUID_SIZE);
        memcpy(id->parked_boot_id, kept->parked_boot_id, UUID_SIZE);
        id->registered_at = kept->registered_at;
        id->roots = kept->roots;
        if (!id->instance_id[0])
                memcpy(id->instance_id, kept->instance_id, sizeof id->instance_id);
        if (!id->machine_id[0])
                memcpy(id->machine_id, kept->machine_id, sizeof id->machine_id);
        return first ? identity_save(state_fd, id, reterr) : 0;
}

int identity_load(int state_fd, Identity *ret, bool *ret_foreign, Fault *reterr) {
        _cleanup_view_ IdentityView view = {};
        Fault damaged = {};
        bool foreign, lost;
        int r;

        r = read_machine(ret, reterr);
        if (r >= 0)
                r = adopt_go_on(state_fd, reterr);
        if (r < 0)
                return r;
        r = view_read(state_fd, &view, &damaged);
        lost = r < 0;
        foreign = !lost && is_foreign(&view.id, ret);
        if (lost && r != -ENOENT && r != -EBADMSG && r != -EPROTONOSUPPORT)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read the identity: %m");  /* unreadable now is not damaged */
        if (foreign)
                r = set_aside(state_fd, parts, ELEMENTS(parts), reterr);
        else if (lost && r != -ENOENT) {
                log_error("The identity is damaged, this host gets a new one; what it runs stays: %s", damaged.text);
                r = set_aside(state_fd, only_identity, ELEMENTS(only_identity), reterr);
        } else
                r = 0;
        if (r < 0)
                return r;
        if (foreign || lost) {
                if (uuid_make(ret->host_id) < 0)
                        return fault(reterr, -EIO, FAULT_INTERNAL, "The kernel gives no randomness.");
                r = identity_save(state_fd, ret, reterr);
                if (r < 0)
                        return r;
                log_notice("This host is %s from now on.", ret->host_id);
        } else if ((r = take_over(state_fd, ret, &view.id, reterr)) < 0)
                return r;
        *ret_foreign = foreign;
        return epoch_bump(state_fd, &ret->boot_epoch, reterr);
}

int identity_parked(int state_fd, Identity *id, Fault *reterr) {
        if (strcmp(id->parked_boot_id, id->boot_id) == 0)
                return 0;
        memcpy(id->parked_boot_id, id->boot_id, UUID_SIZE);
        return identity_save(state_fd, id, reterr);
}

int identity_registered(int state_fd, Identity *id, uint64_t now, Fault *reterr) {
        if (id->registered_at)
                return 0;
        id->registered_at = now;
        return identity_save(state_fd, id, reterr);
}
