#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""molecule-agentctl enroll --from aws-secretsmanager, and what doctor says of the metadata service: against a stand-in for both that verifies signatures."""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import TREE, binary  # noqa: E402
from metadata import Instance, Metadata, SecretsManager, bundle  # noqa: E402
from plane import Plane  # noqa: E402
from proc import free_port  # noqa: E402

os.makedirs(f"{TREE}/build/lab", exist_ok=True)
WHERE = tempfile.mkdtemp(prefix="aws-", dir=f"{TREE}/build/lab")
os.chmod(WHERE, 0o755)
STORE, ETC = f"{WHERE}/credstore", f"{WHERE}/etc"
plane = Plane(f"{WHERE}/cp", binary("molecule-devcp"))
metadata = Metadata()
manager = SecretsManager(metadata, plane.certificate)


def tool(*words, **env):
    done = subprocess.run([binary("molecule-agentctl"), *words], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
                          env={"PATH": os.environ["PATH"], "CONFIGURATION_DIRECTORY": ETC, "STATE_DIRECTORY": WHERE, "MOLECULE_AGENT_CA_FILE": plane.authority.ca,
                               "MOLECULE_AGENT_IMDS_URL": metadata.url, "AWS_CA_BUNDLE": plane.authority.ca, "AWS_ENDPOINT_URL_SECRETS_MANAGER": manager.url} | env)
    return done.returncode, done.stdout + done.stderr


def enroll(*more, source="aws-secretsmanager", **env):
    return tool("enroll", "--from", source, "--cp-url", plane.url, "--credstore", STORE, "--no-restart", *more, **env)


def decrypted(name):
    done = subprocess.run(["systemd-creds", "decrypt", f"--name={name}", f"{STORE}/{name}", "-"], capture_output=True, text=True, check=False)
    must(done.returncode == 0, done.stderr)
    return done.stdout


def no_secret_in(text):
    for value in (plane.admin_token, plane.provision_secret, here().secret, here().session, "never-ours"):
        must(value not in text, "a secret is in the words")


def here():
    return metadata.instances["127.0.0.1"]


def refused(status, word, *more, **how):
    got, text = enroll(*more, **how)
    must(got == status and word in text, f"{got} {text}")
    no_secret_in(text)
    must(not os.path.exists(STORE), "kept though it was refused")


def test_what_is_missing_is_said():
    here().tags = {}
    refused(75, "no tag OrgID")
    here().tags = {"OrgID": plane.org_id, "OrgSlug": plane.org_slug}
    refused(75, "ResourceNotFoundException")
    role, here().role = here().role, None
    refused(75, "no role")
    here().role = role
    manager.secrets["x"] = "not a bundle"
    refused(75, "no bundle", source="aws-secretsmanager:x")
    manager.secrets["x"] = '{"shared_secret":"only"}'
    refused(75, "no bundle", source="aws-secretsmanager:x")
    refused(75, "could not be asked", AWS_ENDPOINT_URL_SECRETS_MANAGER=f"https://127.0.0.1:{free_port()}/")
    refused(75, "could not be asked", AWS_CA_BUNDLE="/dev/null")
    refused(75, "gives no token", MOLECULE_AGENT_IMDS_URL=f"http://127.0.0.1:{free_port()}")
    refused(78, "no EC2 instance", MOLECULE_AGENT_IMDS="off")
    refused(78, "imds", MOLECULE_AGENT_IMDS="maybe")
    same((tool("enroll", "--from", "elsewhere")[0], tool("enroll", "--from", "aws-secretsmanager:")[0]), (2, 2))


def test_by_the_role_of_the_instance():
    manager.secrets[f"molecule/tenant/{plane.org_id}/bootstrap"] = bundle(plane)
    here().tags = {"OrgID": plane.org_id, "OrgSlug": plane.org_slug}
    metadata.asked.clear()
    got, text = enroll()
    must(got == 0 and "takes both" in text and "Warning" not in text, text)
    no_secret_in(text)
    same((decrypted("provision-secret"), decrypted("admin-token"), sorted(os.listdir(STORE))),
         (plane.provision_secret, plane.admin_token, ["admin-token", "provision-secret"]))
    with open(f"{ETC}/agent.conf.d/10-enroll.conf") as file:
        same(file.read().split("[agent]\n")[1], f"cp_url = {plane.url}\norg_id = {plane.org_id}\norg_slug = {plane.org_slug}\n")
    must("/latest/user-data" not in metadata.asked, "user-data was read though there was no need")
    got, text = enroll(source="aws-secretsmanager:x")
    must(got == 75, text)
    manager.secrets["other/name"] = bundle(plane)
    same(enroll("--org-id", plane.org_id, source="aws-secretsmanager:other/name")[0], 0)


def test_what_stands_in_user_data_is_used_once_with_a_warning():
    manager.secrets.clear()
    here().user_data = f"#!/bin/bash\nexport PROVISION_SHARED_SECRET='{plane.provision_secret}'\nADMIN_TOKEN={plane.admin_token}\nrun\n"
    got, text = enroll()
    must(got == 0 and "Warning" in text and "user-data" in text, text)
    no_secret_in(text)
    got, text = tool("doctor")
    must(got == 1 and "failed   user-data" in text, text)
    no_secret_in(text)
    here().user_data = "#!/bin/bash\nPROVISION_SHARED_SECRET=$1\nMY_ADMIN_TOKEN=x\n"
    got, text = enroll()
    must(got == 75 and "ResourceNotFound" in text, text)
    got, text = tool("doctor")
    must("ok       user-data" in text, text)


def test_doctor_on_the_metadata_service():
    here().user_data = None
    metadata.hop_limit, metadata.v1 = 1, False
    _, text = tool("doctor")
    must(f"ok       metadata       instance {here().id}" in text and "ok       hop limit" in text, text)
    metadata.hop_limit = 2
    _, text = tool("doctor")
    must("failed   hop limit" in text and "hop-limit 1" in text, text)
    metadata.hop_limit, metadata.v1 = 1, True
    _, text = tool("doctor")
    must("warning  metadata" in text and "http-tokens required" in text, text)
    _, text = tool("doctor", MOLECULE_AGENT_IMDS="off")
    must(all(f"-        {name}" in text for name in ("metadata", "hop limit", "user-data")), text)
    metadata.v1 = False


if os.geteuid() != 0 or subprocess.run(["systemd-creds", "--version"], capture_output=True, check=False).returncode:
    print("1..0 # SKIP needs root and systemd-creds")
    sys.exit(0)
plane.start()
plane.org_make()
metadata.instances["127.0.0.1"] = Instance()
tap.run([test_what_is_missing_is_said, test_by_the_role_of_the_instance, test_what_stands_in_user_data_is_used_once_with_a_warning,
         test_doctor_on_the_metadata_service])
