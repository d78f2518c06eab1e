"""The Jinja template of a judge's model card."""

TEMPLATE = r"""---
{{ card_data }}
---

# {{ repo_id.split("/")[-1] }}

A judge for judge decoding: a logistic head on hidden states that the verification pass of assisted generation computes
anyway. It decides which mismatches between draft and target are important; the others are accepted. It works with
this pair of models only.

{{ facts }}

## Use

```python
import hf_autojudge
{% if embedded %}from hf_autojudge.demo.embedded import load_pair

target, draft, tokenizer = load_pair()
{% else %}from transformers import AutoModelForCausalLM, AutoTokenizer

target = AutoModelForCausalLM.from_pretrained("{{ target }}")
draft = AutoModelForCausalLM.from_pretrained("{{ draft }}")
tokenizer = AutoTokenizer.from_pretrained("{{ target }}")
{% endif %}judge = hf_autojudge.AutoJudgeHead.from_pretrained("{{ repo_id }}")

inputs = tokenizer("...", return_tensors="pt")
out = target.generate(**inputs, assistant_model=draft, judge=judge, max_new_tokens=512)
```

`judge_threshold=` overrides the threshold: 0 accepts no mismatch (lossless), 1 accepts all.

## Labels

The labels are mined without annotators, as in AutoJudge ([arXiv 2504.20039](https://arxiv.org/abs/2504.20039)): put
the draft's token in place of the target's at one mismatch, let the target finish the answer, and compare the outcome
(for instance the final number). If it changes, the mismatch is important.
{% if fit %}
## Fit

{{ fit }}
{% endif %}{% if calibration %}
## Thresholds

On the validation mismatches:

{{ calibration }}
{% endif %}{% if frontier %}
## Measured

{{ frontier }}

Accepted per target call: new tokens divided by target forward passes, prefill included. tokens/s hold for this machine
only.
{% endif %}
## Limits

- Above threshold 0 the answer is not the target's own, and accuracy may fall. The figures hold for the task they were
  measured on.
- Measure first on other tasks, languages and prompts: a mismatch that does not change a final number may matter
  elsewhere, for instance in code or in style.
- Another target, draft, revision, quantization or fine-tuning has other hidden states and needs another judge.
"""
