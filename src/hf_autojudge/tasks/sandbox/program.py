"""Runs a Python program written by a model in a separate process that can neither change nor reach anything else.

`child.py` sets up the restrictions from inside the new process. They need no privilege and are the same for root and
for other users, also in containers:

- system calls: a seccomp filter allows about 60 of them. The program cannot start a process or thread, open a socket,
  write, create, rename or delete a file, or signal or inspect another process;
- files: Landlock lets it read the interpreter's library and nothing else: no home folder, no data, no /proc;
- nothing is inherited: an empty environment, no file descriptors, /dev/null for input and output, no privileges, a
  new session, and an empty working folder that is removed afterwards;
- limits: the kernel limits CPU time, memory and open files, the parent wall-clock time. The program ends with it.

If the kernel lacks one of these, the program is not run and the error says what is missing.

Remaining weaknesses: the program can see whether a file exists and how large it is, but not its content. A kernel bug
in an allowed call affects the sandbox too. A program shares its process with its tests, so it can cheat them on
purpose. The result says whether the source ran to its end, which no exit status, output or early exit can forge; but a
program written against this file can find the secret that proves it in its own memory, as any can make `==` true.
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
_MAX_ANSWER_BYTES = 1024  # the program can write to the same pipe
_WALL_PER_CPU = 2.0  # allows for a busy machine


@dataclass(frozen=True)
class ProgramResult:
    """The result of a program.

    Args:
        passed (`bool`): Whether it ran to its end.
        reason (`str`, *optional*, defaults to `""`): Why it did not: an exception's name, a signal or the time limit.
            The program can forge it.
    """

    passed: bool
    reason: str = ""


def run_program(source: str, seconds: float = 5.0, memory: int = 2**30) -> ProgramResult:
    """Run Python source in a sandboxed process with the standard library only, as a module (not as `__main__`). Safe
    to call from several threads at once.

    Args:
        source (`str`): The program, including its tests. It passes if it completes its last statement. It does not
            pass if it raises or exits earlier, whatever the exit status.
        seconds (`float`, *optional*, defaults to `5.0`): Limit on CPU time, rounded up to whole seconds. The limit on
            wall-clock time is twice as long.
        memory (`int`, *optional*, defaults to `2**30`): Limit on the address space, in bytes.

    Raises:
        RuntimeError: If this machine lacks a part of the sandbox. The program is then not run.
    """
    if sys.platform != "linux":
        raise RuntimeError(f"Generated programs can be sandboxed on Linux only, not on {sys.platform}; none was run.")
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
            # Some interpreters find their own library through it; the child clears its environment
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
            f"A generated program cannot be sandboxed on this machine and was not run: {problem}. Use Linux 5.13 or "
            "later; in a container, its seccomp profile must allow Landlock, as Docker's default does."
        )
    if answer == _READY + secret:
        return ProgramResult(True)
    if not in_time:
        return ProgramResult(False, "time limit")
    return ProgramResult(False, answer.removeprefix(_READY).decode(errors="replace") or _status(process.returncode))


def _read(pipe: IO[bytes], deadline: float) -> tuple[bytes, bool]:
    """Read a pipe to its end, the maximum number of bytes or the deadline; also says whether it met the deadline."""
    poll, answer = select.poll(), b""  # `select.select` does not support descriptors above 1023
    poll.register(pipe, select.POLLIN)
    while len(answer) < _MAX_ANSWER_BYTES:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return answer, False
        if not (chunk := os.read(pipe.fileno(), _MAX_ANSWER_BYTES)):
            break
        answer += chunk
    return answer, True


def _status(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
