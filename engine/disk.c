/* SPDX-License-Identifier: Apache-2.0 */

#include "engine/disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

int disk_look(const char *path, Disk *ret) {
        uint64_t used, all;
        char text[4096];
        struct statvfs v;

        if (!path || path[0] != '/' || snprintf(text, sizeof text, "%s", path) >= (int) sizeof text)
                return -EINVAL;
        while (statvfs(text, &v) < 0) {
                char *slash = strrchr(text, '/');

                if (!slash[1]) /* "/" itself, or a trailing '/' */
                        if (slash == text)
                                return -errno;
                slash[slash == text] = 0;
        }
        used = (uint64_t) (v.f_blocks - v.f_bfree);
        all = used + v.f_bavail;
        *ret = (Disk){ .free_bytes = (uint64_t) v.f_bavail * v.f_frsize,
                       .used_percent = all ? (unsigned) ((used * 100 + all - 1) / all) : 100 };
        return 0;
}
