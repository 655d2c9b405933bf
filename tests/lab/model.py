# SPDX-License-Identifier: Apache-2.0
"""What the protocol says a line of jobs comes to, for one workspace, with nothing of how the agent does it.

A Job is one of provision (good: its image gets ready; bad: it does not; refused: no check lets it pass), restart, deprovision. Serial applies them one after
the other in the order of their generations; allowed() says which ends a job may have when they come in another order, twice, or while others are at work."""

from dataclasses import dataclass, field

GOOD, BAD, REFUSED = "good", "bad", "refused"


@dataclass(frozen=True)
class Job:
    kind: str                           # provision, restart, deprovision
    generation: int
    what: str = GOOD                    # of a provision
    image: int = 0                      # of a good provision: which one
    env: tuple = ()
    prune: bool = False
    id: str = ""


@dataclass
class Serial:
    """settled: the provision that runs; wanted: the newest accepted one, whether or not it became anything."""
    settled: Job = None
    wanted: Job = None
    floor: int = 0                      # of provision and deprovision
    restart_floor: int = 0
    pruned: bool = True                 # nothing of its volumes is left
    ends: dict = field(default_factory=dict)

    def end(self, job, word):
        self.ends[job.id] = word

    def apply(self, job):
        if job.kind == "restart":
            self.restart(job)
        elif job.generation <= self.floor:
            self.end(job, "superseded")
        elif job.kind == "deprovision":
            self.floor, self.settled, self.wanted = job.generation, None, None
            self.pruned = self.pruned or job.prune
            self.end(job, "succeeded")
        elif job.what == REFUSED:
            self.end(job, "refused")
        else:
            self.floor, self.wanted = job.generation, job
            self.become(job)
        return self

    def become(self, job):
        if self.wanted.what == GOOD:
            self.settled, self.pruned = self.wanted, False
            self.end(job, "succeeded")
        else:
            self.pruned = False
            self.end(job, "failed")     # and what was settled runs again

    def restart(self, job):
        if job.generation <= max(self.floor, self.restart_floor):
            self.end(job, "superseded")
        elif not self.wanted:
            self.end(job, "refused")    # unknown_workspace
        else:
            self.restart_floor = job.generation
            self.become(job)


def serial(jobs):
    state = Serial()
    for job in sorted(jobs, key=lambda j: j.generation):
        state.apply(job)
    return state


def newest(jobs):
    """The spec job that has the last word, however the jobs arrive: the highest that no check refuses."""
    return max((j for j in jobs if j.kind != "restart" and j.what != REFUSED), key=lambda j: j.generation, default=None)


def is_determined(jobs):
    """Whether every order of arrival ends the same: what comes last must succeed, else what ran before it does, and that is a matter of time."""
    last = newest(jobs)
    return last is None or last.kind == "deprovision" or last.what == GOOD


def allowed(job, jobs):
    """The ends that a job may have when arrival is not in order."""
    if job.what == REFUSED:
        return {"refused", "superseded"}
    if job == newest(jobs):             # a restart that overtakes it brings up what it wanted
        overtaken = job.kind == "provision" and any(j.kind == "restart" and j.generation > job.generation for j in jobs)
        return {"succeeded"} | ({"superseded"} if overtaken else set())
    if job.kind == "restart":
        bad = any(j.what == BAD and j.generation < job.generation for j in jobs)
        return {"succeeded", "superseded", "refused"} | ({"failed"} if bad else set())
    return {"succeeded" if job.kind == "deprovision" or job.what == GOOD else "failed", "superseded"}
