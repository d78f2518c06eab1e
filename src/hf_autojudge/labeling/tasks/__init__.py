"""Tasks with a checkable answer, one file each."""

from hf_autojudge.labeling.tasks.gsm8k import gsm8k
from hf_autojudge.labeling.tasks.task import Task
from hf_autojudge.labeling.tasks.word_problems import word_problems

__all__ = ["Task", "gsm8k", "word_problems"]
