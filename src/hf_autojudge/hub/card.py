"""The model card of a judge, filled from its config, its fit, its calibration and its frontier."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from hf_autojudge.evaluation.report import Frontier, Point
from hf_autojudge.evaluation.table import notes
from hf_autojudge.evaluation.threshold_labels import threshold_labels
from hf_autojudge.judges import AutoJudgeConfig
from hf_autojudge.judges.configuration_autojudge import SCALARS, reads_draft
from hf_autojudge.provenance import read_json, replacing

PLOT = "frontier.png"
EMBEDDED = "hf_autojudge/embedded-"  # names of the pair that ships with the package, which are not on the Hub
TEMPLATE = Path(__file__).with_name("card_template.md")
COLUMNS = (  # of the frontier's table: the field of `Point`, the title, a factor and a format
    ("accuracy", "accuracy (%)", 100, ".1f"),
    ("accuracy_difference", "difference to {reference}", 100, "+.1f"),
    ("lost_share", "right answers lost (%)", 100, ".1f"),
    ("accepted", "accepted per target call", 1, ".2f"),
    ("accepted_ratio", "accepted, ratio to threshold 0", 1, ".2f"),
    ("tokens_per_second", "tokens/s", 1, ".1f"),
    ("speed_ratio_to_lossless", "tokens/s, ratio to threshold 0", 1, ".2f"),
    ("speed_ratio_to_target", "tokens/s, ratio to the target alone", 1, ".2f"),
)


def write_card(
    folder: str | os.PathLike,
    config: AutoJudgeConfig | None = None,
    *,
    metrics: Mapping[str, Any] | None = None,
    frontier: Frontier | None = None,
    repo_id: str | None = None,
    license_id: str = "apache-2.0",
) -> ModelCard:
    """Write `README.md` into a judge's folder. Sections whose data are neither given nor in the folder are left out.
    The accuracy limit and its confidence come from the folder's `calibration.json`.

    Args:
        folder (`str` or `os.PathLike`): Where the judge is saved. If it holds `frontier.png`, the card shows it.
        config ([`AutoJudgeConfig`], *optional*): Of the judge; the folder's by default.
        metrics (`Mapping[str, Any]`, *optional*): `FitResult.metrics()`: `auc`, `c`, `n_train`, `n_validation`,
            `share_important`; and `labels`, the settings of the [`LabelStore`]. The folder's `fit.json` by default.
        frontier ([`Frontier`], *optional*): Measured points; the folder's `frontier.json` by default.
        repo_id (`str`, *optional*): The judge's name on the Hub, for the usage code; the folder's name by default.
        license_id (`str`, *optional*, defaults to `"apache-2.0"`): A license identifier of the Hub.

    Returns:
        [`ModelCard`], which can be pushed with its `push_to_hub`.
    """
    folder = Path(folder)
    if config is None:
        config = AutoJudgeConfig.from_pretrained(folder)
    if metrics is None:
        metrics = read_json(folder / "fit.json") if (folder / "fit.json").exists() else {}
    if frontier is None and (folder / "frontier.json").exists():
        frontier = Frontier.from_json(folder / "frontier.json")
    calibration = read_json(folder / "calibration.json") if (folder / "calibration.json").exists() else {}
    # A local path means nothing on another machine, and the Hub refuses it in the front matter
    embedded = (config.target or "").startswith(EMBEDDED)
    named = [n for n in (config.target, config.draft) if n is not None and not _is_path(n) and not embedded]
    data = ModelCardData(
        license=license_id,
        library_name="hf_autojudge",
        pipeline_tag="text-generation",
        tags=["autojudge", "judge-decoding", "speculative-decoding", "assisted-generation"],
        base_model=named or None,
    )
    head = f"a head with one hidden layer of {config.hidden_size} units" if config.hidden_size else "a logistic head"
    needs_draft = any(map(reads_draft, config.features))
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        repo_id=repo_id or folder.resolve().name,
        head=head,
        reads=_reads(config),
        needs_draft=needs_draft,
        models="this pair of models" if config.draft or needs_draft else "this target",
        target=config.target if config.target in named else "path/to/target",
        draft=config.draft if config.draft in named else "path/to/draft",
        embedded=embedded,
        facts=_facts_table(config),
        labels=metrics.get("labels", {}),
        fit=_fit_table(metrics),
        thresholds=_thresholds_table(config.thresholds),
        calibration=_calibration_section(calibration),
        frontier=_frontier_section(frontier, (folder / PLOT).exists()),
    )
    with replacing(folder / "README.md") as beside:
        card.save(beside)
    return card


def _is_path(name: str) -> bool:
    return name.count("/") > 1 or name.startswith((".", "~", "/")) or Path(name).exists()


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; vertical bars in cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _facts_table(config: AutoJudgeConfig) -> str:
    def model(name: str | None, revision: str | None) -> str | None:
        if name is None:
            return None
        return f"`{Path(name).name if _is_path(name) else name}`" + (f" at `{revision}`" if revision else "")

    parameters = f"{config.input_size} weight{'s' * (config.input_size != 1)} and a bias"
    if config.hidden_size:
        parameters = (
            f"{config.hidden_size * (config.input_size + 2) + 1}: a hidden layer of {config.hidden_size} units"
        )

    facts = {
        "Target": model(config.target, config.target_revision),
        "Draft": model(config.draft, config.draft_revision),
        "Task of the labels": config.task,
        "Reads": ", ".join(f"`{f}`" for f in config.features),
        "Parameters": f"{parameters}, on standardized features",
        "Candidate tokens per round": config.num_candidate_tokens,
        "Default threshold": _label(config.threshold, config.thresholds),
        "Made with": ", ".join(f"{name} {version}" for name, version in config.versions.items()) or None,
    }
    return markdown_table(("", ""), [(name, value) for name, value in facts.items() if value is not None])


def _reads(config: AutoJudgeConfig) -> str:
    hidden = [f for f in config.features if f not in SCALARS]
    models = [role for role in ("target", "draft") if any(f.endswith(f".{role}") for f in hidden)]
    parts = [f"hidden states of the {' and the '.join(models)}"] if models else []
    if len(hidden) < len(config.features):
        parts.append("figures of the next-token distributions")
    return " and ".join(parts)


def _fit_table(metrics: Mapping[str, Any]) -> str:
    names = {
        "n_train": ("Labels fitted on", "{}"),
        "n_validation": ("Labels kept for validation (of other prompts)", "{}"),
        "share_important": ("Share that is important", "{:.1%}"),
        "auc": ("Validation ROC-AUC", "{:.3f}"),
        "log_loss": ("Validation log-loss (nats)", "{:.3f}"),
        "brier_score": ("Validation Brier score", "{:.4f}"),
        "c": ("C (inverse L2 penalty)", "{:.3g}"),
    }
    rows = [(name, form.format(metrics[key])) for key, (name, form) in names.items() if metrics.get(key) is not None]
    return markdown_table(("", ""), rows) if rows else ""


def _thresholds_table(rows: Sequence[Mapping[str, float]]) -> str:
    labels = threshold_labels([row["threshold"] for row in rows])
    cells = [
        (label, f"{row['recall']:.1%}", f"{row['accepted']:.1%}") for label, row in zip(labels, rows, strict=True)
    ]
    return markdown_table(("threshold", "important rejected", "all accepted"), cells) if rows else ""


def _calibration_section(calibration: Mapping[str, Any]) -> str:
    """From `calibration.json`: a `ThresholdChoice` and the settings it was measured with."""
    parts = []
    limit, confidence = calibration.get("max_accuracy_drop"), calibration.get("confidence")
    if limit is not None and confidence is not None:
        points = "1 point" if limit == 0.01 else f"{100 * limit:.3g} points"
        parts.append(
            f"Calibration on validation samples allowed a loss of at most {points} of task accuracy against "
            f"threshold 0, with {100 * confidence:.3g}% confidence."
        )
    if calibration.get("reason"):
        parts.append(calibration["reason"])
    text = " ".join(parts)
    if rows := calibration.get("rows"):
        cells = [
            (label, *(f"{100 * row[key]:.2f}" for key in ("accuracy_drop", "upper_bound")))
            for label, row in zip(threshold_labels([row["threshold"] for row in rows]), rows, strict=True)
        ]
        header = ("threshold", "points lost", "upper bound")
        text += "\n\n" + markdown_table(header, cells)
    return text.strip()


def _frontier_section(frontier: Frontier | None, has_plot: bool) -> str:
    parts = [f"![Accuracy against accepted tokens per target call and against tokens/s]({PLOT})"] if has_plot else []
    if frontier is not None:
        s = frontier.settings
        parts.append(
            f"{s['task']}, {s['n']} questions, greedy, {s['num_assistant_tokens']} candidate tokens per round, at "
            f"most {s['max_new_tokens']} new tokens, {s['dtype']} on {s['device_name']}. "
            "95% bootstrap intervals over questions."
        )
        # A column that no point has, for instance a ratio to baselines that were not run, is left out
        columns = [c for c in COLUMNS if any(getattr(point, c[0]) is not None for point in frontier.points)]
        header = ["strategy", *(title.format(**s) for _, title, _, _ in columns)]
        rows = [[point.name, *(_cell(point, *column) for column in columns)] for point in frontier.points]
        parts.append(markdown_table(header, rows))
        if remarks := [f"- {p.name}: {', '.join(found)}" for p in frontier.points if (found := notes(frontier, p))]:
            parts.append("\n".join(remarks))
    return "\n\n".join(parts)


def _label(threshold: float, rows: Sequence[Mapping[str, float]]) -> str:
    """The threshold as the table shows it."""
    shown = [row["threshold"] for row in rows]
    return threshold_labels([*shown, threshold])[-1]


def _cell(point: Point, name: str, _title: str, factor: float, form: str) -> str:
    """A figure of a point, of [`COLUMNS`], and its interval; a dash if it does not apply."""
    value, interval = getattr(point, name), getattr(point, f"{name}_interval")
    if value is None or interval is None:
        return "–"
    return f"{factor * value:{form}} ({factor * interval[0]:{form}} to {factor * interval[1]:{form}})"
