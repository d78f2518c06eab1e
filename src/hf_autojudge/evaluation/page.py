"""An HTML page that shows a judged answer beside the target's own, its tokens colored by where they come from."""

from __future__ import annotations

import html
import os
from pathlib import Path

from hf_autojudge.evaluation.trace import AnswerTrace, TokenTrace
from hf_autojudge.provenance import replacing

LEGEND = {
    "match": "both models chose it",
    "accepted": "the draft's token, a mismatch that the judge accepted",
    "corrected": "the target's token, in place of a rejected draft token",
    "bonus": "the target's next token, after all candidates of the round",
}

TEMPLATE = Path(__file__).with_name("page_template.html")  # for `str.format`


def answer_page(
    question: str, exact: AnswerTrace, judged: AnswerTrace, path: str | os.PathLike, title: str = "One answer, judged"
) -> None:
    """Write the page: one file without external assets, for light and dark screens. All arguments are HTML-escaped.

    Hovering over an accepted or corrected token shows the other model's choice and, with a trained head, the
    importance. The foot of the page says that the outcome of a task does not see names, wording and style.

    Args:
        question (`str`): Shown above the answers.
        exact ([`AnswerTrace`]): With [`ExactMatchRule`], hence the target's own greedy answer.
        judged ([`AnswerTrace`]): With the judge.
        path (`str` or `os.PathLike`): The `.html` file; written atomically.
        title (`str`, *optional*): Heading.
    """
    sides = [_side("The target's own answer (greedy, threshold 0)", exact), _side("With the judge", judged)]
    page = TEMPLATE.read_text(encoding="utf-8").format(
        title=html.escape(title),
        question=html.escape(question),
        sides="\n".join(sides),
        legend="".join(f'<li><span class="{label}">token</span> {text}</li>' for label, text in LEGEND.items()),
    )
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8")


def _side(heading: str, trace: AnswerTrace) -> str:
    stats = trace.stats
    figures = {
        "accepted per target call": f"{stats.accepted_per_target_call:.2f}",
        "new tokens": str(stats.new_tokens),
        "target calls": str(stats.target_calls),
        "mismatches accepted": str(stats.accepted_by_judge),
    }
    rows = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in figures.items())
    text = "".join(map(_span, trace.tokens))
    return f'<section><h2>{heading}</h2><table>{rows}</table><div class="text">{text}</div></section>'


def _span(piece: TokenTrace) -> str:
    text = html.escape(piece.text)
    if piece.label == "match" or not text:
        return text
    if piece.other is None:
        return f'<span class="{piece.label}">{text}</span>'
    other_model = "target" if piece.label == "accepted" else "draft"
    hint = f"the {other_model} chose {piece.other!r}"
    if piece.importance is not None:
        hint += f", importance {piece.importance:.3f}"
    return f'<span class="{piece.label}" title="{html.escape(hint)}">{text}</span>'
