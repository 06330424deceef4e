"""The account of a process tree."""

import os
import subprocess
import sys

import pytest

from tests.performance.bench.processes import (
    Stat,
    descendants,
    parse_pss,
    parse_stat,
    read_tree,
    tree_cpu_seconds,
)

LINE = (
    "4242 ({name}) S 17 4242 4242 0 -1 4194560 3150 88120 0 3 {utime} {stime} {ended_utime} {ended_stime} "
    "20 0 9 0 812345 1073741824 25600 18446744073709551615 1 1 0 0 0 0 0 16781312 17642 0 0 0 17 1 0 0 0 0 0"
)


@pytest.mark.parametrize("name", ["python", "a b", "S (x) 1 2 3", "(sd-pam)", ")"])
def test_stat_is_read_whatever_the_process_is_called(name: str) -> None:
    line = LINE.format(name=name, utime=150, stime=50, ended_utime=1000, ended_stime=300)
    assert parse_stat(line, ticks=100) == Stat(pid=4242, parent=17, cpu_seconds=15.0)


def test_own_stat_is_what_the_kernel_says() -> None:
    with open("/proc/self/stat") as file:
        stat = parse_stat(file.read())
    assert (stat.pid, stat.parent) == (os.getpid(), os.getppid())
    assert stat.cpu_seconds == pytest.approx(sum(os.times()[:4]), abs=0.5)


def test_descendants_are_all_below_and_nothing_else() -> None:
    stats = [Stat(pid, parent, 0.0) for pid, parent in ((1, 0), (2, 1), (3, 2), (4, 3), (5, 1), (6, 5))]
    assert sorted(stat.pid for stat in descendants(2, stats)) == [3, 4]
    assert sorted(stat.pid for stat in descendants(1, stats)) == [2, 3, 4, 5, 6]
    assert descendants(6, stats) == []


def test_memory_is_the_proportional_share_of_a_process() -> None:
    rollup = "55e0-7ffd ---p 00000000 00:00 0  [rollup]\nRss: 9000 kB\nPss:    1234 kB\nPss_Anon: 7 kB\n"
    assert parse_pss(rollup) == 1234 * 1024
    assert parse_pss("") == 0


def test_a_tree_accounts_for_grandchildren_that_have_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    before = tree_cpu_seconds()
    with subprocess.Popen(
        ["sh", "-c", f'"{sys.executable}" -c "{burn}"; echo done; read line'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        assert shell.stdout.readline() == "done\n"
        assert shell.pid in {stat.pid for stat in read_tree()}
        assert tree_cpu_seconds() - before >= 0.25
        shell.stdin.close()
    assert shell.pid not in {stat.pid for stat in read_tree()}
