# SPDX-License-Identifier: Apache-2.0
"""First the disk, then the world, as a trace shows it: what was written below a directory and was not durable yet when something was sent,
or when it got its name. A later fsync of something else may save it on one file system or the other, so that no cut of the power shows it."""

import os
import re

from trace import BY_FILE, CALLS, OPENING


class Order:
    """Of one trace, and one directory. files: made or written, and not yet durable. names: given, and not yet durable in their directory. sent, renamed: how
    often; a trace without either shows nothing."""

    def __init__(self, root, places):
        self.root, self.places, self.files, self.names, self.wrong = os.path.realpath(root), places, set(), set(), []
        self.sent = self.renamed = 0

    def here(self, path):
        return path.startswith(self.root)

    def look(self, log):
        with open(log, errors="replace") as lines:
            for line in lines:
                call = re.match(r"(?:\d+ +)?(\w+)\((.*) = (?!-1)", line)
                if call and call[1] in CALLS:
                    self.call(call[1], call[2])
        return self.wrong if self.sent and self.renamed else [f"the trace has {self.sent} things sent and {self.renamed} names given"]

    def call(self, call, words):
        what = self.places.what(call, words)
        if what and what.startswith(("engine", "control plane")):
            self.sent += 1
            self.wrong += [f"{what} is sent while {self.places.short(path)} is not durable" for path in sorted(self.files | self.names)]
        elif call in ("renameat", "rename", "renameat2"):
            self.rename(words)
        elif call == "mkdirat" and self.here(self.places.named(words)):
            self.names.add(self.places.named(words))
        elif call in OPENING and "O_CREAT" in words and self.here(self.places.named(words)):
            self.files.add(self.places.named(words))
        elif call in BY_FILE and self.here(words.partition("<")[2]):
            self.file(call, re.match(r"\d+<(.*?)>(?=[,)])", words)[1])

    def rename(self, words):
        before = self.places.named(words.rpartition(', "')[0].rpartition(",")[0])
        after = self.places.named(words)
        if self.here(after):
            self.renamed += 1
            self.wrong += [f"{self.places.short(after)} gets its name before it is durable"] if before in self.files else []
            self.files.discard(before)
            self.names.discard(before)
            self.names.add(after)

    def file(self, call, path):
        if call in ("fsync", "fdatasync"):
            self.files.discard(path)
            self.names = {name for name in self.names if os.path.dirname(name) != path}
        elif not path.endswith("/ballast"):
            self.files.add(path)
