"""Train a judge with JudgeTrainer: the four verbs on the embedded pair, 3 minutes on 2 CPU cores."""

from hf_autojudge import TopKRule
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.training import JudgeTrainer, JudgeTrainingArguments

args = JudgeTrainingArguments(
    output_dir="judge", max_train_samples=200, max_validation_samples=60, max_test_samples=60, num_assistant_tokens=16
)
target, draft, tokenizer = load_pair()
trainer = JudgeTrainer(target, draft, processing_class=tokenizer, task=word_problems_task(), args=args)
trainer.train()
print(trainer.evaluate({"top-2": TopKRule(2)}))
