"""The GPU report's whole path, with small stand-ins on a CPU."""

import importlib
import sys
from pathlib import Path

import pytest

from hf_autojudge.provenance import read_json

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def gpu_report():
    """The script as a module; the examples import each other by name."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module("gpu_report")
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.mark.slow
def test_all_parts(gpu_report, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(EXAMPLES.parent)
    status = gpu_report.main(["--part", "all", "--tiny", "--out", str(tmp_path)])
    output = capsys.readouterr().out
    reports = {part: read_json(tmp_path / f"{part}.json") for part in gpu_report.PARTS}
    errors = {r["setting"]: r["error"] for report in reports.values() for r in report["records"] if "error" in r}
    assert status == 0 and not errors
    assert not any(report["left_out"] for report in reports.values())
    assert all(r["note"].endswith("to the CPU's, plain greedy, the CPU's plain greedy") for r in tokens(reports, "0"))
    assert {r["method"] for r in reports["compile"]["records"]} == {"compiled greedy", "ours, judge, compiled"}
    assert all(r["graphs"] and not r["graph_breaks"] for r in reports["compile"]["records"] if "judge" in r["method"])
    speeds = [r for part in ("speed", "compile", "batch") for r in reports[part]["records"]]
    assert all(r["tokens_per_second"] > 0 and 0 < r["bandwidth_share"] for r in speeds)
    scripted = [r for r in speeds if r["pair"] == "tiny" and r["method"].startswith(("ours", "assisted"))]
    assert {round(r["accepted_per_target_call"], 6) for r in scripted} == {3.0}
    assert {r["method"] for r in reports["label"]["records"]} == {"searches at once: 2", "plain search"}
    assert len(reports["fit"]["records"]) == 3
    assert (tmp_path / "report.png").stat().st_size > 10_000
    table = (tmp_path / "report.md").read_text()
    assert table in output and "0 failed. Left out: nothing." in table
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + sum(len(report["records"]) for report in reports.values())
    assert len({line.count("|") for line in rows}) == 1


def tokens(reports, judge):
    return [r for r in reports["tokens"]["records"] if f"{judge}," in r["method"] and "equal" in r["note"]]


def test_failures_and_omissions_are_recorded(gpu_report, tmp_path, monkeypatch, capsys):
    def fails():
        raise RuntimeError("no kernel")

    def measurements(part, sizes, pairs, bandwidth):
        good = {"setting": "s", "method": "m", "tokens_per_second": 5.0, "round_ms": float("nan")}
        return [("broken", fails), ("good", lambda: [good])]

    monkeypatch.setattr(gpu_report, "measurements_of", measurements)
    monkeypatch.setattr(gpu_report, "copy_bandwidth", lambda device: 1e9)
    assert gpu_report.main(["--part", "speed", "--tiny", "--out", str(tmp_path)]) == 1
    broken, good = read_json(tmp_path / "speed.json")["records"]
    assert broken["error"] == "RuntimeError: no kernel" and "in fails" in broken["traceback"]
    assert good["tokens_per_second"] == 5.0 and good["round_ms"] is None
    assert gpu_report.main(["--part", "fit", "--tiny", "--out", str(tmp_path), "--seconds", "0"]) == 0
    assert read_json(tmp_path / "fit.json")["left_out"] == ["broken", "good"]
    capsys.readouterr()
    assert gpu_report.main(["--part", "report", "--out", str(tmp_path)]) == 1
    table = capsys.readouterr().out
    assert "**FAILED**: RuntimeError: no kernel" in table
    assert "1 failed. Left out: fit: broken; fit: good." in table


def test_without_matplotlib_there_is_no_picture(gpu_report, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(gpu_report, "measurements_of", lambda *_: [("one", lambda: [{"setting": "s"}])])
    monkeypatch.setattr(gpu_report, "copy_bandwidth", lambda device: 1e9)
    assert gpu_report.main(["--part", "tokens", "--tiny", "--out", str(tmp_path)]) == 0
    assert "matplotlib is not installed" in capsys.readouterr().out and not (tmp_path / "report.png").exists()


def test_what_it_refuses(gpu_report, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        gpu_report.main(["--part", "report", "--out", str(tmp_path)])
    assert "run a part first" in capsys.readouterr().err
    monkeypatch.setattr(gpu_report.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu_report.main(["--part", "speed", "--out", str(tmp_path)])
    assert "no CUDA device" in capsys.readouterr().err
