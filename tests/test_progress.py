"""A bar on a terminal, lines elsewhere."""

import os
import pty
import sys

from hf_autojudge import progress
from hf_autojudge.progress import Progress


def run(lines):
    with Progress("Labelling", 4, "prompts", initial=1) as bar:
        for i in range(lines):
            bar.set(1 + 3 * i / lines, f"{i} mismatches")


def test_without_a_terminal_each_line_ends(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0)
    run(5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[2].startswith("Labelling:  40% 1.6/4 prompts [00:00, 00:0") and lines[2].endswith("1 mismatches]")
    assert all("\r" not in line for line in lines)


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
