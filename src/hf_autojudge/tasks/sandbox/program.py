"""Runs a Python program written by a model in a process of its own that can neither change nor reach anything.

The same for root and for other users, in containers too; no privilege is needed (`child.py` sets it up from
inside the new process):

- system calls: a seccomp filter allows some 60 of them. No other process or thread can be started, no network or other
  socket opened, no file written, made, renamed or deleted, no other process signalled or looked into;
- files: Landlock lets it read the interpreter's own library, nothing else: no home, no data, no /proc;
- nothing is inherited: an empty environment, no file descriptors, /dev/null for input and output, no privileges, a
  session of its own, an empty working folder that is removed afterwards;
- limits: CPU time, memory and open files by the kernel, wall-clock time by the parent, whose end is the program's too.

If the kernel lacks one of these, the program is not run and the error says what is missing.

What does not hold it: it can see whether a file exists and how large it is, not what is in it; a fault of the kernel
in an allowed call is one here. And a program shares its process with its tests, so it can cheat them if it means to.
What is reported is whether the text was run to its end, which no exit status, output or early exit can feign; but a
program written against this very file can find the secret that says so in its own memory, as any can make `==` true.
"""

from __future__ import annotations

import math
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_CHILD = Path(__file__).with_name("child.py")
_READY = b"ready\n"
_MOST_BYTES = 1024  # of an answer: a program may write there too
_WALL_PER_CPU = 2.0  # waits for a busy machine


@dataclass(frozen=True)
class ProgramResult:
    """What became of a program.

    Args:
        passed (`bool`): Whether it was run to its end.
        reason (`str`): Otherwise why not: an exception's name, a signal, the time limit. The program may forge it.
    """

    passed: bool
    reason: str = ""


def run_program(source: str, seconds: float = 5.0, memory: int = 2**30) -> ProgramResult:
    """Run Python source in a contained process of its own, with the standard library only.

    It is run as a module, not as `__main__`. It cannot start threads or processes, nor write files. May be called from
    several threads at once.

    Args:
        source (`str`): The program, its tests included. It passes if its last statement is done; not if it raises or
            exits before, with whatever status.
        seconds (`float`, *optional*, defaults to `5.0`): Limit on CPU time, rounded up to whole seconds. The limit on
            wall-clock time is twice that.
        memory (`int`, *optional*, defaults to `2**30`): Limit on its address space, in bytes.

    Raises:
        RuntimeError: If the program cannot be contained on this machine; it is then not run.
    """
    if sys.platform != "linux":
        raise RuntimeError(f"Generated programs can be contained on Linux only, not on {sys.platform}; none was run.")
    secret = secrets.token_bytes(16)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as request:
        request.write(secret + source.encode(errors="surrogatepass"))
        request.seek(0)
        limits = [str(max(1, math.ceil(seconds))), str(memory), str(os.getpid())]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(_CHILD), *limits],
            stdin=request,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            # Some interpreters find their own library through it; the child clears it
            env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            answer, in_time = _read(process.stdout, time.monotonic() + _WALL_PER_CPU * seconds)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    if not answer.startswith(_READY):
        problem = answer.decode(errors="replace") or f"{sys.executable} did not start ({_status(process.returncode)})"
        raise RuntimeError(
            f"A generated program cannot be contained on this machine and was not run: {problem}. Run this on Linux "
            "5.13 or later, in a container only if its seccomp profile allows Landlock, as Docker's default does."
        )
    if answer == _READY + secret:
        return ProgramResult(True)
    if not in_time:
        return ProgramResult(False, "time limit")
    return ProgramResult(False, answer.removeprefix(_READY).decode(errors="replace") or _status(process.returncode))


def _read(pipe: IO[bytes], deadline: float) -> tuple[bytes, bool]:
    """What comes out of a pipe until its end, its most bytes or the deadline, and whether the deadline was kept."""
    poll, answer = select.poll(), b""  # unlike `select`, also for descriptors above 1023
    poll.register(pipe, select.POLLIN)
    while len(answer) < _MOST_BYTES:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return answer, False
        if not (chunk := os.read(pipe.fileno(), _MOST_BYTES)):
            break
        answer += chunk
    return answer, True


def _status(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
