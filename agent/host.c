/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/host.h"

#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

static void os_name(char ret[static 128]) {
        _cleanup_(freep) char *line = NULL;
        size_t allocated = 0;
        FILE *f = fopen("/etc/os-release", "re");

        strcpy(ret, "linux");
        while (f && getline(&line, &allocated, f) > 0)
                if (sscanf(line, "PRETTY_NAME=\"%127[^\"\n]", ret) == 1)
                        break;
        if (f)
                (void) fclose(f);
}

cJSON *host_register_view(const Identity *identity) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        struct utsname u = {};
        struct sysinfo s = {};
        char os[128];

        (void) uname(&u);
        (void) sysinfo(&s);
        os_name(os);
        if (!json || !json_add_string(json, "hostname", u.nodename[0] ? u.nodename : "localhost") ||
            !json_add_string(json, "machine_id", identity->machine_id) ||
            (identity->instance_id[0] && (!json_add_string(json, "instance_id", identity->instance_id) || !json_add_string(json, "provider", "aws"))) ||
            (identity->region[0] && !json_add_string(json, "region", identity->region)) ||
            (identity->image_id[0] && !json_add_string(json, "image_id", identity->image_id)) || !json_add_string(json, "arch", u.machine) ||
            !json_add_string(json, "os", os) || !json_add_string(json, "kernel", u.release) ||
            !json_add_i64(json, "cpus", sysconf(_SC_NPROCESSORS_ONLN)) ||
            !json_add_u64_text(json, "memory_bytes", (uint64_t) s.totalram * s.mem_unit))
                return NULL;
        return TAKE_PTR(json);
}

static uint64_t memory_available(void) {
        unsigned long long kib = 0;
        char line[128];
        FILE *f = fopen("/proc/meminfo", "re");

        while (f && fgets(line, sizeof line, f))
                if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
                        break;
        if (f)
                (void) fclose(f);
        return (uint64_t) kib * 1024;
}

uint64_t host_agent_memory(void) {
        unsigned long long total, resident = 0;
        FILE *f = fopen("/proc/self/statm", "re");

        if (f && fscanf(f, "%llu %llu", &total, &resident) != 2)
                resident = 0;
        if (f)
                (void) fclose(f);
        return (uint64_t) resident * (uint64_t) sysconf(_SC_PAGESIZE);
}

static bool add_sizes(cJSON *json, const char *name, uint64_t total, uint64_t free_bytes) {
        cJSON *item = cJSON_CreateObject();

        return json_add_item(json, name, item) && json_add_u64_text(item, "total", total) && json_add_u64_text(item, "free", free_bytes);
}

static bool add_number(cJSON *json, const char *name, double value) {
        return cJSON_AddNumberToObject(json, name, (double) (int64_t) (value * 100) / 100) != NULL;
}

cJSON *host_health_view(const char *disk_path, int state_fd, bool has_skew, double skew_seconds) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        struct statvfs v = {};
        struct sysinfo s = {};

        if ((!disk_path || statvfs(disk_path, &v) < 0) && fstatvfs(state_fd, &v) < 0)
                v = (struct statvfs) {};
        (void) sysinfo(&s);
        if (!json || !add_sizes(json, "disk", (uint64_t) v.f_blocks * v.f_frsize, (uint64_t) v.f_bavail * v.f_frsize) ||
            !add_sizes(json, "memory", (uint64_t) s.totalram * s.mem_unit, memory_available()) ||
            !add_number(json, "load", (double) s.loads[0] / (1 << SI_LOAD_SHIFT)) || !json_add_i64(json, "uptime_seconds", s.uptime) ||
            (has_skew ? !add_number(json, "clock_skew_seconds", skew_seconds) : !cJSON_AddNullToObject(json, "clock_skew_seconds")))
                return NULL;
        return TAKE_PTR(json);
}
