"""What the arguments of the commands name: models, tasks, rules and judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_autojudge.cli.arguments import DTYPES, EMBEDDED, TASKS, ModelArguments, TaskArguments
from hf_autojudge.judges import AutoJudgeHead, Judge, KLRule, TopKRule
from hf_autojudge.training import JudgeTrainer, JudgeTrainingArguments

if TYPE_CHECKING:
    from hf_autojudge.tasks import Task


def recorded(models: ModelArguments, record: Mapping[str, Any], where: object) -> ModelArguments:
    """Fill in the models that the user did not name from a record with the keys `target`, `draft`, `target_revision`
    and `draft_revision`, such as the settings of labels or the config of a judge. A draft may be missing in both.

    Raises:
        ValueError: If neither names a target.
    """
    target, draft = models.target_model_name_or_path, models.draft_model_name_or_path
    if target is None and not record.get("target"):
        raise ValueError(f"{where} does not name its target; name it with --target-model-name-or-path.")
    if target is None:
        target = _named(record["target"])
        models = replace(models, revision=models.revision or record.get("target_revision"))
    if draft is None and record.get("draft"):
        draft = _named(record["draft"])
        models = replace(models, draft_revision=models.draft_revision or record.get("draft_revision"))
    return replace(models, target_model_name_or_path=target, draft_model_name_or_path=draft)


def _named(name: str) -> str:
    return EMBEDDED if name.startswith("hf_autojudge/embedded-") else name


def load_models(models: ModelArguments) -> tuple[Any, Any, Any]:
    """Load target, draft (`None` if there is none) and the target's tokenizer. The embedded pair ignores `device_map`
    and the revisions. With a `device_map` the draft is placed on the target's first device.

    Raises:
        ValueError: If only one of the models is of the embedded pair, or the dtype or the device is unknown.
    """
    from transformers import AutoModelForCausalLM

    from hf_autojudge.demo.embedded import load_pair

    target, draft = models.target_model_name_or_path, models.draft_model_name_or_path
    if models.dtype not in DTYPES:
        raise ValueError(f"--dtype must be one of {', '.join(DTYPES)}; got {models.dtype!r}.")
    dtype: Any = "auto" if models.dtype == "auto" else getattr(torch, models.dtype)
    device: Any = models.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {models.device} cannot be used here: {error}") from error
    if EMBEDDED in (target, draft):
        if draft not in (target, None):
            raise ValueError(
                "Name both --target-model-name-or-path and --draft-model-name-or-path, or neither (for the embedded "
                "pair)."
            )
        target_model, draft_model, tokenizer = load_pair(device, torch.float32 if dtype == "auto" else dtype)
        return target_model, draft_model if draft else None, tokenizer

    def load(name: str, revision: str | None, **options: Any) -> Any:
        code = models.trust_remote_code
        return AutoModelForCausalLM.from_pretrained(
            name, revision=revision or "main", dtype=dtype, trust_remote_code=code, **options
        ).eval()

    if models.device_map is None:
        target_model = load(target or "", models.revision).to(device)
    else:
        target_model = load(target or "", models.revision, device_map=models.device_map)
        device = target_model.device
    draft_model = None if draft is None else load(draft, models.draft_revision).to(device)
    return target_model, draft_model, load_tokenizer(models)


def load_tokenizer(models: ModelArguments) -> Any:
    """Load the target's tokenizer."""
    from transformers import AutoTokenizer

    from hf_autojudge.demo.embedded import PAIR

    target = models.target_model_name_or_path
    if target == EMBEDDED:
        return AutoTokenizer.from_pretrained(PAIR / "target")
    return AutoTokenizer.from_pretrained(
        target, revision=models.revision or "main", trust_remote_code=models.trust_remote_code
    )


def load_task(arguments: TaskArguments, target: str | None, made_for: str | None = None, measure: bool = True) -> Task:
    """Make a task by its name; by default `made_for`, the task of the labels or the judge; without one
    `"word_problems"` for the embedded pair and `"gsm8k"` for others. `measure` says that answers will be checked.

    Raises:
        ValueError: If there is no such task, it lacks its data set or the consent to run programs, or it is
            `"annotated_answers"`, which has no outcomes, and answers will be checked.
    """
    from hf_autojudge import tasks
    from hf_autojudge.demo.task import word_problems_task

    name = arguments.task or made_for or ("word_problems" if target == EMBEDDED else "gsm8k")
    if name not in TASKS:
        raise ValueError(f"--task must be one of {', '.join(TASKS)}; got {name!r}. Your own task: use JudgeTrainer.")
    if name == "word_problems":
        return word_problems_task()
    if name == "annotated_answers" and measure:
        raise ValueError(
            "A judge made from annotated answers has no task to be measured on; name one with --task, for instance "
            "gsm8k."
        )
    if name == "annotated_answers" and arguments.dataset is None:
        raise ValueError(
            "--task annotated_answers needs --dataset, a file of samples with the columns prompt, answer and wrong."
        )
    options: dict[str, Any] = {} if arguments.dataset is None else {"dataset": arguments.dataset}
    if name in ("mbpp", "humaneval"):
        options["allow_code_execution"] = arguments.allow_code_execution
    return getattr(tasks, f"{name}_task")(**options)


def parse_rule(text: str) -> Judge:
    """Make a rule from `topk:4` or `kl:0.5`.

    Raises:
        ValueError: If `text` is neither, or its number is out of range.
    """
    kind, _, number = text.partition(":")
    try:
        if kind == "topk":
            return TopKRule(int(number))
        if kind == "kl":
            return KLRule(float(number))
    except ValueError as error:
        raise ValueError(f"--rule {text}: {error}") from error
    raise ValueError(f"--rule must look like topk:4 or kl:0.5; got {text!r}.")


def load_trainer(
    args: JudgeTrainingArguments, models: ModelArguments, task: TaskArguments, judge: str | None
) -> JudgeTrainer:
    """A trainer of the judge in the output folder, or of another one, whose reports are written there.

    Raises:
        ValueError: If there is no judge, or another one would be replaced.
    """
    if judge is not None and (Path(args.output_dir) / "config.json").exists():
        raise ValueError(f"{args.output_dir} holds a judge; write what concerns {judge} to another --output-dir.")
    if judge is None and not (Path(args.output_dir) / "config.json").exists():
        folder = args.output_dir
        raise ValueError(f"{folder} holds no judge yet; run `hf-autojudge fit --output-dir {folder}` first.")
    source = judge or args.output_dir
    head = load_judge(source)
    models = recorded(models, head.config.to_dict(), source)
    measured_task = load_task(task, models.target_model_name_or_path, head.config.task)
    measured_task.load("test", 1)  # a wrong data set is found before the models are loaded
    return JudgeTrainer(*load_models(models), measured_task, args, judge=head)


def load_judge(judge: str | Path, revision: str | None = None) -> AutoJudgeHead:
    """Load a trained head from a folder or the Hub.

    Raises:
        ValueError: If there is none.
    """
    try:
        return AutoJudgeHead.from_pretrained(judge, revision=revision or "main")
    except OSError as error:
        raise ValueError(f"{judge} is neither a judge's folder nor a repository that can be read: {error}") from error
