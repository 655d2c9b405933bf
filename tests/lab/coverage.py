#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges what ran: lines over all of the product, branches in the modules that decide whether a job is lost. The counts are gcov's own, of a
build without optimization, so that a branch is a condition as it is written; assert() is not judged, for no input reaches its other side."""
import argparse
import json
import re
import subprocess
import sys

PRODUCT = ('base', 'secrets', 'engine', 'provision', 'agent')
LINES = 90
BRANCHES = 95
MODULES = {
    'json': r'base/json[^/]*\.c',
    'record': r'base/record\.c',
    'seal': r'secrets/seal\.c',
    'job': r'provision/job[^/]*\.c',
    'queue': r'provision/queue[^/]*\.c',
    'flow': r'provision/flow[^/]*\.c',
}


def measure(objects):
    found = subprocess.run(['gcovr', '--json', '-', '--root', '.', '--exclude-unreachable-branches', '--exclude-throw-branches',
                            '--exclude-branches-by-pattern', r'^\s*assert\(.*'] +
                           [word for part in PRODUCT for word in ('--filter', part + '/')] + [objects], check=True, stdout=subprocess.PIPE)
    return {one['file']: [line for line in one['lines'] if not line['gcovr/noncode']]
            for one in json.loads(found.stdout)['files'] if one['file'].endswith('.c')}


class Sum:
    """How many there are, and how many were taken."""

    def __init__(self):
        self.lines = self.lines_run = self.branches = self.branches_taken = 0

    def add(self, lines):
        for line in lines:
            self.lines += 1
            self.lines_run += line['count'] > 0
            self.branches += len(line['branches'])
            self.branches_taken += sum(branch['count'] > 0 for branch in line['branches'])
        return self

    def row(self, name):
        return (f'{name:32} {percent(self.lines_run, self.lines):6.1f} % of {self.lines:5} lines '
                f'{percent(self.branches_taken, self.branches):6.1f} % of {self.branches:5} branches')


def percent(part, whole):
    return 100 * part / whole if whole else 0.0


def show_missing(files, pattern):
    for name, lines in sorted(files.items()):
        if not re.fullmatch(pattern, name):
            continue
        with open(name, encoding='utf-8') as source:
            text = source.read().splitlines()
        for line in lines:
            missed = [n for n, branch in enumerate(line['branches']) if not branch['count']]
            if missed or not line['count']:
                where = f"{name}:{line['line_number']}"
                print(f"{where:36} {len(missed)}/{len(line['branches'])} {text[line['line_number'] - 1].strip()}")


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument('objects', help='the folder of .gcno and .gcda files')
    args.add_argument('--branches-only', action='store_true', help='the lines are not judged: not every test ran')
    args.add_argument('--missing', metavar='REGEX', help='instead of the table, the lines of these files where something was not taken')
    args = args.parse_args()
    files = measure(args.objects)
    if args.missing:
        show_missing(files, args.missing)
        return 0

    for name, lines in sorted(files.items()):
        print(Sum().add(lines).row(name))
    print()
    all_of_it = Sum()
    for lines in files.values():
        all_of_it.add(lines)
    print(all_of_it.row('all'))
    bad = []
    if not args.branches_only and percent(all_of_it.lines_run, all_of_it.lines) < LINES:
        bad.append(f'lines over all are below {LINES} %')
    for module, pattern in MODULES.items():
        part = Sum()
        for name, lines in files.items():
            if re.fullmatch(pattern, name):
                part.add(lines)
        print(part.row(module))
        if percent(part.branches_taken, part.branches) < BRANCHES:
            bad.append(f'branches of {module} are below {BRANCHES} %')
    for words in bad:
        print(f'not enough: {words}')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
