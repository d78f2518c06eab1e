import os
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.utils import filter_repo_objects

from hf_autojudge import AutoJudgeHead
from hf_autojudge.hub import push_judge, save_judge, write_card

FILES = [
    "README.md",
    "calibration.json",
    "config.json",
    "fit.json",
    "frontier.json",
    "frontier.png",
    "model.safetensors",
]


def head():
    options = {
        "features": ["draft_token.target"],
        "target_hidden_size": 3,
        "target": "org/large",
        "draft": "org/small",
    }
    return AutoJudgeHead.from_linear([1, 2, 3], 0, [0, 0, 0], [1, 1, 1], **options)


@pytest.fixture
def folder(tmp_path):
    """A judge's folder in which everything that must not be uploaded lies too."""
    folder = tmp_path / "judge"
    save_judge(folder, head(), fit={"auc": 0.9}, calibration={"threshold": 0.5})
    write_card(folder, repo_id="org/judge")
    for name in (
        *(
            "frontier.json",
            "frontier.png",
            "trainer_state.json",
            "pytorch_model.bin",
            ".env",
            "frontier.pdf",
            "a.html",
        ),
        *("labels/manifest.json", "labels/config.json", "labels/prompts/00000000.parquet", "features/index.json"),
        *("answers/evaluate-0f/settings.json", "answers/evaluate-0f/answers.jsonl", "answers/README.md"),
        *("runs/events.out.tfevents.1", "checkpoint/model.safetensors", ".judge.tmp/README.md"),
    ):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text("secret")
    return folder


@pytest.fixture
def hub(monkeypatch):
    """The calls that would go to the Hub."""
    calls = {}

    def record(name, answer):
        def method(self, *args, **kwargs):
            calls[name] = (*args, kwargs | {"token": self.token})
            return answer

        monkeypatch.setattr(HfApi, name, method)

    record("create_repo", SimpleNamespace(repo_id="me/judge"))
    record("create_branch", None)
    record("upload_folder", SimpleNamespace(commit_url="https://huggingface.co/me/judge/commit/1"))
    return calls


def uploaded(folder, options):
    """As `HfApi.upload_folder` chooses files."""
    assert options["folder_path"] == folder
    assert not {"ignore_patterns", "delete_patterns", "path_in_repo"} & options.keys()
    everything = [
        os.path.relpath(os.path.join(place, name), folder) for place, _, names in os.walk(folder) for name in names
    ]
    return sorted(filter_repo_objects(everything, allow_patterns=options["allow_patterns"]))


def test_only_the_judge_s_files_are_uploaded(folder, hub):
    url = push_judge(folder, "judge", private=True, token="t", commit_message="Better")
    assert url == "https://huggingface.co/me/judge/commit/1"
    assert hub["create_repo"] == ("judge", {"private": True, "exist_ok": True, "token": "t"})
    (options,) = hub["upload_folder"]
    assert uploaded(folder, options) == FILES
    assert options["repo_id"] == "me/judge" and options["commit_message"] == "Better" and options["token"] == "t"
    assert options["revision"] is None and "create_branch" not in hub


def test_a_branch_is_created(folder, hub):
    push_judge(folder, "me/judge", revision="v2")
    assert hub["create_branch"] == ("me/judge", {"branch": "v2", "exist_ok": True, "token": None})
    assert hub["upload_folder"][0]["revision"] == "v2" and hub["create_repo"][1]["private"] is None


def test_a_card_of_the_user_stays_and_a_missing_one_is_written(folder, hub):
    (folder / "README.md").write_text("mine")
    push_judge(folder, "judge")
    assert (folder / "README.md").read_text() == "mine"
    for name in ("README.md", "frontier.json", "frontier.png"):
        (folder / name).unlink()
    push_judge(folder, "judge")
    assert 'from_pretrained("me/judge")' in ModelCard.load(folder / "README.md").content
    assert uploaded(folder, hub["upload_folder"][0]) == [f for f in FILES if not f.startswith("frontier")]


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", None])
def test_a_folder_without_a_judge_is_refused(folder, hub, missing):
    if missing:
        (folder / missing).unlink()
    with pytest.raises(ValueError, match=f"holds no judge .*{missing or 'model.safetensors'}"):
        push_judge(folder if missing else folder / "labels" / "prompts", "judge")
    assert not hub
