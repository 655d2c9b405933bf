/* SPDX-License-Identifier: Apache-2.0 */

/* doctor: the machine: room on its disks, where its memory may end up, and the unit as the service manager has it in force. */

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "agent/ctl/creds.h"
#include "agent/ctl/doctor.h"
#include "agent/ctl/term.h"
#include "base/ballast.h"
#include "base/text.h"
#include "engine/disk.h"
#include "secrets/arena.h"

/* ── disks ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Where images and volumes are; the state where the engine does not say. */
static const char *store_of(const Doctor *d) { return d->engine.root_dir ?: doctor_state_directory(); }

Verdict look_disk(Doctor *d) {
        const char *path = store_of(d);
        char has[TERM_TEXT_SIZE], wants[TERM_TEXT_SIZE];
        Disk disk;
        int r = disk_look(path, &disk);

        if (r < 0 || !d->config)
                return say(d, NOT_HERE, "%s: %s", path, r < 0 ? strerror(-r) : "how much is to be free is not known");
        (void) term_bytes(disk.free_bytes, has);
        (void) term_bytes(d->config->min_free_bytes, wants);
        if (disk.free_bytes < d->config->min_free_bytes)
                return blame(d, BAD, fault_code_name(FAULT_NO_SPACE), "%s free at %s, below min_free_bytes (%s): no pull begins. Free space, grow the disk, or lower it.", has,
                             path, wants);
        return say(d, FINE, "%s free at %s (%u %% used), %s are kept", has, path, disk.used_percent, wants);
}

/* 0 where the file system does not count them. */
static unsigned inodes_percent(const char *path) {
        struct statvfs v;

        return statvfs(path, &v) < 0 || v.f_files == 0 ? 0 : (unsigned) (100 - v.f_favail * 100 / v.f_files);
}

Verdict look_inodes(Doctor *d) {
        const char *paths[] = { store_of(d), doctor_state_directory() }, *worst = paths[0];
        unsigned used = 0;

        for (size_t i = 0; i < ELEMENTS(paths); i++) {
                unsigned percent = inodes_percent(paths[i]);

                if (percent > used) {
                        used = percent;
                        worst = paths[i];
                }
        }
        if (used >= 95)
                return blame(d, used >= 99 ? BAD : WARNING, fault_code_name(FAULT_NO_SPACE),
                             "%u %% of the inodes at %s are used: files can soon not be made. See df -i; docker system df.", used, worst);
        return say(d, FINE, "%u %% used at %s", used, worst);
}

Verdict look_ballast(Doctor *d) {
        _cleanup_free_ char *path = str_printf("%s/ballast", doctor_state_directory());
        struct stat st;

        if (!path || access(doctor_state_directory(), R_OK | X_OK) < 0)
                return say(d, NOT_HERE, "there is no state directory to look into");
        if (stat(path, &st) < 0 || (size_t) st.st_size < BALLAST_BYTES || (size_t) st.st_blocks * 512 < BALLAST_BYTES)
                return blame(d, WARNING, fault_code_name(FAULT_STATE_DEGRADED), "The room kept for what must be stored is given up: the disk of %s was full. Free space there.",
                             doctor_state_directory());
        return say(d, FINE, "%zu MiB kept in the state directory", BALLAST_BYTES >> 20);
}

/* ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────── */

Verdict look_runtime(Doctor *d) {
        const char *path = doctor_runtime_directory();
        struct statfs fs;

        if (statfs(path, &fs) < 0)
                return say(d, BAD, "%s: %s. It is made by the unit: systemctl start molecule-agentd.", path, strerror(errno));
        if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
                return say(d, BAD, "%s lies on a disk: secrets are not handed over there. Mount a tmpfs at /run.", path);
        return say(d, FINE, "%s lies in memory", path);
}

/* /dev/dm-0 and the like, where the device mapper says that it encrypts. */
static bool is_encrypted(const char *device) {
        char path[128], uuid[16] = "";
        FILE *f;

        if (strncmp(device, "/dev/dm-", 8) != 0)
                return false;
        (void) snprintf(path, sizeof path, "/sys/block/%s/dm/uuid", device + 5);
        f = fopen(path, "re");
        if (f && !fgets(uuid, sizeof uuid, f))
                uuid[0] = 0;
        if (f)
                (void) fclose(f);
        return strncmp(uuid, "CRYPT-", 6) == 0;
}

/* What is swapped to zram stays in memory. */
static bool is_on_disk(const char *name) { return name[0] == '/' && strncmp(name, "/dev/zram", 9) != 0 && !is_encrypted(name); }

static unsigned swaps(char ret_first[static 64]) {
        FILE *f = fopen("/proc/swaps", "re");
        char line[512], name[64];
        unsigned n = 0;

        while (f && fgets(line, sizeof line, f))
                if (sscanf(line, "%63s", name) == 1 && is_on_disk(name) && n++ == 0)
                        memcpy(ret_first, name, sizeof name);
        if (f)
                (void) fclose(f);
        return n;
}

Verdict look_swap(Doctor *d) {
        char first[64] = "";
        unsigned n = swaps(first);

        if (n > 0)
                return say(d, WARNING, "Swap is on (%s%s): what workspaces were given may be written to disk. swapoff -a and take it out of /etc/fstab, or encrypt it.",
                           first, n > 1 ? " and more" : "");
        return say(d, FINE, "none in clear on a disk");
}

/* ── the unit ────────────────────────────────────────────────────────────────────────────────────────────────── */

#define SYSTEMD     "org.freedesktop.systemd1"
#define SERVICE     SYSTEMD ".Service"
#define UNIT_OBJECT "/org/freedesktop/systemd1/unit/molecule_2dagentd_2eservice"
#define SILENT      "the service manager does not say"
#define BUS_USEC    (2 * USEC_PER_SEC)

/* What units/molecule-agentd.service promises; a drop-in may add to it, and take nothing away. */
static const struct { const char *name; char type; const char *text; uint64_t low, high; } promises[] = {
        { "User",                    's', "molecule-agent", 0, 0 },
        { "ProtectSystem",           's', "strict", 0, 0 },
        { "ProtectHome",             's', "yes", 0, 0 },
        { "ProtectProc",             's', "invisible", 0, 0 },
        { "NoNewPrivileges",         'b', NULL, 1, 1 },
        { "PrivateTmp",              'b', NULL, 1, 1 },
        { "PrivateDevices",          'b', NULL, 1, 1 },
        { "ProtectClock",            'b', NULL, 1, 1 },
        { "ProtectHostname",         'b', NULL, 1, 1 },
        { "ProtectKernelLogs",       'b', NULL, 1, 1 },
        { "ProtectKernelModules",    'b', NULL, 1, 1 },
        { "ProtectKernelTunables",   'b', NULL, 1, 1 },
        { "ProtectControlGroups",    'b', NULL, 1, 1 },
        { "RestrictRealtime",        'b', NULL, 1, 1 },
        { "RestrictSUIDSGID",        'b', NULL, 1, 1 },
        { "LockPersonality",         'b', NULL, 1, 1 },
        { "MemoryDenyWriteExecute",  'b', NULL, 1, 1 },
        { "CapabilityBoundingSet",   't', NULL, 0, 0 },
        { "AmbientCapabilities",     't', NULL, 0, 0 },
        { "RestrictNamespaces",      't', NULL, 0, 0 },
        { "LimitCORE",               't', NULL, 0, 0 },
        { "LimitMEMLOCK",            't', NULL, ARENA_SIZE + 65536, UINT64_MAX },
        { "MemorySwapMax",           't', NULL, 0, 0 },
};

typedef struct Unit { char *load, *fragment; int stale; } Unit;

static void unit_done(Unit *u) {
        free(u->load);
        free(u->fragment);
}

/* The bus and the service manager behind it, with one time for all that is asked. */
typedef struct Manager { sd_bus *bus; uint64_t until; } Manager;

/* Nothing is flushed at the end: a bus that accepts and does not greet would be waited for. */
static void manager_done(Manager *m) { sd_bus_close_unref(m->bus); }

static uint64_t time_left(const Manager *m) {
        uint64_t now = now_boottime();

        return m->until > now ? m->until - now : 0;
}

/* Until the bus has greeted us: a call would wait for that as long as libsystemd likes. */
static int manager_open(Manager *m) {
        int r = sd_bus_open_system(&m->bus);

        while (r >= 0 && (r = sd_bus_is_ready(m->bus)) == 0) {
                uint64_t left = time_left(m);

                if (left == 0)
                        return -ETIMEDOUT;
                r = sd_bus_process(m->bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(m->bus, left);
        }
        return r;
}

/* 's' into a char **, which the caller frees; else what sd_bus_get_property_trivial() takes. */
static int property(const Manager *m, const char *interface, const char *name, char type, void *ret) {
        _cleanup_(sd_bus_error_free) sd_bus_error why = SD_BUS_ERROR_NULL;
        uint64_t left = time_left(m);
        int r = left ? sd_bus_set_method_call_timeout(m->bus, left) : -ETIMEDOUT;

        if (r >= 0 && type == 's')
                r = sd_bus_get_property_string(m->bus, SYSTEMD, UNIT_OBJECT, interface, name, &why, ret);
        else if (r >= 0)
                r = sd_bus_get_property_trivial(m->bus, SYSTEMD, UNIT_OBJECT, interface, name, &why, type, ret);
        return r < 0 && sd_bus_error_has_name(&why, SD_BUS_ERROR_UNKNOWN_PROPERTY) ? -ENODATA : r;
}

static int read_unit(const Manager *m, Unit *ret) {
        int r = property(m, SYSTEMD ".Unit", "LoadState", 's', &ret->load);

        if (r >= 0)
                r = property(m, SYSTEMD ".Unit", "FragmentPath", 's', &ret->fragment);
        if (r >= 0)
                r = property(m, SYSTEMD ".Unit", "NeedDaemonReload", 'b', &ret->stale);
        return r;
}

/* 1, or 0 for a broken promise, which a property is not that this service manager does not know. Negative: it did not say. */
static int is_kept(const Manager *m, size_t i) {
        _cleanup_free_ char *text = NULL;
        uint64_t number = 0;
        int yes = 0, r;

        r = property(m, SERVICE, promises[i].name, promises[i].type, promises[i].type == 's' ? (void *) &text : promises[i].type == 'b' ? (void *) &yes : &number);
        if (r < 0)
                return r == -ENODATA ? 1 : r;
        if (text)
                return strcmp(text, promises[i].text) == 0;
        number |= yes != 0;
        return number >= promises[i].low && number <= promises[i].high;
}

static Verdict judge_unit(Doctor *d, const Manager *m, const Unit *u) {
        if (strcmp(u->load, "masked") == 0)
                return say(d, BAD, UNIT " is masked: it never starts. systemctl unmask molecule-agentd.");
        if (strcmp(u->load, "loaded") != 0)
                return say(d, strcmp(u->load, "not-found") == 0 ? NOT_HERE : BAD, UNIT " is %s.", u->load);
        for (size_t i = 0; i < ELEMENTS(promises); i++) {
                int kept = is_kept(m, i);

                if (kept < 0)
                        return say(d, NOT_HERE, SILENT);
                if (kept == 0)
                        return say(d, WARNING, UNIT " does not keep %s as shipped. See systemctl cat molecule-agentd; systemctl revert molecule-agentd.",
                                   promises[i].name);
        }
        if (strncmp(u->fragment, "/etc/", 5) == 0)
                return say(d, WARNING, "%s stands in for the unit as shipped, and no upgrade changes it. systemctl revert molecule-agentd, or make a drop-in of it.",
                           u->fragment);
        if (u->stale)
                return say(d, WARNING, UNIT " on the disk is not the one in force. systemctl daemon-reload, then restart it.");
        return say(d, FINE, "as shipped, from %s", u->fragment);
}

Verdict look_unit(Doctor *d) {
        _cleanup_(manager_done) Manager m = { .until = now_boottime() + doctor_patience(d, BUS_USEC) };
        _cleanup_(unit_done) Unit u = {};
        int r = manager_open(&m);

        if (!m.bus)
                return say(d, NOT_HERE, "no service manager");
        return r < 0 || read_unit(&m, &u) < 0 ? say(d, NOT_HERE, SILENT) : judge_unit(d, &m, &u);
}
