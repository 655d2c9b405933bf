#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""molecule-agentctl enroll and credentials set: what the control plane takes is kept, encrypted; what it refuses leaves everything as it was."""

import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import TREE, binary  # noqa: E402
from plane import Plane  # noqa: E402
from proc import free_port  # noqa: E402

os.makedirs(f"{TREE}/build/lab", exist_ok=True)
WHERE = tempfile.mkdtemp(prefix="enroll-", dir=f"{TREE}/build/lab")
os.chmod(WHERE, 0o755)
STORE, ETC = f"{WHERE}/credstore", f"{WHERE}/etc"
plane = Plane(f"{WHERE}/cp", binary("molecule-devcp"))


def put(name, text):
    path = f"{WHERE}/{name}"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    return path


def tool(*words, stdin="", wrap=(), **env):
    done = subprocess.run([*wrap, binary("molecule-agentctl"), *words], input=stdin, capture_output=True, text=True, timeout=60, check=False,
                          env={"PATH": os.environ["PATH"], "CONFIGURATION_DIRECTORY": ETC, "STATE_DIRECTORY": WHERE} | env)
    return done.returncode, done.stdout + done.stderr


def enroll(*more, url=None, org=None, secret=None, token="-", stdin=None, wrap=()):
    return tool("enroll", "--cp-url", url or plane.url, "--org-id", org or plane.org_id, "--provision-secret-file", secret or put("secret", plane.provision_secret + "\n"),
                "--admin-token-file", token, "--credstore", STORE, "--no-restart", *more, stdin=plane.admin_token if stdin is None else stdin, wrap=wrap,
                MOLECULE_AGENT_CA_FILE=plane.authority.ca)


def decrypted(name):
    done = subprocess.run(["systemd-creds", "decrypt", f"--name={name}", f"{STORE}/{name}", "-"], capture_output=True, text=True, check=False)
    must(done.returncode == 0, done.stderr)
    return done.stdout


def nothing_kept():
    left = [path for path in (STORE, ETC) if os.path.exists(path)]
    same(left, [], "kept though it was refused")


def test_what_is_refused_is_not_kept():
    for status, word, how in ((1, "admin token", {"stdin": "x" * 64}), (1, "provision secret", {"secret": put("bad", "y" * 64)}),
                              (1, "admin token", {"org": "11111111-1111-4111-8111-111111111111"}), (75, "cannot be reached", {"url": f"https://127.0.0.1:{free_port()}"}),
                              (78, "cp_url", {"url": "ftp://nowhere"}), (78, "org_id", {"org": "x"}), (78, "cp_url", {"url": "http://cp.example.com"}),
                              (1, "empty", {"stdin": " \n"}), (1, "Cannot read", {"secret": f"{WHERE}/absent"}), (1, "not one word", {"stdin": "two words"})):
        got, text = enroll(**how)
        must(got == status and word in text, f"{how}: {got} {text}")
        must(plane.admin_token not in text and plane.provision_secret not in text, "a credential is in the words")
        nothing_kept()


def test_an_old_mirror_without_provision_routes():
    other = Plane(f"{WHERE}/bare", binary("molecule-devcp"))
    open(f"{other.where}/provision-secret", "w").close()    # none: the routes are not mounted
    other.start()
    other.org_make()
    got, text = tool("enroll", "--cp-url", other.url, "--org-id", other.org_id, "--provision-secret-file", put("secret", "z" * 64), "--admin-token-file",
                     put("token", other.admin_token), "--credstore", STORE, "--no-restart", MOLECULE_AGENT_CA_FILE=other.authority.ca)
    other.stop()
    must(got == 1 and "no provision routes" in text, text)
    nothing_kept()


def test_for_root_only():
    got, text = enroll(wrap=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
    must(got == 6 and "root" in text, text)
    for words in ((), ("--cp-url", "x"), ("more",)):
        same(tool("enroll", *words)[0], 2, words)
    same(enroll(secret="-")[0], 2, "both from standard input")
    for words in ((), ("set",), ("set", "paint", "-"), ("get", "admin-token", "-")):
        same(tool("credentials", *words)[0], 2, words)


def test_what_is_taken_is_kept_encrypted():
    got, text = enroll("--org-slug", plane.org_slug, "--max-tier", "1")
    must(got == 0 and "takes both" in text, text)
    same((decrypted("provision-secret"), decrypted("admin-token")), (plane.provision_secret, plane.admin_token))
    for name in os.listdir(STORE):
        with open(f"{STORE}/{name}", "rb") as file:
            must(plane.admin_token.encode() not in file.read(), f"{name} is in clear")
    path = f"{ETC}/agent.conf.d/10-enroll.conf"
    with open(path) as file:
        same(file.read().split("[agent]\n")[1], f"cp_url = {plane.url}\norg_id = {plane.org_id}\norg_slug = {plane.org_slug}\nmax_tier = 1\n")
    same(oct(os.stat(path).st_mode & 0o777), "0o644")
    got, text = tool("config", "show")
    must(got == 0 and f"cp_url = {plane.url}" in text and "10-enroll.conf" in text, text)
    got, text = enroll("--json")
    same((got, json.loads(text.splitlines()[0])), (0, {"cp_url": plane.url, "org_id": plane.org_id, "restarted": False, "done": True}), "once more")


def noted(state):
    with open(f"{state}/audit") as file:
        return [(e["verb"], e["reason"], e["uid"]) for e in map(json.loads, file) if e["kind"] == "local"]


def test_who_did_it_is_recorded():
    state = f"{WHERE}/state"
    os.makedirs(state, exist_ok=True)
    put("state/lock", "")                                   # as after a start of the agent, which does not run now
    env = {"STATE_DIRECTORY": state, "MOLECULE_AGENT_CA_FILE": plane.authority.ca}
    words = ("enroll", "--cp-url", plane.url, "--org-id", plane.org_id, "--credstore", STORE, "--no-restart", "--admin-token-file", put("token", plane.admin_token))
    same(tool(*words, "--provision-secret-file", put("secret", plane.provision_secret), "--reason", "a new tenant", **env)[0], 0)
    same(noted(state), [("enroll", "a new tenant", 0)])
    same(tool(*words, "--provision-secret-file", put("secret", "z" * 64), "--reason", "a guess", **env)[0], 1)
    same(noted(state), [("enroll", "a new tenant", 0)], "nothing was kept")
    runs = f"{WHERE}/running"
    os.makedirs(runs, exist_ok=True)
    for name, value in (("provision-secret", plane.provision_secret), ("admin-token", plane.admin_token)):
        put(f"running/{name}", value)
    got, text = tool("credentials", "set", "admin-token", put("token", plane.admin_token), "--credstore", STORE, "--no-restart", "--reason", "a leaver",
                     CREDENTIALS_DIRECTORY=runs, **env)
    same((got, noted(state)[1:]), (0, [("credentials set", "a leaver", 0)]), text)


def test_one_credential_anew():
    runs = f"{WHERE}/running"
    os.makedirs(runs, exist_ok=True)
    for name, value in (("provision-secret", plane.provision_secret), ("admin-token", plane.admin_token)):
        put(f"running/{name}", value)
    env = {"CREDENTIALS_DIRECTORY": runs, "MOLECULE_AGENT_CA_FILE": plane.authority.ca}
    got, text = tool("credentials", "set", "provision-secret", "-", "--credstore", STORE, "--no-restart", stdin="w" * 64, **env)
    must(got == 1 and "The old one stays" in text, text)
    same(decrypted("provision-secret"), plane.provision_secret)
    plane.stop()
    plane.provision_secret = "n" * 64
    put("cp/provision-secret", plane.provision_secret)
    plane.start()
    got, text = tool("credentials", "set", "provision-secret", "-", "--credstore", STORE, "--no-restart", "--json", stdin=plane.provision_secret + "\n", **env)
    same((got, json.loads(text.splitlines()[0])), (0, {"credential": "provision-secret", "restarted": False, "done": True}), text)
    same(decrypted("provision-secret"), plane.provision_secret)
    got, text = tool("credentials", "set", "admin-token", put("token", plane.admin_token), "--credstore", STORE, "--no-restart",
                     MOLECULE_AGENT_CA_FILE=plane.authority.ca)
    must(got == 1 and "other credential" in text, text)


def test_credentials_of_another_machine_go_aside():
    names = ("provision-secret", "admin-token")
    got, text = tool("setup", STORE)
    must(got == 0 and text.startswith("seal-key.e1: made") and "aside" not in text, text)
    done = subprocess.run(["systemd-creds", "decrypt", "--name=seal-key.e1", f"{STORE}/seal-key.e1", "-"], capture_output=True, check=True)
    same(len(done.stdout), 32, "a root key")
    same(tool("setup", STORE), (0, ""), "good ones stay")
    os.makedirs(f"{WHERE}/keys")                            # the agent has made its own: none beside it
    put("keys/root.e1", "")
    same((tool("setup", f"{WHERE}/other"), tool("setup", WHERE)), ((0, ""), (0, "")))
    os.unlink(f"{WHERE}/keys/root.e1")
    for name in names:                                      # as a cloned disk or a new host key leaves them
        with open(f"{STORE}/{name}", "r+b") as file:
            good = file.read()
            file.seek(len(good) // 2)
            file.write(b"AAAA")
        put(f"good-{name}", "")
        with open(f"{WHERE}/good-{name}", "wb") as file:
            file.write(good)
    put("credstore/stranger", "of someone else")
    got, text = tool("setup", STORE)
    must(got == 0 and text.count("set aside") == 2, text)
    same(sorted(os.listdir(STORE)), ["admin-token.foreign", "provision-secret.foreign", "seal-key.e1", "stranger"])
    same(tool("setup", STORE), (0, ""), "once more: nothing changes")
    os.replace(f"{WHERE}/good-admin-token", f"{STORE}/admin-token.foreign")
    got, text = tool("setup", STORE, "--json")
    same((got, json.loads(text.splitlines()[0])), (0, {"renamed": [{"from": "admin-token.foreign", "to": "admin-token"}], "done": True}), text)
    same((sorted(os.listdir(STORE)), decrypted("admin-token")), (["admin-token", "provision-secret.foreign", "seal-key.e1", "stranger"], plane.admin_token))
    same((tool("setup", f"{WHERE}/nowhere")[0], tool("setup", "a", "b")[0]), (0, 2))


if os.geteuid() != 0 or subprocess.run(["systemd-creds", "--version"], capture_output=True, check=False).returncode:
    print("1..0 # SKIP needs root and systemd-creds")
    sys.exit(0)
plane.start()
plane.org_make()
tap.run([test_what_is_refused_is_not_kept, test_an_old_mirror_without_provision_routes, test_for_root_only, test_what_is_taken_is_kept_encrypted,
         test_who_did_it_is_recorded, test_one_credential_anew, test_credentials_of_another_machine_go_aside])
