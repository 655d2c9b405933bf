# SPDX-License-Identifier: Apache-2.0
"""What bash offers for a command line that molecule-agentctl begins and whose last word is not yet whole."""

import os
import subprocess

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging", "bash-completion", "molecule-agentctl")
RUN = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _molecule_agentctl; ((${#COMPREPLY[@]} == 0)) || printf "%s\\n" "${COMPREPLY[@]}"'


def offers(tool, *words, env):
    done = subprocess.run(["bash", "--norc", "-c", RUN, "bash", SCRIPT, tool, *words], env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True,
                          timeout=30, check=False)
    assert not done.returncode and not done.stderr, f"{words}: {done.returncode} {done.stderr}"
    return done.stdout.splitlines()
