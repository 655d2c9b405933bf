# SPDX-License-Identifier: Apache-2.0
"""Cases side by side, one answer each. A case is a function of its Stage, which is the lab to it; it makes its own sites there and may stop
and start what is theirs: a process ends with the thread that started it, and a case is one thread. $MOLECULE_CASES chooses by name."""

import os
import queue
import re
import threading
import time
import traceback

import tap
from lab import LabError
from proc import end_now

lock = threading.RLock()
here, owned = threading.local(), []


class Stage:
    def __init__(self, lab):
        self.lab, self.sites = lab, []

    def site(self, plane_words=(), start=True, **settings):
        """A control plane and an agent of the case's own, started unless start is False."""
        with lock:
            self.sites.append(self.lab.site(plane_words=plane_words, **settings))
        return self.sites[-1].start() if start else self.sites[-1]

    def image(self, *words, **how):
        with lock:
            return self.lab.image(*words, **how)

    def __getattr__(self, name):
        return getattr(self.lab, name)


def own(lab, make):
    """make(stage), once for all cases of a thread: whoever comes first makes it, and it ends after the last of all."""
    if not hasattr(here, "own"):
        owned.append(Stage(lab))
        here.own = make(owned[-1])
    return here.own


def attempt(case, lab):
    stage, began, error, skipped = Stage(lab), time.monotonic(), "", None
    try:
        case(stage)
    except tap.Skip as reason:
        skipped = reason
    except Exception:
        error = traceback.format_exc() + "".join(site.tail(80) for site in stage.sites)
    for site in stage.sites:
        try:
            end_now(site.end)
        except Exception as ending:
            error += f"\n{ending}"
    with lock:
        if skipped and not error:
            tap.skip(named(case), skipped)
        else:
            tap.ok(not error, f"{named(case)} ({time.monotonic() - began:.1f} s)", error)


def named(case):
    return case.__doc__ or case.__name__.replace("_", " ")


def work(waiting, lab):
    while True:
        try:
            attempt(waiting.get_nowait(), lab)
        except queue.Empty:
            return


def run(lab, cases, alone=(), side_by_side=6, limit=270):
    """cases at once, the long ones first; then those that cannot be with others, one by one."""
    chosen, began = re.compile(os.environ.get("MOLECULE_CASES", ".")), time.monotonic()
    waiting = queue.Queue()
    for case in cases:
        if chosen.search(case.__name__):
            waiting.put(case)
    if waiting.empty() and not any(chosen.search(case.__name__) for case in alone):
        tap.ok(False, f"no case is called '{chosen.pattern}'")
    threads = [threading.Thread(target=work, args=(waiting, lab), daemon=True) for _ in range(side_by_side)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(limit - (time.monotonic() - began), 1))
    with lock:
        tap.ok(waiting.empty() and not any(thread.is_alive() for thread in threads), "the cases side by side ended in time")
    for case in alone:
        if chosen.search(case.__name__):
            attempt(case, lab)
    for stage in owned:
        for site in stage.sites:
            end_now(site.end)
    tap.diag(f"done after {time.monotonic() - began:.1f} s")


def must(truth, words="not so"):
    if not truth:
        raise LabError(words)


def same(got, want, what=""):
    must(got == want, f"{what}: got {got!r}, want {want!r}")
