"""MATH (Hendrycks et al., arXiv 2103.03874): competition problems; the outcome is the final expression."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.prompts import prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSTRUCTION = "Solve the problem step by step. Put the final answer in \\boxed{}."
SECONDS = 10.0  # for two answers; math-verify itself stops each of its steps after 5 where Python can be interrupted


def boxed(text: str) -> str | None:
    """What the last `\\boxed{...}` of a text holds, a full stop at its end aside; `None` if there is none or it is not
    closed."""
    start = text.rfind("\\boxed{")
    depth = 0
    for i in range(start + len("\\boxed"), len(text)) if start >= 0 else ():
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return re.sub(r"(?<!\.)\.$", "", text[start + len("\\boxed{") : i].strip()).rstrip()
    return None


class MathComparer:
    """Whether two answers' texts mean the same expression, by math-verify in a process of its own.

    math-verify interrupts itself with alarms, which work in the main thread only and cannot stop an expression such as
    `9^{9^{9^9}}` that Python computes in one step; a process can be killed. It is started when first needed, and anew
    after it was killed. May be called from several threads, one at a time.

    Args:
        seconds (`float`, *optional*, defaults to `10.0`): After this time two answers count as different.
    """

    def __init__(self, seconds: float = SECONDS):
        self.seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __reduce__(self) -> tuple[type[MathComparer], tuple[float]]:
        return MathComparer, (self.seconds,)  # elsewhere it starts a process of its own

    def same(self, one: str, other: str) -> bool:
        """Whether `other` means the same as the reference `one`; two texts without an expression do.

        Raises:
            RuntimeError: If math-verify does not start.
        """
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None and process.stdout is not None
            poll = select.poll()
            poll.register(process.stdout, select.POLLIN)
            try:
                process.stdin.write(json.dumps([one, other]) + "\n")
                process.stdin.flush()
                in_time = poll.poll(self.seconds * 1000)
                reply = process.stdout.readline() if in_time else ""
            except BrokenPipeError:
                reply = ""
            except BaseException:  # such as Ctrl-C: the next answer would be to this question
                self._stop()
                raise
            if not reply:  # too slow, or out of memory
                self._stop()
            return reply == "true\n"

    def _start(self) -> subprocess.Popen[str]:
        worker = [sys.executable, str(Path(__file__).with_name("math_worker.py"))]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(worker, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self._stop()
            raise RuntimeError(f"math-verify does not start; try {sys.executable} -c 'import math_verify'.")
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def prompt(row: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The problem, through the tokenizer's chat template where it has one."""
    text = f"{row['problem']}\n\n{INSTRUCTION}"
    return prompt_ids(tokenizer, text, f"Problem: {text}\nSolution:")


def math_task(data: str = "DigitalLearningGmbH/MATH-lighteval", max_new_tokens: int = 1024) -> Task:
    """The MATH task. Answers are the same if math-verify says that their final expressions are (1/2 and 0.5, say), and
    different if it cannot tell within 10 seconds. The final expression is what the last `\\boxed{}` holds, else what
    math-verify finds at the end.

    Args:
        data (`str`, *optional*, defaults to `"DigitalLearningGmbH/MATH-lighteval"`): A data set of the Hub with the
            splits `train` (7,500) and `test` (5,000), or a local file with the columns `problem` and `solution`, which
            then serves every split asked for.
        max_new_tokens (`int`, *optional*, defaults to `1024`): Length limit of an answer, in tokens.

    Raises:
        ImportError: If math-verify is not installed.
    """
    if find_spec("math_verify") is None:
        raise ImportError("The task math needs math-verify: pip install 'hf_autojudge[eval]'.")
    comparer = MathComparer()

    def load(split: str, limit: int | None) -> list[Sample]:
        return load_samples(data, split, limit, columns=("problem", "solution"))

    def same_outcome(_row: Sample, one: str, other: str) -> bool:
        first, second = boxed(one), boxed(other)
        if one == other or (first is not None and first == second):
            return True
        if first is not None and second is not None:  # shorter to parse
            one, other = f"\\boxed{{{first}}}", f"\\boxed{{{second}}}"
        return comparer.same(one, other)

    def correct(row: Sample, answer: str) -> bool:
        return same_outcome(row, row["solution"], answer)

    return Task("math", prompt, same_outcome, load, max_new_tokens, correct=correct)
