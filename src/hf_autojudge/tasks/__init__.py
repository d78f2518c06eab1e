"""Tasks whose outcome can be checked, one file each."""

from hf_autojudge.tasks.annotated_answers import annotated_answers_task
from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.competition_math import math_task
from hf_autojudge.tasks.gsm8k import gsm8k_task
from hf_autojudge.tasks.humaneval import humaneval_task
from hf_autojudge.tasks.mbpp import mbpp_task
from hf_autojudge.tasks.multiple_choice import multiple_choice_task

__all__ = [
    "Sample",
    "Task",
    "annotated_answers_task",
    "gsm8k_task",
    "humaneval_task",
    "math_task",
    "mbpp_task",
    "multiple_choice_task",
]
