#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""molecule-launch in images of our own making: a directory holding nothing but the launcher, its file and one static program (busybox),
entered by chroot. No engine. What must come out of a file is said a second time below, in Python; random files are held against that."""

import ctypes
import os
import random
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections import namedtuple
from subprocess import PIPE

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
LAUNCH = os.environ.get("MOLECULE_LAUNCH", os.path.join(TOP, "build", "molecule-launch"))
BUSYBOX = shutil.which("busybox") or "/bin/busybox"
LIBC = ctypes.CDLL(None, use_errno=True)
VALUE = b"hunter2-never-to-be-said"                         # no words anywhere may hold it
NOBODY, MIB, ENTRIES_MAX = 65534, 1024 * 1024, 16384
LINE = re.compile(rb"molecule-launch: [^\n]+\n")
APPLETS = ("sh", "env", "cat", "pwd", "id")

Ran = namedtuple("Ran", "status out err pid")


def raw(values):
    """A list of strings as execve() wants it: unlike a dict, it may hold anything twice."""
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def env_file(*entries, head=b"MOLECULE-ENV/1", count=None):
    return b"%s %d\0" % (head, len(entries) if count is None else count) + b"".join(entry + b"\0" for entry in entries)


class Image:
    """A root directory. run() is what an engine does with it: enter, change the directory and the user, execute the entrypoint."""

    def __init__(self, path, applets=APPLETS, where="bin"):
        self.path = path
        for folder in (where, "run/molecule", "work", "first", "second"):
            os.makedirs(os.path.join(path, folder), exist_ok=True)
        os.chmod(path, 0o755)
        shutil.copy(LAUNCH, self.at(".molecule-launch"))
        os.chmod(self.at(".molecule-launch"), 0o755)
        self.where = where
        for applet in applets:
            self.applet(os.path.join(where, applet))
        self.set(env_file())

    def at(self, name):
        return os.path.join(self.path, name)

    def applet(self, name):
        shutil.copy(BUSYBOX, self.at(name))
        os.chmod(self.at(name), 0o755)

    def script(self, name, text, mode=0o755):
        with open(self.at(name), "w") as file:
            file.write(text)
        os.chmod(self.at(name), mode)

    def unset(self):
        name = self.at("run/molecule/env")
        if os.path.isdir(name):
            os.rmdir(name)
        elif os.path.lexists(name):
            os.unlink(name)
        return name

    def set(self, data, mode=0o444):
        with open(self.unset(), "wb") as file:
            file.write(data)
        os.chmod(file.name, mode)

    def run(self, *argv, env=(), cwd="/", user=0, stdin=b""):
        words, entries = raw([b"/.molecule-launch"] + [os.fsencode(arg) for arg in argv]), raw(list(env))

        def enter():
            os.chroot(self.path)
            os.chdir(cwd)
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            LIBC.execve(b"/.molecule-launch", words, entries)
            os._exit(99)

        with subprocess.Popen([sys.executable], preexec_fn=enter, stdin=PIPE, stdout=PIPE, stderr=PIPE) as child:
            try:
                out, err = child.communicate(stdin, timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                out, err = child.communicate()
        return Ran(child.returncode, out, err, child.pid)

    def env(self, env=(), **more):
        """The environment that a command gets, in its order, or the failure."""
        ran = self.run(f"/{self.where}/env", "-0", env=env, **more)
        return ran.out.split(b"\0")[:-1] if ran.status == 0 and not ran.err else ran


def refused(ran, status, word, name):
    """One line that begins with the program's name, holds the word and no value; and nothing else was done."""
    good = ran.status == status and LINE.fullmatch(ran.err) and word.encode() in ran.err and len(ran.err) < 1700
    tap.ok(good and VALUE[:7] not in ran.err and not ran.out, name, ran)


def model(data, inherited=()):
    """What comes out of a file: the whole environment, or None when it is refused."""
    parts = data.split(b"\0")
    head, entries = re.fullmatch(rb"MOLECULE-ENV/1 (0|[1-9][0-9]*)", parts[0]), parts[1:-1]
    if len(data) > MIB or parts[-1] or not head or int(head[1]) != len(entries) or any(entry.find(b"=") < 1 for entry in entries):
        return None
    merged = list(inherited)
    for entry in entries:
        name = entry[:entry.index(b"=") + 1]
        places = [i for i, old in enumerate(merged) if old.startswith(name)]
        if places:
            merged[places[0]] = entry
            for i in reversed(places[1:]):
                del merged[i]
        else:
            merged.append(entry)
    return merged if len(merged) <= ENTRIES_MAX else None


def program():
    with open(LAUNCH, "rb") as file:
        elf = file.read()
    at, size, n = struct.unpack_from("<Q", elf, 32)[0], *struct.unpack_from("<HH", elf, 54)
    kinds = {kind: flags for kind, flags in (struct.unpack_from("<II", elf, at + i * size) for i in range(n))}
    tap.ok(len(elf) <= 40000, "the program is at most 40000 bytes", len(elf))
    interpreter, stack, relro = 3, 0x6474e551, 0x6474e552
    good = interpreter not in kinds and relro in kinds and not kinds[stack] & 1
    tap.ok(good, "it asks for no loader, has RELRO and a stack without code", kinds)


def environment(image):
    image.set(env_file(b"SECRET=" + VALUE, b"B=new"))
    tap.is_(image.env([b"A=1", b"B=2", b"C=3"]), [b"A=1", b"B=new", b"C=3", b"SECRET=" + VALUE], "merged: in its place, or at the end")
    image.set(env_file(b"Z=26", b"Y=25", b"A=1"))
    tap.is_(image.env(), [b"Z=26", b"Y=25", b"A=1"], "the file's own order is kept")
    image.set(env_file())
    tap.is_(image.env([b"A=1", b"HOME=/x"]), [b"A=1", b"HOME=/x"], "a count of 0 changes nothing")
    tap.is_(image.env(), [], "no environment and no entries is an empty environment")
    image.set(env_file(b"AB=long", b"A=short"))
    tap.is_(image.env([b"ABC=1", b"A=2", b"AB=3"]), [b"ABC=1", b"A=short", b"AB=long"], "a name is compared whole: A is not AB")
    odd = [b"EMPTY=", b"EQUALS==a=b=", b"LINES=a\nb\r\n", b"BYTES=\xff\xfe\x80\x01 \"'$(x)`"]
    image.set(env_file(*odd))
    tap.is_(image.env(), odd, "values come through byte for byte")
    image.set(env_file(b"A=file"))
    tap.is_(image.env([b"B=0", b"A=1", b"C=2", b"A=3"]), [b"B=0", b"A=file", b"C=2"], "of a name inherited twice, one is left: the file's")
    tap.is_(image.env([b"A", b"=x", b"C=2", b"C=3"]), [b"A", b"=x", b"C=2", b"C=3", b"A=file"], "what the file does not name stays")
    image.set(env_file(b"A=1", b"B=2", b"A=3"))
    tap.is_(image.env(), [b"A=3", b"B=2"], "of a name twice in the file, the last value counts")
    image.set(env_file(b"B=2"))
    tap.is_(image.env([b"A=1"], user=NOBODY), [b"A=1", b"B=2"], "any user can read a file of mode 0444")


def arguments(image):
    image.set(env_file(b"X=" + VALUE))
    odd = ["", "a b", "", "-c", "--", "*", "\n", b"\xff\x00".split(b"\0")[0], "$X", "'\"\\", "ü", "x" * 100000, ""]
    ran = image.run("/bin/sh", "-c", 'printf "%s\\0" "$@"', "name", *odd)
    tap.is_(ran.out.split(b"\0")[:-1], [os.fsencode(arg) for arg in odd], "arguments are passed exactly, empty and odd ones too")
    tap.is_(image.run("/bin/sh", "-c", "echo $#", "name").out, b"0\n", "no argument is added")
    tap.is_(image.run("sh", "-c", "echo $0").out, b"sh\n", "the command's own name is the word it was called by")
    tap.is_(image.run("/bin/pwd", cwd="/work").out, b"/work\n", "the current directory is kept")
    tap.is_(image.run("cat", stdin=b"in\0put").out, b"in\0put", "standard input and output are the command's")
    ran = image.run("/bin/sh", "-c", "exec 2>/work/said; for fd in 0 1 2 3 4 5 6 7 8 9; do : <&$fd && printf $fd; done")
    tap.is_(ran.out, b"012", "no descriptor is left open for the command")
    tap.is_(image.run("id", "-u", user=NOBODY).out, b"%d\n" % NOBODY, "the user is kept")


def replaced(image):
    ran = image.run("sh", "-c", "echo $$")
    tap.is_(ran.out, b"%d\n" % ran.pid, "the command takes the place of the launcher: the same pid")
    tap.is_([image.run("sh", "-c", f"exit {n}").status for n in (0, 1, 42, 243, 255)], [0, 1, 42, 243, 255], "its exit status is its own")
    ends = [signal.SIGKILL, signal.SIGTERM]
    tap.is_([image.run("sh", "-c", f"kill -{n} $$").status for n in ends], [-n for n in ends], "the signal that ends it is its own")
    ran = image.run("sh", "-c", "trap 'echo caught; exit 3' TERM; kill -TERM $$")
    tap.is_((ran.status, ran.out), (3, b"caught\n"), "it can catch signals")
    command = ["unshare", "--pid", "--fork", "--kill-child", "chroot", image.path, "/.molecule-launch", "/bin/sh", "-c", "echo $$; exit 5"]
    first = subprocess.run(command, capture_output=True, timeout=30)
    if b"unshare" in first.stderr:
        tap.skip("as the first process of a container", first.stderr.decode().strip())
    else:
        tap.is_((first.returncode, first.stdout), (5, b"1\n"), "as the first process of a container")


def search(image):
    for name in ("first/hello", "second/hello", "work/hello", "work/bin/hello"):
        os.makedirs(os.path.dirname(image.at(name)), exist_ok=True)
        image.script(name, f"#!/bin/sh\necho {name} $0\n")
    image.set(env_file())

    def hello(path, cwd="/", word="hello", **more):
        ran = image.run(word, env=[b"PATH=" + path], cwd=cwd, **more)
        return ran.out or ran

    tap.is_(hello(b"/first:/second"), b"first/hello /first/hello\n", "PATH: the first one found")
    tap.is_(hello(b"/second:/first"), b"second/hello /second/hello\n", "PATH: in its order")
    tap.is_(hello(b"/none:/bin/sh:/second"), b"second/hello /second/hello\n", "PATH: on after what is absent, and what is no directory")
    tap.is_([hello(path, "/work") for path in (b":/first", b"/none::/first", b"/none:", b"")], [b"work/hello ./hello\n"] * 4,
            "PATH: an empty element is the current directory: first, within, last, alone")
    tap.is_(hello(b"bin:/first", "/work"), b"work/bin/hello bin/hello\n", "PATH: a relative element counts from the current directory")
    tap.is_(hello(b"/first", "/work"), b"first/hello /first/hello\n", "PATH: the current directory only where it is named")
    long = b"/" + b"x" * 5000 + b":" + b"/y" * 2046 + b":/first"
    tap.is_(hello(long), b"first/hello /first/hello\n", "PATH: elements that are too long are passed over")
    exact = [b"/" + b"./" * ((size - 12) // 2) + b"/" * (size % 2) + b"first" for size in (4095, 4096, 4097, 4098)]
    ran = [hello(folder + b":/second")[:6] for folder in exact]
    tap.is_(ran, [b"first/"] + [b"second"] * 3, "PATH: the longest path there can be, and those just above")
    tap.is_(hello(b"/first", "/work", "./hello"), b"work/hello ./hello\n", "a command with '/' is not searched for")
    tap.is_(hello(b"/first", "/work", "bin/hello"), b"work/bin/hello bin/hello\n", "nor a relative one, from the current directory")
    tap.is_(image.run("sh", "-c", "echo found").out, b"found\n", "without PATH the usual directories are searched")
    os.makedirs(image.at("usr/local/sbin"))
    image.script("usr/local/sbin/hello", "#!/bin/sh\necho $0\n")
    tap.is_(image.run("hello").out, b"/usr/local/sbin/hello\n", "without PATH, beginning with /usr/local/sbin")
    image.set(env_file(b"PATH=/second"))
    tap.is_(hello(b"/first"), b"second/hello /second/hello\n", "PATH is that of the merged environment")
    image.set(env_file())
    ran = image.run("hello", env=[b"PATHS=/second", b"PATX=/second", b"XPATH=/second", b"PATH=/first"])
    tap.is_(ran.out, b"first/hello /first/hello\n", "PATH is that name alone")

    image.script("first/hello", "no", 0o644)
    tap.is_(hello(b"/first:/second"), b"second/hello /second/hello\n", "PATH: on after a file that may not be executed")
    os.makedirs(image.at("closed"))
    os.chmod(image.at("closed"), 0o700)
    tap.is_(hello(b"/closed:/second", user=NOBODY), b"second/hello /second/hello\n", "PATH: on after a directory that may not be entered")
    image.script("first/hello", "#!/no/such\n")
    tap.is_(hello(b"/first:/second"), b"second/hello /second/hello\n", "PATH: on after a script whose interpreter is absent")


def commands(image):
    image.set(env_file(b"PATH=/" + VALUE + b":/first:/bin", b"X=" + VALUE))
    image.script("first/plain", VALUE.decode(), 0o644)
    image.script("first/noexec", "neither script nor program\n")
    image.script("first/loose", "#!/no/such\n")
    os.makedirs(image.at("first/folder"))
    refused(image.run("nosuch"), 127, "nosuch: command not found", "127: no such command")
    refused(image.run("/nosuch/x"), 127, "/nosuch/x: command not found", "127: no such path")
    refused(image.run("/bin/sh/x"), 127, "/bin/sh/x: command not found", "127: a path through a file")
    refused(image.run(""), 127, "command not found", "127: an empty command")
    refused(image.run("no\nsuch\x1b[31m\x7f"), 127, "no?such?[31m?: ", "127: one line, whatever the command is called")
    refused(image.run("x" * 4096), 127, "x: command not found", "127: a name longer than any path")
    refused(image.run("plain"), 126, "plain: cannot be executed: Permission denied", "126: found in PATH, not executable")
    refused(image.run("/first/plain"), 126, "Permission denied", "126: a path, not executable")
    refused(image.run("noexec"), 126, "noexec: cannot be executed: Exec format error", "126: not in a format that can be executed")
    refused(image.run("folder"), 126, "folder: cannot be executed", "126: a directory in PATH")
    refused(image.run("/first"), 126, "/first: cannot be executed", "126: a directory by its path")
    refused(image.run("loose"), 126, "loose: is there, but not the interpreter", "126: a script whose interpreter is absent")
    refused(image.run("/first/loose"), 126, "interpreter or loader", "126: the same by its path")
    image.set(env_file(b"PATH=/" + VALUE + b":/second:/first:/none"))
    image.script("second/plain", "#!/no/such\n")
    image.script("second/loose", "", 0o644)
    refused(image.run("plain"), 126, "Permission denied", "126: one that is denied is remembered to the end of PATH")
    refused(image.run("loose"), 126, "Permission denied", "126: and not forgotten for a worse one")
    image.script("second/stop", "neither script nor program\n")
    image.script("first/stop", "#!/bin/sh\necho ran\n")
    refused(image.run("stop"), 126, "Exec format error", "126: the search ends at one of a wrong format")
    image.set(env_file(b"X=" + VALUE + b"y" * 131072))
    refused(image.run("sh"), 126, "Argument list too long", "126: an entry longer than the kernel takes")
    image.set(env_file(b"X=" + VALUE))
    refused(image.run(), 243, "entrypoint of a container", "243: no command; the words say what it is for")


def files(image):
    good = env_file(b"X=" + VALUE, b"Y=2")

    def bad(data, word, name):
        image.set(data)
        refused(image.run("/bin/sh", "-c", "echo ran", env=[b"A=" + VALUE]), 243, word, "243: " + name)

    bad(b"", "truncated in its first string", "an empty file")
    bad(b"MOLECULE-ENV/1 0", "truncated in its first string", "no end of the first string")
    bad(b"\0", "does not begin as it should", "an empty first string")
    bad(b"X=" + VALUE + b"\0", "does not begin as it should", "another file")
    bad(env_file(b"X=" + VALUE, head=b"molecule-env/1"), "does not begin as it should", "a magic in small letters")
    for head in (b"MOLECULE-ENV/2", b"MOLECULE-ENV/0", b"MOLECULE-ENV/10", b"MOLECULE-ENV/", b"MOLECULE-ENV/1.1", b"MOLECULE-ENV/01"):
        bad(env_file(b"X=" + VALUE, head=head), "version", f"an unknown version, {head.decode()}")
    bad(b"MOLECULE-ENV/1\0X=" + VALUE + b"\0", "version", "a version without a count")
    for count in (b"", b" 1", b"1 ", b"+1", b"-1", b"01", b"0x1", b"1\n", b"1.0", b"one", b"00"):
        bad(b"MOLECULE-ENV/1 " + count + b"\0X=" + VALUE + b"\0", "count is not a number", f"a count written as {count!r}")
    for count in (b"16385", b"4294967297", b"18446744073709551617", b"9" * 5000):
        bad(b"MOLECULE-ENV/1 " + count + b"\0X=" + VALUE + b"\0", "too many entries", f"a count of {count[:24].decode()}")
    bad(env_file(b"X=" + VALUE, count=2), "truncated at entry 2", "a count above what is there")
    bad(env_file(count=1), "truncated at entry 1", "a count and no entry")
    bad(env_file(b"X=" + VALUE, b"Y=2", count=1), "more than its count of 1 entries", "a count below what is there")
    bad(env_file(b"X=" + VALUE, count=0), "more than its count of 0 entries", "a count of 0 and an entry")
    bad(good + b"\0", "more than its count of 2 entries", "one NUL behind the end")
    bad(good + b"x", "more than its count of 2 entries", "one byte behind the end")
    bad(good[:-1], "truncated at entry 2", "the last NUL is missing")
    bad(env_file(b"X=" + VALUE)[:-9], "truncated at entry 1", "the middle of a value is the end")
    bad(env_file(b"A=1", VALUE), "entry 2 has no '='", "an entry without '='")
    bad(env_file(b"A=1", b""), "entry 2 has no '='", "an empty entry")
    bad(env_file(b"=" + VALUE), "entry 1 has no name", "an empty name")
    bad(env_file(*[b"A=1"] * 122, VALUE), "entry 123 has no '='", "a number of three digits in the words")


def kinds(image):
    def bad(word, name, **more):
        refused(image.run("/bin/sh", "-c", "echo ran", env=[b"A=" + VALUE], **more), 243, word, "243: " + name)

    image.unset()
    bad("cannot be opened: No such file", "the file is absent")
    image.set(env_file(b"X=" + VALUE), 0o400)
    bad("cannot be opened: Permission denied", "the file is not for this user", user=NOBODY)
    image.set(env_file(b"X=" + VALUE))
    os.rename(image.at("run/molecule/env"), image.at("run/molecule/other"))
    os.symlink("other", image.unset())
    bad("cannot be opened: ", "a symbolic link, be the file it names a good one")
    os.mkdir(image.unset())
    bad("not a regular file", "a directory")
    os.mkfifo(image.unset(), 0o444)
    bad("not a regular file", "a fifo, without waiting for its writer")
    try:
        os.mknod(image.unset(), stat.S_IFCHR | 0o444, os.makedev(1, 3))
        bad("not a regular file", "a device")
    except PermissionError as error:
        tap.skip("243: a device", str(error))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(image.unset())
        bad("cannot be opened: ", "a socket")
    image.unset()
    os.rename(image.at("run/molecule"), image.at("run/elsewhere"))
    bad("cannot be opened: No such file", "nothing is mounted")
    os.rename(image.at("run/elsewhere"), image.at("run/molecule"))


def filled(size):
    """A file of exactly this size, of entries as large as a secret may be."""
    entries, head = [], len(b"MOLECULE-ENV/1 16\0")
    for i in range(16):
        entries.append(b"N%02d=" % i + b"v" * ((size - head) // 16 - 5))
    entries[0] += b"v" * (size - len(env_file(*entries)))
    return env_file(*entries)


def sizes(image):
    for size in (MIB, MIB - 1):
        image.set(filled(size))
        tap.ok(image.env() == model(filled(size)) and len(filled(size)) == size, f"a file of {size} bytes")
    for size in (MIB + 1, MIB + 2, 3 * MIB):
        image.set(filled(MIB) + VALUE[:1] * (size - MIB))
        refused(image.run("/bin/env"), 243, "larger than 1 MiB", f"243: a file of {size} bytes")
    with open(image.unset(), "wb") as file:
        file.truncate(1 << 40)
    refused(image.run("/bin/env"), 243, "larger than 1 MiB", "243: a file of a terabyte of nothing")
    thousand = env_file(*[b"NAME_%d=%d" % (i, i) for i in range(1000)])
    image.set(thousand)
    inherited = [b"NAME_%d=old" % i for i in range(0, 2000, 3)]
    tap.ok(image.env(inherited) == model(thousand, inherited), "1000 entries over 667")
    most = [b"N%d=" % i for i in range(ENTRIES_MAX)]
    image.set(env_file(*most))
    tap.ok(image.env() == most, f"{ENTRIES_MAX} entries")
    tap.ok(image.env([b"N7=x"]) == [b"N7="] + most[:7] + most[8:], f"{ENTRIES_MAX} entries of which one is inherited")
    refused(image.run("/bin/env", env=[b"ONE=more"]), 243, "too many entries", "243: one more, inherited")
    image.set(env_file())
    refused(image.run("/bin/env", env=most + [b"ONE=more"]), 243, "too many entries", "243: one more, all inherited")


def mutated(dice, data):
    data = bytearray(data)
    for _ in range(dice.choice((0, 1, 1, 1, 2, 5, 20))):
        at, some = dice.randrange(len(data) + 1), dice.randrange(1, 12)
        kind = dice.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[at:at + some] = b""
        elif kind == 2:
            data[at:at] = dice.choice((b"\0", b"=", b"\0=", b"A=", b"\xff", b"1", b"%n%s", b"\0X=1\0"))
        elif kind == 3:
            data[at:at] = data[max(0, at - some):at]
        elif kind == 4 and dice.randrange(4) == 0:
            data[at:] = b""
        elif kind == 5:
            data[at:at + 1] = b"\0"
        elif kind == 6:
            data = bytearray(re.sub(rb"/1 \d+", b"/1 %d" % data[20:].count(b"\0"), bytes(data), count=1))
    return bytes(data)


def noise(image):
    """No file makes it crash, hang, or take another environment than the model's."""
    dice = random.Random(20261123)
    wrong, taken, left = [], 0, 0
    for turn in range(600):
        names = [dice.choice((b"A", b"B", b"AB", b"PATH", b"LONG_NAME", b"x" * 300)) for _ in range(dice.randrange(8))]
        data = env_file(*[name + b"=" + VALUE[dice.randrange(8):] * dice.randrange(3) for name in names])
        data = dice.randbytes(dice.randrange(200)) if turn % 20 == 0 else mutated(dice, data)
        inherited = [name + b"=old" for name in (b"B", b"C", b"A", b"LONG_NAME", b"B")[:dice.randrange(6)]]
        want = model(data, inherited)
        image.set(data)
        got = image.env(inherited, user=dice.choice((0, NOBODY)))
        taken, left = taken + (want is not None), left + (want is None)
        if want is None:
            fine = isinstance(got, Ran) and got.status == 243 and LINE.fullmatch(got.err) and VALUE[8:] not in got.err
        else:
            fine = got == want
        if not fine:
            wrong.append((turn, data, want, got))
    tap.ok(not wrong, "600 random and mutated files: refused with 243, or exactly the model's environment", wrong[:2])
    tap.ok(taken >= 100 and left >= 100, "of which many were good and many were not", (taken, left))


def scratch(path):
    image = Image(path, applets=("env",), where="")
    for folder in ("work", "first", "second"):
        os.rmdir(image.at(folder))
    image.set(env_file(b"SECRET=" + VALUE, b"PATH=/"))
    want = (0, b"SECRET=" + VALUE + b"\0PATH=/\0")
    for user in (0, NOBODY):
        ran = image.run("/env", "-0", user=user)
        tap.is_((ran.status, ran.out), want, f"an image of nothing but one static program, as user {user}")
        ran = image.run("env", "-0", user=user, cwd="/run")
        tap.is_((ran.status, ran.out), want, f"the same by PATH, as user {user}")
    refused(image.run("sh"), 127, "sh: command not found", "127: there is no shell in it")


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root")
        return
    if not os.path.exists(BUSYBOX):
        print("1..0 # SKIP needs busybox-static")
        return
    program()
    with tempfile.TemporaryDirectory(prefix="launch.") as folder:
        image = Image(os.path.join(folder, "image"))
        for part in (environment, arguments, replaced, search, commands, files, kinds, sizes, noise):
            part(image)
        scratch(os.path.join(folder, "scratch"))
    tap.done()


if __name__ == "__main__":
    main()
