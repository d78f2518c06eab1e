"""The fourth verb, evaluate: accuracy against speed, and single answers token by token."""

from hf_autojudge.evaluation.acceptance_plot import plot_acceptance_by_position
from hf_autojudge.evaluation.answers import Answer, read_answers
from hf_autojudge.evaluation.benchmark import measure_frontier
from hf_autojudge.evaluation.metrics import ACCEPTED_PER_TARGET_CALL, OUTCOME_ACCURACY, load_metric
from hf_autojudge.evaluation.page import answer_page
from hf_autojudge.evaluation.plots import plot_frontier
from hf_autojudge.evaluation.report import Frontier, Point, Questions
from hf_autojudge.evaluation.trace import AnswerTrace, TokenTrace, trace_answer

__all__ = [
    "ACCEPTED_PER_TARGET_CALL",
    "OUTCOME_ACCURACY",
    "Answer",
    "AnswerTrace",
    "Frontier",
    "Point",
    "Questions",
    "TokenTrace",
    "answer_page",
    "load_metric",
    "measure_frontier",
    "plot_acceptance_by_position",
    "plot_frontier",
    "read_answers",
    "trace_answer",
]
