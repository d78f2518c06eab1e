"""The answers of a run: each strategy's to each question, in memory and, so that a killed run resumes, in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_autojudge.evaluation.identity import describe_judge
from hf_autojudge.evaluation.strategies import DecodingStrategy
from hf_autojudge.judges import Judge
from hf_autojudge.provenance import digest, read_json, write_json

Key = tuple[str, float | None, int]


@dataclass(frozen=True)
class Answer:
    """What one strategy answered to one question.

    Attributes:
        judge (`str`), threshold (`float`, *optional*): The strategy's.
        question (`int`): Index of the sample.
        text (`str`): The answer, special tokens left out.
        correct (`int`): 1 for a right outcome.
        new_tokens (`int`): Up to and including the first end token.
        target_calls (`int`): Forward passes of the target, prefill included; 0 for the draft alone.
        capped (`int`): 1 for an answer without an end token.
        histogram (`list[int]`): Number of rounds in which n candidates were emitted, at index n. Empty for baselines
            that do not count them.
        seconds (`float`, *optional*): Wall time of the `generate` call; `None` for an answer in a batch.
    """

    judge: str
    threshold: float | None
    question: int
    text: str
    correct: int
    new_tokens: int
    target_calls: int
    capped: int
    histogram: list[int]
    seconds: float | None


class AnswerStore:
    """Answers by strategy and question; of two answers to the same, the later counts.

    A folder holds `settings.json` and `answers.jsonl`, one line per answer, appended as answers come. A line that a
    killed process left unfinished is skipped, and that question is answered again. One process may write at a time.

    Args:
        folder (`str` or `os.PathLike`, *optional*): Created if it does not exist; `None` keeps answers in memory only.
        settings (`Mapping`): What answers depend on, ready for JSON.
        judges (`Mapping[str, Judge]`): By name. A folder may hold answers of others.
        prompts (`Sequence[Sequence[int]]`): Token ids of each question's prompt.

    Raises:
        ValueError: If the folder holds answers made with other settings, to other prompts, or by another judge of the
            same name.
    """

    def __init__(
        self,
        folder: str | os.PathLike | None,
        settings: Mapping[str, Any],
        judges: Mapping[str, Judge],
        prompts: Sequence[Sequence[int]],
    ) -> None:
        self._answers: dict[Key, Answer] = {}
        self._prompts = [digest(json.dumps(list(prompt)).encode()) for prompt in prompts]
        self._path: Path | None = None
        if folder is not None:
            self._path = Path(folder) / "answers.jsonl"
            self._check_settings(Path(folder) / "settings.json", settings, judges)
            self._read()

    def _check_settings(self, path: Path, settings: Mapping[str, Any], judges: Mapping[str, Judge]) -> None:
        own = {**settings, "judges": {name: describe_judge(judge) for name, judge in judges.items()}}
        stored = {"judges": {}} | (read_json(path) if path.exists() else own)
        differing = {name: (stored.get(name), value) for name, value in settings.items() if stored.get(name) != value}
        for name in stored["judges"].keys() & judges.keys():
            if (was := stored["judges"][name]) != (now := own["judges"][name]):
                differing[f"judge {name!r}"] = (was, now)
        if differing:
            raise ValueError(
                f"{path.parent} holds answers made with other settings: "
                + ", ".join(f"{name} was {was!r} and is now {now!r}" for name, (was, now) in sorted(differing.items()))
                + "; choose another folder, or delete this one."
            )
        write_json(path, own | {"judges": stored["judges"] | own["judges"]})

    def _read(self) -> None:
        assert self._path is not None
        if not self._path.exists():
            return
        lines = self._path.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")
        for prompt, answer in _parsed(lines):
            if answer.question < len(self._prompts) and prompt != self._prompts[answer.question]:
                raise ValueError(
                    f"Question {answer.question} of {self._path.parent} had another prompt; choose another folder, or "
                    "delete this one."
                )
            self._answers[answer.judge, answer.threshold, answer.question] = answer

    def add(self, answers: Sequence[Answer]) -> None:
        """Keep answers."""
        self._answers.update({(a.judge, a.threshold, a.question): a for a in answers})
        if self._path is not None:
            lines = (json.dumps(asdict(a) | {"prompt": self._prompts[a.question]}) + "\n" for a in answers)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(lines))

    def get(self, strategy: DecodingStrategy, question: int, timed: bool = False) -> Answer | None:
        """The answer of a strategy to a question, if there is one and, with `timed`, it was timed."""
        answer = self._answers.get((strategy.judge, strategy.threshold, question))
        return None if answer is None or (timed and answer.seconds is None) else answer

    def of(self, strategy: DecodingStrategy, questions: Iterable[int]) -> list[Answer]:
        """The answers of a strategy to questions, up to the first that it has not answered."""
        found: list[Answer] = []
        for question in questions:
            if (answer := self.get(strategy, question)) is None:
                break
            found.append(answer)
        return found


def read_answers(folder: str | os.PathLike) -> list[Answer]:
    """The answers that a run has kept, for instance to read their texts; of two to the same question, the later.

    Args:
        folder (`str` or `os.PathLike`): The one given to [`measure_frontier`].

    Raises:
        ValueError: If the folder holds no answers.
    """
    path = Path(folder) / "answers.jsonl"
    if not path.exists():
        raise ValueError(f"{folder} holds no answers (no {path.name}); pass it to measure_frontier as `folder` first.")
    answers = (answer for _, answer in _parsed(path.read_bytes().splitlines()))
    return list({(a.judge, a.threshold, a.question): a for a in answers}.values())


def _parsed(lines: Iterable[bytes]) -> Iterator[tuple[str, Answer]]:
    """The digest of each prompt and its answer; lines that a killed process left unfinished are skipped."""
    for line in lines:
        try:
            found = json.loads(line)
            yield found.pop("prompt"), Answer(**found)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
