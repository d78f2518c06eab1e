"""A folder in which the documentation's code runs: `org/target` and `org/draft` are the embedded pair, `org/judge` and
`judge` a judge of theirs, and nothing reaches the Hub.

transformers looks for a folder before it looks on the Hub, so the names in the documentation need no replacing. What
is replaced: GSM8K by the pair's own word problems, and their long splits by 20 samples for labelling and 2 each for
calibration and evaluation, so that `--max-samples 500` takes seconds.
"""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi

import hf_autojudge.tasks
from hf_autojudge.demo import problems
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.labeling import LabelStore
from tests.docs.snippets import ROOT, run_command

SAMPLES = {"train": 20, "validation": 2, "test": 2}
CHAT_TEMPLATE = "{% for message in messages %}Question: {{ message['content'] }}\nAnswer:\n{% endfor %}"
THRESHOLD = 0.05  # a few samples support none


def few_problems(make):
    def make_problems(split, n, *args, **kwargs):
        return make(split, min(n, SAMPLES[split]), *args, **kwargs)

    return make_problems


def replace_what_is_large(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(problems, "make_problems", few_problems(problems.make_problems))
    patch.setattr(hf_autojudge.tasks, "gsm8k_task", lambda *args, **kwargs: word_problems_task())
    patch.setattr(HfApi, "create_repo", lambda self, repo_id, **kwargs: SimpleNamespace(repo_id=repo_id))
    patch.setattr(HfApi, "upload_folder", lambda self, **kwargs: SimpleNamespace(commit_url="a commit"))


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """The folder that holds `org` and `judge`."""
    folder = tmp_path_factory.mktemp("hub")
    target, draft, tokenizer = load_pair(dtype=torch.float32)
    tokenizer.chat_template = CHAT_TEMPLATE
    for name, model in (("target", target), ("draft", draft)):
        model.save_pretrained(folder / "org" / name)
        tokenizer.save_pretrained(folder / "org" / name)
    models = ["--target-model-name-or-path", "org/target", "--draft-model-name-or-path", "org/draft"]
    with pytest.MonkeyPatch.context() as patch:
        replace_what_is_large(patch)
        patch.chdir(folder)
        run_command(["hf-autojudge", "label", *models, "--output-dir", "judge"], "the judge's labels")
        run_command(["hf-autojudge", "fit", "--output-dir", "judge", "--num-assistant-tokens", "8"], "the judge")
        judge = hf_autojudge.AutoJudgeHead.from_pretrained("judge")
        judge.config.threshold = THRESHOLD
        judge.save_pretrained("judge")
        shutil.copytree("judge", "org/judge", ignore=shutil.ignore_patterns("labels"))
        torch.save(authors_records(LabelStore("judge/labels")), "important_tokens.pt")
    return folder


def authors_records(store: LabelStore) -> list[dict]:
    """The first labels, as the AutoJudge authors' scripts save them."""
    return [
        {
            "id": index,
            "current_response": torch.tensor([labels.prompt + labels.response]),
            "changed_token_indices": [
                (len(labels.prompt) + m.position, m.important, m.target_token, m.draft_token)
                for m in labels.mismatches
            ],
        }
        for index, labels in enumerate(store.labelled()[:3])
    ]


@pytest.fixture
def folder(hub, tmp_path, monkeypatch) -> Path:
    """The current folder while a page's code runs: with `org`, a file of labels from elsewhere, and `hub_cards`."""
    shutil.copytree(hub / "org", tmp_path / "org")
    shutil.copy(hub / "important_tokens.pt", tmp_path)
    (tmp_path / "hub_cards").symlink_to(ROOT / "hub_cards")
    replace_what_is_large(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path
