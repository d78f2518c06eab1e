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
        "2504.20039",
        "## Limits",
    ):
        assert piece in card.content, piece


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
