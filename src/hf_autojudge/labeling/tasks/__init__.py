"""Tasks with a checkable answer, one file each."""

from hf_autojudge.labeling.tasks.annotated_answers import annotated_answers
from hf_autojudge.labeling.tasks.gsm8k import gsm8k
from hf_autojudge.labeling.tasks.humaneval import humaneval
from hf_autojudge.labeling.tasks.math_problems import math
from hf_autojudge.labeling.tasks.mbpp import mbpp
from hf_autojudge.labeling.tasks.multiple_choice import multiple_choice
from hf_autojudge.labeling.tasks.task import Task
from hf_autojudge.labeling.tasks.word_problems import word_problems

__all__ = ["Task", "annotated_answers", "gsm8k", "humaneval", "math", "mbpp", "multiple_choice", "word_problems"]
