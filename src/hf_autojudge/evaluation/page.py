"""An HTML page that shows a judged answer beside the target's own, its tokens colored by where they come from."""

from __future__ import annotations

import html
import os

from hf_autojudge.evaluation.trace import AnswerTrace, TokenTrace
from hf_autojudge.provenance import replacing

LEGEND = {
    "match": "both models chose it",
    "accepted": "the draft's token, a mismatch that the judge accepted",
    "corrected": "the target's token, in place of a rejected draft token",
    "bonus": "the target's next token, after all candidates of the round",
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --text: #1c1e21; --page: #fff; --panel: #f5f6f8; --line: #d9dce1; --quiet: #5c6470;
  --accepted: #ffd58a; --corrected: #b9d4ff; --bonus: #9aa1ac; }}
@media (prefers-color-scheme: dark) {{ :root {{ --text: #e6e8eb; --page: #15171a; --panel: #1e2125; --line: #363b42;
  --quiet: #a0a7b2; --accepted: #7a5200; --corrected: #1f4a86; --bonus: #7d8590; }} }}
body {{ margin: 2rem auto; padding: 0 1.25rem; max-width: 76rem; color: var(--text); background: var(--page);
  font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.4rem; margin: 0 0 1rem; }}
h2 {{ font-size: 1rem; margin: 0 0 .5rem; }}
.text {{ white-space: pre-wrap; overflow-wrap: anywhere; font: 14px/1.75 ui-monospace, Menlo, Consolas, monospace; }}
.question {{ margin: 0 0 1rem; color: var(--quiet); }}
.sides {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; align-items: start; }}
section {{ background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; }}
table {{ border-collapse: collapse; margin: 0 0 1rem; }}
td {{ padding: .1rem 1.5rem .1rem 0; }}
td + td {{ text-align: right; font-variant-numeric: tabular-nums; font-weight: 600; }}
.legend {{ display: flex; flex-wrap: wrap; gap: .4rem 1.5rem; margin: 1rem 0; padding: 0; list-style: none;
  font-size: .875rem; color: var(--quiet); }}
.legend span {{ color: var(--text); padding: 0 .3rem; }}
.accepted, .corrected {{ border-radius: 3px; cursor: help; }}
.accepted {{ background: var(--accepted); }}
.corrected {{ background: var(--corrected); }}
.bonus {{ border-bottom: 1px dotted var(--bonus); }}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="text question">{question}</p>
<div class="sides">
{sides}
</div>
<ul class="legend">{legend}</ul>
</body>
</html>
"""


def answer_page(
    question: str, exact: AnswerTrace, judged: AnswerTrace, path: str | os.PathLike, title: str = "One answer, judged"
) -> None:
    """Write the page: one file without external assets, for light and dark screens. All arguments are HTML-escaped.

    Hovering over an accepted or corrected token shows the other model's choice and, with a trained head, the
    importance.

    Args:
        question (`str`): Shown above the answers.
        exact ([`AnswerTrace`]): With [`ExactMatchRule`], hence the target's own greedy answer.
        judged ([`AnswerTrace`]): With the judge.
        path (`str` or `os.PathLike`): The `.html` file; written atomically.
        title (`str`, *optional*): Heading.
    """
    sides = [_side("The target's own answer (greedy, threshold 0)", exact), _side("With the judge", judged)]
    page = _PAGE.format(
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
