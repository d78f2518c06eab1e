"""Rules by their names, for command lines and configuration files."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hf_autojudge.judges.base import Judge
from hf_autojudge.judges.pair_rules import DivergenceRule, KLRule, RegretBudgetRule, RollbackRule
from hf_autojudge.judges.rules import (
    CleanRunRule,
    ExactMatchRule,
    MarginRule,
    RatioRule,
    RelaxedTopNRule,
    Rule,
    TopKRule,
    TypicalRule,
)
from hf_autojudge.judges.sampling_rules import (
    BlockVerification,
    CascadeRule,
    EnsembleRule,
    LenienceRule,
    ThresholdsRule,
)

RULES: dict[str, type[Rule]] = {
    "exact": ExactMatchRule,
    "topk": TopKRule,
    "kl": KLRule,
    "ratio": RatioRule,
    "typical": TypicalRule,
    "margin": MarginRule,
    "topn": RelaxedTopNRule,
    "divergence": DivergenceRule,
    "cleanrun": CleanRunRule,
    "rollback": RollbackRule,
    "regret": RegretBudgetRule,
    "thresholds": ThresholdsRule,
    "lenience": LenienceRule,
    "ensemble": EnsembleRule,
    "cascade": CascadeRule,
    "block": BlockVerification,
}


def parse_rule(text: str) -> Judge:
    """Make a rule from its name and its arguments, in order or by name: `topk:4`, `kl:0.5`, `typical`,
    `typical:0.09,delta=0.3`, `cascade:0.2,deferral=opt`.

    Raises:
        ValueError: If there is no such rule, it has no such argument, or a value is wrong.
    """
    name, _, values = text.partition(":")
    if name not in RULES:
        raise ValueError(f"{text!r} names no rule; the names are {', '.join(RULES)}, as in topk:4 or kl:0.5.")
    rule = RULES[name]
    names = [field.name for field in fields(rule)]  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for place, value in enumerate(values.split(",") if values else []):
        key, _, right = value.rpartition("=")
        key = key or (names[place] if place < len(names) else str(place + 1))
        if key not in names or key in given:
            raise ValueError(f"{text!r}: {rule.__name__} takes {', '.join(names) or 'no arguments'}, each once.")
        given[key] = _value(right)
    try:
        return rule(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{text!r}: {error}") from error


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
