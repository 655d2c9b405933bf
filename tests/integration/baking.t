#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What image bakers and fleet operators are given as files: each names only what exists, and lets nothing through that would be another command."""

import base64
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import TREE, binary  # noqa: E402

IMAGE = f"{TREE}/packaging/image"
VERBS = ("sync", "redeploy", "hold", "drain", "status", "upgrade")
HOSTILE = ("; reboot", "$(reboot)", "`reboot`", "a' b", "x\ny", "&& y", "| z", "")


def read(name):
    with open(f"{IMAGE}/{name}") as file:
        return file.read()


def option_names(script):
    return set(re.findall(r"^  (--[a-z-]+)", script, re.M))


def verbs():
    done = subprocess.run([binary("molecule-agentctl"), "help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"^  ([a-z-]+) ", done.stdout, re.M))


def test_ssm_documents():
    same(sorted(os.path.basename(path)[:-5] for path in glob.glob(f"{IMAGE}/ssm/*.json")), sorted(VERBS))
    known = verbs()
    for name in VERBS:
        document = json.loads(read(f"ssm/{name}.json"))
        same(document["schemaVersion"], "2.2", name)
        parameters = document.get("parameters", {})
        commands = [line for step in document["mainSteps"] for line in step["inputs"]["runCommand"]]
        used = set(re.findall(r"{{ (\w+) }}", "\n".join(commands)))
        same(used, set(parameters), f"{name}: what is asked for and what is used")
        for key, parameter in parameters.items():
            pattern = parameter["allowedPattern"]
            must(pattern.startswith("^") and pattern.endswith("$"), f"{name}: {key}: {pattern}")
            for value in HOSTILE:
                must(not re.fullmatch(pattern[1:-1], value), f"{name}: {key} lets {value!r} through")
            must("default" not in parameter or re.fullmatch(pattern[1:-1], parameter["default"]), f"{name}: {key}: its own default is refused")
        called = re.findall(r"molecule-agentctl ([a-z-]+)", "\n".join(commands))
        must(called and set(called) <= known, f"{name}: {set(called) - known} is no verb")


def test_ssm_commands_are_shell():
    for name in VERBS:
        document = json.loads(read(f"ssm/{name}.json"))
        text = "\n".join(line for step in document["mainSteps"] for line in step["inputs"]["runCommand"])
        for key, parameter in document.get("parameters", {}).items():
            text = text.replace("{{ %s }}" % key, parameter.get("default", "11111111-1111-4111-8111-111111111111"))
        done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
        must(done.returncode == 0, f"{name}: {done.stderr}")


def test_bake_is_called_as_it_is():
    options = option_names(subprocess.run([f"{IMAGE}/bake.sh", "--help"], capture_output=True, text=True, check=True).stdout)
    for name in ("molecule-agent.pkr.hcl", "image-builder.yaml"):
        called = [line for line in read(name).splitlines() if re.search(r"bake\.sh --", line)]
        must(called, f"{name} does not call bake.sh")
        for line in called:
            must(set(re.findall(r"(--[a-z-]+)", line)) <= options, f"{name}: {line}")
    must("http_put_response_hop_limit = 1" in read("molecule-agent.pkr.hcl") and 'http_tokens                 = "required"' in read("molecule-agent.pkr.hcl"))


def test_bake_refuses():
    for words, status, text in ((["--root", "/nowhere/x"], 2, "Usage"), (["--package", "x"], 2, "Usage"), (["--root"], 1, "needs a value"), (["--colour"], 2, "Usage"),
                                (["--root", "/nowhere/x", "--package", "/nowhere.deb"], 1, "is not there"),
                                (["--root", "/tmp", "--package", f"{IMAGE}/bake.sh"], 1, "is there already"),
                                (["--root", "/nowhere/x", "--package", f"{IMAGE}/bake.sh", "--image", "busybox:latest"], 1, "no reference by digest")):
        done = subprocess.run([f"{IMAGE}/bake.sh", *words], capture_output=True, text=True, check=False)
        must(done.returncode == status and text in done.stdout + done.stderr, f"{words}: {done.returncode} {done.stdout}{done.stderr}")


def test_no_secret_in_what_is_written_for_instances():
    for name in ("cloud-init.yaml", "agent.conf.example", "image-builder.yaml", "molecule-agent.pkr.hcl"):
        must(not re.search(r"(?i)(secret|token|password)\s*[:=]\s*['\"]?[A-Za-z0-9+/]{8,}", read(name)), name)
    must(read("cloud-init.yaml").startswith("#cloud-config\n"))
    config = re.search(r"content: \|\n((?:      .*\n)+)", read("cloud-init.yaml"))[1]
    for path, text in (("cloud-init", re.sub(r"^      ", "", config, flags=re.M)), ("agent.conf.example", read("agent.conf.example"))):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(text)
            file.flush()
            done = subprocess.run([binary("molecule-agentd"), "--check", "--config", file.name], capture_output=True, text=True, check=False)
        must(done.returncode == 0, f"{path}: {done.stdout}{done.stderr}")


def test_password_of_a_registry():
    with tempfile.TemporaryDirectory() as where:
        def run(answer, registry="123456789012.dkr.ecr.eu-central-1.amazonaws.com"):
            with open(f"{where}/aws", "w") as file:
                file.write(f"#!/bin/sh\n[ \"$*\" = 'ecr get-login-password --region eu-central-1' ] || exit 9\n{answer}\n")
            os.chmod(f"{where}/aws", 0o755)
            done = subprocess.run([f"{TREE}/packaging/registry-auth-ecr"], capture_output=True, text=True, check=False,
                                  env={"PATH": f"{where}:/usr/bin:/bin", "STATE_DIRECTORY": where} | ({"REGISTRY": registry} if registry else {}))
            return done.returncode, done.stdout + done.stderr
        same(run("echo secret-word"), (0, ""))
        with open(f"{where}/config.json") as file:
            made = json.load(file)
        same(made, {"auths": {"123456789012.dkr.ecr.eu-central-1.amazonaws.com": {"auth": base64.b64encode(b"AWS:secret-word").decode()}}})
        same(oct(os.stat(f"{where}/config.json").st_mode & 0o777), "0o600")
        for answer, registry, word in (("exit 3", None, "not set"), ("exit 3", "r.example.com", "no registry of ECR"), ("exit 3", 'a"b.dkr.ecr.x.amazonaws.com', "no registry's name"),
                                       ("exit 3", "1.dkr.ecr.eu-central-1.amazonaws.com", ""), ("true", "1.dkr.ecr.eu-central-1.amazonaws.com", "no password")):
            got, text = run(answer, registry)
            must(got != 0 and word in text, f"{registry}: {got} {text}")
        with open(f"{where}/config.json") as file:
            same(json.load(file), made, "what was there stays")


if os.geteuid() != 0:
    print("1..0 # SKIP bake.sh is root's")
    sys.exit(0)
tap.run([test_ssm_documents, test_ssm_commands_are_shell, test_bake_is_called_as_it_is, test_bake_refuses, test_password_of_a_registry, test_no_secret_in_what_is_written_for_instances])
