"""MATH (Hendrycks et al., arXiv 2103.03874): competition problems. The outcome is the final expression."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import threading
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.prompts import prompt_ids

INSTRUCTION = "Solve the problem step by step. Put the final answer in \\boxed{}."


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{...}` in a text, without a final full stop. `None` without a closed one."""
    start = text.rfind("\\boxed{")
    depth = 0
    for i in range(start + len("\\boxed"), len(text)) if start >= 0 else ():
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return re.sub(r"(?<!\.)\.$", "", text[start + len("\\boxed{") : i].strip()).rstrip()
    return None


class MathComparer:
    """Compares the expressions of two answers with math-verify, in a separate process.

    math-verify interrupts itself with alarms, which work only in the main thread and cannot stop an expression such as
    `9^{9^{9^9}}` that Python computes in one step. A process can be killed. It starts with the first comparison, and
    again with the first one after it was killed. Safe to call from several threads; comparisons run one at a time.

    Args:
        seconds (`float`, *optional*, defaults to `10.0`): Time after which two answers count as different.
    """

    def __init__(self, seconds: float = 10.0):  # math-verify stops each of its steps after 5 s where Python allows it
        self.seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __reduce__(self) -> tuple[type[MathComparer], tuple[float]]:
        return MathComparer, (self.seconds,)  # a copy on another machine starts its own process

    def same(self, reference: str, answer: str) -> bool:
        """Whether an answer's expression equals the reference's. Two answers without an expression count as the same.

        Raises:
            RuntimeError: If math-verify does not start.
        """
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None and process.stdout is not None
            poll = select.poll()
            poll.register(process.stdout, select.POLLIN)
            try:
                process.stdin.write(json.dumps([reference, answer]) + "\n")
                process.stdin.flush()
                in_time = poll.poll(self.seconds * 1000)
                reply = process.stdout.readline() if in_time else ""
            except BrokenPipeError:
                reply = ""
            except BaseException:  # such as Ctrl-C: the next reply would belong to this comparison
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


def prompt(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of the problem and the instruction."""
    text = f"{sample['problem']}\n\n{INSTRUCTION}"
    return prompt_ids(tokenizer, text, f"Problem: {text}\nSolution:")


def math_task(dataset: str = "DigitalLearningGmbH/MATH-lighteval", max_new_tokens: int = 1024) -> Task:
    """The MATH task. Two answers have the same outcome if math-verify finds their final expressions equal, such as 1/2
    and 0.5, within 10 seconds. The final expression is the content of the last `\\boxed{}`, else what math-verify
    finds at the end.

    Args:
        dataset (`str`, *optional*, defaults to `"DigitalLearningGmbH/MATH-lighteval"`): A data set on the Hub with the
            splits `train` (7,500) and `test` (5,000), or a local file with the columns `problem` and `solution`, which
            is used for whichever split is requested.
        max_new_tokens (`int`, *optional*, defaults to `1024`): Maximum length of an answer, in tokens.

    Raises:
        ImportError: If math-verify is not installed.
    """
    if find_spec("math_verify") is None:
        raise ImportError("The task math needs math-verify: pip install 'hf_autojudge[math]'.")
    comparer = MathComparer()
    load = partial(load_samples, dataset, columns=("problem", "solution"))

    def same_outcome(_sample: Sample, reference: str, answer: str) -> bool:
        first, second = boxed(reference), boxed(answer)
        if reference == answer or (first is not None and first == second):
            return True
        if first is not None and second is not None:  # shorter to parse
            reference, answer = f"\\boxed{{{first}}}", f"\\boxed{{{second}}}"
        return comparer.same(reference, answer)

    def correct(sample: Sample, answer: str) -> bool:
        return same_outcome(sample, sample["solution"], answer)

    return Task("math", prompt, same_outcome, load, max_new_tokens, correct=correct)
