# SPDX-License-Identifier: Apache-2.0
"""Images made of one static busybox, each behaving in one way a workspace can behave. Built by the engine from a tar made here,
pushed to the registry, named by the digest that the registry gave."""

import io
import shutil
import tarfile

from proc import LabError

APPLETS = ("sh", "cat", "chmod", "env", "grep", "httpd", "ln", "mkdir", "sleep", "test", "wget")

# The container's first process starts work() and waits for it; it ends at once on SIGTERM, unless the variant is `stubborn`.
SCRIPT = """#!/bin/sh
export NAME={name} PAGE={page} DELAY={delay}
mkdir -p /tmp/www/cgi-bin
page() {{ echo "molecule $NAME $PAGE" >/tmp/www/index.html; env | grep "^DEMO_" >/tmp/www/env; ln -sfn /configs /tmp/www/configs; }}
cgi() {{ printf "#!/bin/sh\\n%s\\n" "$1" >/tmp/www/cgi-bin/index.cgi; chmod 755 /tmp/www/cgi-bin/index.cgi; }}
serve() {{ exec httpd -f -p 8000 -h /tmp/www; }}
work() {{ {work}; }}
trap '{term}' TERM
work & child=$!
echo $child >/tmp/child
wait $child
"""

ONCE = r"""printf "Content-Type: text/plain\\r\\n\\r\\nonce\\n"; (sleep 0.5; kill -9 $(cat /tmp/child)) >/dev/null 2>&1 &"""
E500 = r"""printf "Status: 500 broken\\r\\nContent-Type: text/plain\\r\\n\\r\\nbroken\\n" """
VARIANTS = {
    "ok": "page; serve",                                    # its page at /, the DEMO_ part of its env at /env, its files at /configs/
    "crash": "echo 'cannot go on' >&2; exit 3",
    "chatty": "env; page; serve",                           # as ok, and says all its env first
    "never": "exec sleep 1000000",                          # runs, listens nowhere
    "once": f"cgi '{ONCE}'; serve",                         # answers one request and dies
    "e500": f"cgi '{E500}'; serve",
    "slow": "page; sleep $DELAY; serve",                    # begins to answer after DELAY seconds
    "healthcheck": "page; (sleep $DELAY; echo >/tmp/healthy) & serve",      # healthy after DELAY seconds
    "unhealthy": "page; serve",                             # has a HEALTHCHECK that is never content
    "stubborn": "page; serve",                              # as ok, but only SIGKILL ends it
    "bare": None,                                           # no shell: cat, and a server of its working directory
}
CHECK = 'HEALTHCHECK --interval=1s --timeout=5s --retries=2 CMD ["/bin/test", "-f", "/tmp/healthy"]\n'


def tar(members):
    """members: (name, content, mode); str content is a symbolic link's target, None a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content, mode in members:
            entry = tarfile.TarInfo(name)
            entry.mode = mode
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def context(variant, name, page, delay, filler, user):
    """The tar that the engine builds from: a Dockerfile and the root file system as a tar of its own, which ADD unpacks."""
    source = shutil.which("busybox", path="/bin:/usr/bin")
    if not source:
        raise LabError("busybox-static is not installed")
    with open(source, "rb") as file:
        busybox = file.read()
    if variant == "bare":
        root = tar([("bin", None, 0o755), ("bin/busybox", busybox, 0o755), ("bin/cat", "busybox", 0o777), ("www", None, 0o755),
                    ("www/index.html", f"molecule {name} {page}\n".encode(), 0o644)])
        start = 'WORKDIR /www\nENTRYPOINT ["busybox", "httpd"]\nCMD ["-f", "-p", "8000"]\n'
    else:
        term = "" if variant == "stubborn" else "kill -9 $child; exit 0"
        script = SCRIPT.format(name=name, page=page, delay=delay, work=VARIANTS[variant], term=term)
        root = tar([("bin", None, 0o755), ("tmp", None, 0o1777), ("bin/busybox", busybox, 0o755), ("run.sh", script.encode(), 0o755),
                    ("filler", filler, 0o644), *((f"bin/{applet}", "busybox", 0o777) for applet in APPLETS)])
        start = 'ENTRYPOINT ["/run.sh"]\n'
    dockerfile = ("FROM scratch\nADD root.tar /\nENV PATH=/bin\n" + (CHECK if variant in ("healthcheck", "unhealthy") else "")
                  + (f"USER {user}\n" if user else "") + start)
    return tar([("Dockerfile", dockerfile.encode(), 0o644), ("root.tar", root, 0o644)])


def make(engine, registry, variant, name=None, page="one", delay=3, filler=b"", keep=False, user=None):
    """Builds and pushes; the answer is HOST:PORT/molecule/NAME@sha256:…. filler makes an image as large as is wanted; without keep the
    engine forgets the image, so that the agent has to pull it. user: whom its process runs as."""
    name = name or variant
    repository = f"{registry.address}/molecule/{name}"
    engine.stream("POST", "/build", context(variant, name, page, delay, filler, user), {"Content-Type": "application/x-tar"},
                  t=f"{repository}:{page}", rm=1, forcerm=1)
    lines = engine.stream("POST", f"/images/{repository}/push", headers=registry.header(), tag=page)
    digests = [line["aux"]["Digest"] for line in lines if "Digest" in line.get("aux", {})]
    if len(digests) != 1:
        raise LabError(f"push of {repository} named no digest: {lines}")
    if not keep:
        status, body = engine.api("DELETE", f"/images/{repository}:{page}", force=1)
        if status != 200:
            raise LabError(f"cannot remove {repository}:{page}: {status} {body}")
    return f"{repository}@{digests[0]}"
