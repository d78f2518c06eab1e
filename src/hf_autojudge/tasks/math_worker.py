"""Compares mathematical answers with math-verify, for `math_problems.py`, in a process that can be killed.

A script: writes `ready`, then reads lines of JSON, two answers each, and writes `true` or `false` for each.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from importlib import import_module


def main() -> None:
    del sys.path[0]  # this folder, whose modules are no one's business here
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # parsers print warnings
    math_verify = import_module("math_verify")  # by name, as it has no types

    if sys.platform == "linux":  # the limit that others have is not one on memory in use
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        try:
            one, other = (math_verify.parse(text) for text in json.loads(line))
            # An answer that cannot be parsed has no outcome. The first is the reference: `verify` is not symmetric.
            same = math_verify.verify(one, other) if one and other else not one and not other
        except (MemoryError, RecursionError):
            same = False
        print(json.dumps(bool(same)), file=answers, flush=True)


if __name__ == "__main__":
    main()
