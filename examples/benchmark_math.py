"""Measure a judge and training-free rules on MATH with any pair of models.

python examples/benchmark_math.py --target org/large --draft org/small --judge org/judge --rule topk:2
"""

from benchmark_task import benchmark

from hf_autojudge.tasks import math_task

if __name__ == "__main__":
    benchmark(__doc__, math_task, "DigitalLearningGmbH/MATH-lighteval", "math")
