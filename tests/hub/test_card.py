from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from hf_autojudge import AutoJudgeConfig
from hf_autojudge.evaluation.report import Frontier, Point
from hf_autojudge.hub import write_card
from hf_autojudge.provenance import write_json

METRICS = {"auc": 0.812, "c": 1e-3, "n_train": 900, "n_validation": 100, "share_important": 0.189, "grid": []}
TABLE = [{"threshold": 0.1, "recall": 0.9, "accepted": 0.4}, {"threshold": 0.2, "recall": 0.8, "accepted": 0.6}]


def make_config(**fields):
    given = {"target": "org/large", "draft": "org/small", "target_hidden_size": 8, "draft_hidden_size": 4}
    return AutoJudgeConfig(**given | {"num_candidate_tokens": 4, "task": "gsm8k", "thresholds": TABLE} | fields)


@pytest.fixture
def measured():
    pair = (0.8, 0.9)
    point = Point(
        "head, threshold 0.1", "head", 0.1, 10, 0.85, 4.5, 30, 90, 1, 0, -0.01, 1.5, pair, pair, pair, pair, pair
    )
    settings = {"task": "gsm8k", "n": 10, "num_assistant_tokens": 4, "max_new_tokens": 64, "dtype": "float32"}
    return Frontier([point], {}, settings | {"device_name": "a machine", "reference": "plain greedy"})


def test_front_matter_and_figures(tmp_path, measured):
    (tmp_path / "frontier.png").write_bytes(b"")
    write_card(tmp_path, make_config(), metrics=METRICS, frontier=measured, repo_id="me/judge")
    card = ModelCard.load(tmp_path / "README.md")
    data = card.data.to_dict()
    assert data["library_name"] == "hf_autojudge" and data["license"] == "apache-2.0"
    assert data["pipeline_tag"] == "text-generation" and data["base_model"] == ["org/large", "org/small"]
    for piece in (
        'AutoJudgeHead.from_pretrained("me/judge")',
        "judge=judge",
        "| Validation ROC-AUC | 0.812 |",
        "| 0.1 | 90.0% | 40.0% |",
        "| head, threshold 0.1 | 85.0 (80.0 to 90.0) |",
        "](frontier.png)",
        "## Limits",
    ):
        assert piece in card.content, piece


def columns_of(card):
    """The frontier's table: each title with the cells below it."""
    lines = [line for line in card.content.splitlines() if line.startswith(("| strategy", "| head"))]
    return dict(zip(*([cell.strip() for cell in line.split("|")[1:-1]] for line in lines), strict=True))


def test_shows_only_figures_that_were_measured(tmp_path, measured):
    table = columns_of(write_card(tmp_path, make_config(), frontier=measured))
    assert table["accepted, ratio to threshold 0"] == "1.50 (0.80 to 0.90)"
    assert not any("lost" in title or "target alone" in title or title.startswith("tokens/s,") for title in table)
    fields = {"speed_ratio_to_target": 1.25, "speed_ratio_to_lossless": 1.1, "lost_share": 0.02}
    intervals = {f"{name}_interval": (0.01, 2.0) for name in fields}
    point = replace(measured.points[0], **fields, **intervals)
    table = columns_of(write_card(tmp_path, make_config(), frontier=replace(measured, points=[point])))
    assert table["tokens/s, ratio to the target alone"] == "1.25 (0.01 to 2.00)"
    assert table["tokens/s, ratio to threshold 0"] == "1.10 (0.01 to 2.00)"
    assert table["right answers lost (%)"] == "2.0 (1.0 to 200.0)"


def test_notes_stand_under_the_table(tmp_path, measured):
    assert "- head, threshold 0.1:" not in write_card(tmp_path, make_config(), frontier=measured).content
    other = replace(measured, settings=measured.settings | {"n": 12, "judge_tasks": {"head": "sums"}})
    lines = write_card(tmp_path, make_config(), frontier=other).content.splitlines()
    assert "- head, threshold 0.1: made for sums, 10 questions" in lines
    assert lines.index("- head, threshold 0.1: made for sums, 10 questions") > lines.index("## Measured")


def test_reads_the_folder(tmp_path, measured):
    make_config().save_pretrained(tmp_path)
    write_json(tmp_path / "fit.json", METRICS)
    measured.to_json(tmp_path / "frontier.json")
    text = write_card(tmp_path).content
    assert "0.812" in text and "head, threshold 0.1" in text and "](frontier.png)" not in text


def test_leaves_out_missing_data_and_shows_no_paths(tmp_path):
    text = write_card(tmp_path, make_config(target=str(tmp_path / "models/t"), draft=None, thresholds=None)).content
    assert str(tmp_path) not in text
    assert "base_model" not in text
    for heading in ("## Fit", "## Thresholds", "## Measured"):
        assert heading not in text
    assert ModelCard(text).data.library_name == "hf_autojudge"


LABELS = {
    "autojudge": {"method": "autojudge", "rollouts": 0},
    "correct": {"method": "autojudge", "outcome": "correct", "rollouts": 0},
    "rollouts": {"method": "autojudge", "rollouts": 4, "temperature": 0.7, "samples": 9},
    "selfjudge": {"method": "selfjudge", "max_log_likelihood_drop": 2.5, "num_suffix_tokens": 12},
    "annotated": {"method": "annotated", "answers": "0123456789abcdef"},
    "imported": {"method": "imported"},
    "unknown": None,
}
NAMES = "a name, the wording or the style"
COMPARED = "compare the outcome"
SAYS = {
    "autojudge": ["mined without annotators", "2504.20039", COMPARED, NAMES],
    "correct": [
        "mined without annotators",
        "2504.20039",
        "If a right answer becomes wrong, the mismatch is important.",
        "A mistake in an answer that the target gets wrong anyway",
        NAMES,
    ],
    "rollouts": [
        "mined without annotators",
        "2504.20039",
        COMPARED,
        "4 additional completions",
        "temperature 0.7",
        NAMES,
    ],
    "selfjudge": [
        "2510.02329",
        "the 12 tokens after it",
        "more than 2.5 nats",
        "how likely the target finds the text",
    ],
    "annotated": ["2501.19309", "marked mistakes"],
    "imported": ["mined by the AutoJudge authors' scripts", "2504.20039", COMPARED, NAMES],
    "unknown": ["does not record how the labels were made"],
}


@pytest.mark.parametrize("which", LABELS)
def test_says_how_the_labels_were_made(tmp_path, which):
    labels = LABELS[which] and {"target": str(tmp_path / "models/t"), "draft": "org/small"} | LABELS[which]
    metrics = METRICS | ({"labels": labels} if labels else {})
    text = " ".join(write_card(tmp_path, make_config(), metrics=metrics).content.split())
    for piece in SAYS[which]:
        assert piece in text, piece
    for other in {piece for pieces in SAYS.values() for piece in pieces} - set(SAYS[which]):
        assert other not in text, other
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("fields", "pieces"),
    [
        (
            {},
            ["a logistic head", "hidden states of the target and the draft,", "12 weights and a bias", "this pair of"],
        ),
        (
            {"hidden_size": 5, "features": ["draft_token.target", "scalar.kl"]},
            [
                "one hidden layer of 5 units",
                "states of the target and figures of the next-token",
                "| 56: a hidden layer",
            ],
        ),
        (
            {"features": ["scalar.entropy"], "draft": None},
            [
                "a logistic head that reads figures of the next",
                "1 weight and a bias",
                "this target only",
                "Another target n",
            ],
        ),
    ],
)
def test_says_what_the_head_is(tmp_path, fields, pieces):
    text = " ".join(write_card(tmp_path, make_config(**fields), metrics={}).content.split())
    for piece in pieces:
        assert piece in text, piece
    assert ("logistic" in text) != ("hidden_size" in fields)


CALIBRATION = {
    "threshold": 0.1,
    "reason": "Threshold 0.1: measured drop 0.50 points.",
    "rows": [{"threshold": 0.1, "accuracy_drop": 0.005, "upper_bound": 0.0096}],
    "settings": {"target": "/home/me/target"},
}


@pytest.mark.parametrize("limit", [None, 0.01, 0.025])
def test_shows_the_accuracy_limit(tmp_path, limit):
    fields = {} if limit is None else {"max_accuracy_drop": limit, "confidence": 0.95}
    write_json(tmp_path / "calibration.json", CALIBRATION | fields)
    text = " ".join(write_card(tmp_path, make_config(thresholds=None)).content.split())
    assert "measured drop 0.50 points" in text and "| 0.1 | 0.50 | 0.96 |" in text and "/home/me" not in text
    points = {0.01: "at most 1 point of", 0.025: "at most 2.5 points of"}.get(limit)
    assert ("Calibration on validation samples allowed" in text) == (limit is not None)
    assert points is None or (points in text and "with 95% confidence" in text)
