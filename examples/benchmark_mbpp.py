r"""Measure a judge and training-free rules on MBPP with any pair of models. Answers are programs: to check
them is to run them, each in a sandbox, so this needs your consent.

python examples/benchmark_mbpp.py --target org/large --draft org/small --judge org/judge --rule topk:2 \
    --allow-code-execution
"""

from benchmark_task import benchmark

from hf_autojudge.tasks import mbpp_task

if __name__ == "__main__":
    benchmark(__doc__, mbpp_task, "google-research-datasets/mbpp", "mbpp", runs_programs=True)
