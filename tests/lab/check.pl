#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Runs the named tests under TAP::Harness, as prove does, and says at the end how many single answers passed, failed and were skipped.
# A test that ends badly, prints no plan or breaks its plan counts as one failure more; a skipped answer never counts as passed.
# Integration tests need root: without it, and without a sudo that asks for no password, they are skipped and say so.
# MOLECULE_UNDER is put before each unit test, such as valgrind and its options.
use strict;
use warnings;
use TAP::Harness;

my $root = $> == 0;
my $sudo = !$root && system('sudo -n true >/dev/null 2>&1') == 0;
my @kept = map { "$_=$ENV{$_}" } grep { exists $ENV{$_} } qw(MOLECULE_AGENTD MOLECULE_AGENTCTL MOLECULE_DEVCP MOLECULE_LAUNCH MOLECULE_LONG MOLECULE_QUICK MOLECULE_SEED MOLECULE_POINT MUTANTS MOLECULE_PACKAGE MOLECULE_ROOT ASAN_OPTIONS UBSAN_OPTIONS);
my %seconds = (integration => 900, instance => 1800, fault => $ENV{MOLECULE_QUICK} ? 420 : 12 * 3600);
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

sub command {
        my ($harness, $file) = @_;
        my ($live) = $file =~ m{tests/(integration|instance|fault)/};
        my $under = $file =~ m{/tests/test-} && $ENV{MOLECULE_UNDER} || '';
        my $limit = $live ? $seconds{$live} : $under ? 1200 : 180;
        my @run = ('timeout', '-k', '30', $limit, split(' ', $under), $file =~ m{/} ? $file : "./$file");
        return [@run] if !$live || $root;
        return ['sudo', '-n', 'env', 'PYTHONDONTWRITEBYTECODE=1', @kept, @run] if $sudo;
        return ['echo', '1..0 # SKIP needs root, or sudo without a password'];
}

# Unit tests and pages side by side: they share nothing, and mostly wait. What runs a whole host has the machine to itself, as its times are judged; but for
# those that wait longest and judge order rather than time: they go in two lanes.
my $harness = TAP::Harness->new({exec => \&command, verbosity => $ENV{V} ? 1 : 0, failures => 1, comments => 1, timer => 1, jobs => 4, rules => {seq => [
        {par => ['**/tests/test-*', '**/tests/fuzz/*', 'tests/*.t', 'tests/layers.sh']},
        {par => ['tests/integration/engine-faults.t', 'tests/integration/hostile.t']},
        {par => [{seq => ['tests/fault/kill.t', 'tests/fault/mutants.sh']},
                 {seq => ['tests/fault/power.t', 'tests/fault/errors.t', 'tests/fault/malloc.t', 'tests/fault/full.t']}]},
        {seq => '**'}]}});
my $all = $harness->runtests(@ARGV);

my ($passed, $failed, $skipped) = (0, 0, 0);
for my $one ($all->parsers) {
        my %good = map { $_ => 1 } $one->actual_passed;
        my %apart = map { $_ => 1 } $one->skipped, grep { !$good{$_} } $one->todo;
        my $bad = grep { !$apart{$_} } $one->failed;
        $bad += 1 if $one->parse_errors || ($one->exit && !$bad) || (!$one->tests_run && !$one->skip_all);
        $passed += grep { !$apart{$_} } keys %good;
        $skipped += keys(%apart) + ($one->skip_all ? 1 : 0);
        $failed += $bad;
}
for my $file ($all->descriptions) {
        my ($one) = $all->parsers($file);
        print "# skipped: $file: ", $one->skip_all, "\n" if $one->skip_all;
}
print "$passed passed, $failed failed, $skipped skipped\n";
exit($failed || !$all->all_passed || !@ARGV ? 1 : 0);
