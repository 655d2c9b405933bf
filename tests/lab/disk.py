# SPDX-License-Identifier: Apache-2.0
"""A file system of a test's own, whose power can be cut: an image on a loop device. What the file system was not asked to make durable is
lost then, as far as it would be: nothing goes out any more, not even its log (FS_IOC_SHUTDOWN)."""

import fcntl
import os
import shutil
import struct
import subprocess

from proc import LabError, at_end, wait_for

SHUTDOWN = 0x8004587d                                       # _IOR('X', 125, __u32)
NOLOGFLUSH = struct.pack("I", 2)
# Kind → how it is made, and mounted: nothing becomes durable by waiting for it.
KINDS = {"xfs": (("mkfs.xfs", "-q", "-f"), "defaults"), "ext4": (("mkfs.ext4", "-q", "-F"), "commit=300"),
         "ext4-noauto_da_alloc": (("mkfs.ext4", "-q", "-F"), "commit=300,noauto_da_alloc")}


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise LabError(f"{words}: {done.returncode} {done.stdout}{done.stderr}")


def missing():
    """The commands that are not here."""
    return [make[0] for make, _ in KINDS.values() if not shutil.which(make[0])]


class Disk:
    def __init__(self, kind, image, where, size=320 << 20):
        """where: the directory that it is mounted on; its mode and owner become the file system's."""
        self.make, self.options = KINDS[kind]
        self.image, self.where = image, where
        with open(image, "wb") as file:
            file.truncate(size)
        run(*self.make, image)
        mode = os.stat(where).st_mode & 0o7777
        at_end(self.end)
        self.mount()
        os.chmod(where, mode)
        if os.path.isdir(f"{where}/lost+found"):
            os.rmdir(f"{where}/lost+found")

    def mount(self):
        run("mount", "-o", f"loop,{self.options}", self.image, self.where)

    def device(self):
        """The loop device that is mounted here, None without one; the directory itself cannot be asked once the power is gone."""
        with open("/proc/self/mounts") as mounts:
            return next((os.path.basename(words[0]) for words in map(str.split, mounts) if words[1] == self.where), None)

    def cut(self):
        """From here on nothing that was not durable is left; unmount when nobody uses it any more, and mount again."""
        fd = os.open(self.where, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, NOLOGFLUSH)
        finally:
            os.close(fd)

    def unmount(self):
        """Until the kernel has forgotten it: a container that was just being started keeps a copy of every mount for a moment."""
        device = self.device()
        wait_for(lambda: run("umount", self.where) is None, 10, f"nobody to use {self.where}")
        wait_for(lambda: not any(os.path.exists(f"/sys/fs/{kind}/{device}") for kind in ("xfs", "ext4")), 40, f"{device} to be free", 0.02)

    def end(self):
        if self.device():
            subprocess.run(["umount", "-l", self.where], check=False)
        if os.path.exists(self.image):
            os.unlink(self.image)
