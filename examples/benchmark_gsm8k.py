"""Measure a judge and training-free rules on GSM8K with any pair of models.

python examples/benchmark_gsm8k.py --target org/large --draft org/small --judge org/judge --rule topk:2
"""

from benchmark_task import benchmark

from hf_autojudge.tasks import gsm8k_task

if __name__ == "__main__":
    benchmark(__doc__, gsm8k_task, "openai/gsm8k", "gsm8k")
