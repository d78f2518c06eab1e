"""Compares mathematical answers with math-verify, for `competition_math.py`, in a process that can be killed.

A script. It writes `ready`, then reads lines of JSON, each a reference and an answer, and writes `true` or `false` for
each.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from importlib import import_module


def main() -> None:
    del sys.path[0]  # this folder: its modules must not hide others of the same name
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # warnings of the parsers must not mix with the answers
    math_verify = import_module("math_verify")  # imported by name because it has no type hints

    if sys.platform == "linux":  # elsewhere this limit does not restrict the memory in use
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        try:
            reference, answer = (math_verify.parse(text) for text in json.loads(line))
            # An answer that cannot be parsed has no outcome. `verify` is not symmetric: the reference comes first.
            same = math_verify.verify(reference, answer) if reference and answer else not reference and not answer
        except (MemoryError, RecursionError):
            same = False
        print(json.dumps(bool(same)), file=answers, flush=True)


if __name__ == "__main__":
    main()
