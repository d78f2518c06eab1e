"""A bar on a terminal, lines elsewhere."""

import os
import pty
import sys
import time

from hf_autojudge import progress
from hf_autojudge.progress import Progress


def run(lines):
    with Progress("Labelling", 4, "prompts", initial=1) as bar:
        for i in range(lines):
            bar.set(1 + 3 * i / lines, f"{i} mismatches")


def test_without_a_terminal_lines_come_by_the_clock(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.05)
    with Progress("Labelling", 4, "prompts", initial=1) as bar:
        bar.set(2.5, "3 mismatches")
        time.sleep(0.5)  # a model computes
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 4 and all("\r" not in line for line in lines)
    assert lines[1].startswith("Labelling:  62% 2.5/4 prompts [00:00, 00:0") and lines[1].endswith("3 mismatches]")


def test_without_a_terminal_lines_are_rare(capsys):
    run(100)
    assert len([line for line in capsys.readouterr().err.splitlines() if line]) == 2  # the first and the last


def test_a_terminal_gets_one_line(monkeypatch):
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "120")
        run(3)
    shown = os.read(master, 10_000).decode()
    os.close(master)
    assert "\r" in shown and shown.count("\n") == 1


def test_nothing_is_shown_if_it_is_disabled(capsys):
    with Progress("Labelling", 4, "prompts", disable=True) as bar:
        bar.set(2, "3 mismatches")
    assert capsys.readouterr().err == ""
