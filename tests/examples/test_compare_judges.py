"""The comparison at matched accuracy: settings from validation problems, figures from test problems."""

import json
import sys
from pathlib import Path

import pytest
from examples import compare_judges

PUBLISHED = Path(__file__).parents[2] / "hub_cards" / "embedded-pair"


@pytest.mark.slow
def test_it_compares_what_was_chosen(tmp_path, monkeypatch, capsys):
    limits = ["--validation", "40", "--test", "12", "--max-accuracy-drop", "0.1", "--confidence", "0.8"]
    options = ["--output-dir", str(tmp_path), "--num-timed", "1", "--batch-size", "20", "--threads", "1", *limits]
    only = ["--only", "AutoJudge, threshold", "ratio >=", "top-k"]
    monkeypatch.setattr(sys, "argv", ["compare_judges.py", "--judge", str(PUBLISHED), *options, *only])
    compare_judges.main()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report.keys() == set(only[1:])
    frontier = json.loads((tmp_path / "frontier.json").read_text())
    points = {point["name"]: point for point in frontier["points"]}
    assert "top-k none" not in points and not any(name.startswith("top-k") for name in points)
    (ratio,) = [name for name in points if name.startswith("ratio")]
    assert points[ratio]["n"] == 12
    chosen = [row for row in report["ratio >="]["rows"] if row["upper_bound"] <= 0.1][-1]
    assert ratio == f"ratio >= {chosen['setting']}"
    assert "none" in capsys.readouterr().out  # of top-k
    judged = [point for point in points.values() if point["judge"] == "AutoJudge"]
    assert max(point["accepted"] for point in judged) > 1.3 * points["threshold 0"]["accepted"]
    assert not (tmp_path / "README.md").exists() and (tmp_path / "frontier.png").exists()


def test_unknown_names_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare_judges.py", "--judge", str(PUBLISHED), "--only", "top"])
    with pytest.raises(SystemExit):
        compare_judges.main()
    assert "--only knows AutoJudge, threshold" in capsys.readouterr().err
