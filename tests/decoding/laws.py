"""Exact distributions of sampled texts, by enumeration over a tiny vocabulary in plain Python."""

import torch
from scipy.stats import chisquare
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from tests.reference import processed, run
from tests.utils import make_model

VOCAB = 5
PROMPT = [1, 3, 4]
PROCESSORS = {  # arguments of generate, and the same as processors
    "plain": ({}, []),
    "temperature": ({"temperature": 0.6}, [TemperatureLogitsWarper(0.6)]),
    "top-p": ({"temperature": 1.3, "top_p": 0.85}, [TemperatureLogitsWarper(1.3), TopPLogitsWarper(0.85)]),
}


class Distributions:
    """Next-token distributions of a model after every text, before and after the processors, as lists."""

    def __init__(self, model, processors=()):
        self.model, self.processors, self._known = model, LogitsProcessorList(processors), {}

    def __call__(self, text):
        if text not in self._known:
            logits = run(self.model, [*PROMPT, *text])[0][-1]
            scores = processed(self.processors, [*PROMPT, *text], logits)
            self._known[text] = (logits.tolist(), scores.double().softmax(-1).tolist())
        return self._known[text]


def tiny_pair():
    return make_model("llama", 16, 1, seed=0, vocab=VOCAB), make_model("llama", 16, 1, seed=1, vocab=VOCAB)


def normalized(masses):
    return [m / sum(masses) for m in masses] if sum(masses) > 0 else None


def residual(p, q):
    """norm(max(p - q, 0))."""
    return normalized([max(a - b, 0.0) for a, b in zip(p, q, strict=True)])


def target_law(p, length):
    """Of the texts of some length."""
    law = {(): 1.0}
    for _ in range(length):
        law = {(*text, x): mass * p(text)[1][x] for text, mass in law.items() for x in range(VOCAB)}
    return law


def judged_law(p, q, step, k, length, confidence=0.0):
    """Of judged decoding, candidate by candidate. `step(raw_p, raw_q, p, q, x)` gives the probability to accept x, and
    the distribution of what follows otherwise; after a whole window comes a token of p. Drafting also stops after a
    candidate with a probability below `confidence`."""
    law = {}

    def add(text, mass):
        law[text] = law.get(text, 0.0) + mass

    def end_of_round(text, mass, after):
        for y, share in enumerate(after):
            if mass * share == 0:
                continue
            if len(text) + 1 == length:
                add((*text, y), mass * share)
            else:
                start((*text, y), mass * share)

    def start(text, mass):
        walk(text, mass, min(k, length - len(text) - 1))

    def walk(text, mass, left):
        (raw_p, p_now), (raw_q, q_now) = p(text), q(text)
        if left == 0:
            end_of_round(text, mass, p_now)
            return
        for x in range(VOCAB):
            if q_now[x] == 0:
                continue
            accepted, otherwise = step(raw_p, raw_q, p_now, q_now, x)
            if accepted > 0:
                walk((*text, x), mass * q_now[x] * accepted, left - 1 if q_now[x] >= confidence else 0)
            if accepted < 1:
                end_of_round(text, mass * q_now[x] * (1 - accepted), otherwise)

    start((), 1.0)
    assert abs(sum(law.values()) - 1) < 1e-9
    return law


def draw(target, draft, judge, n, length, k, seed=0, **call):
    """How often each text is drawn: n sequences in one batch; and the call's stats."""
    torch.manual_seed(seed)
    settings = {"do_sample": True, "top_k": 0, "eos_token_id": None, "pad_token_id": 0, "temperature": 1.0}
    settings |= {"return_dict_in_generate": True, "max_new_tokens": length, "num_assistant_tokens": k}
    ids = torch.tensor([PROMPT]).expand(n, -1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "assistant_model": draft, "judge": judge}
    out = target.generate(**inputs, **(settings | call))
    seen = {}
    for text in out.sequences[:, len(PROMPT) :].tolist():
        seen[tuple(text)] = seen.get(tuple(text), 0) + 1
    return seen, out.judge_stats


def p_value(seen, law):
    """Of a chi-square test; texts expected fewer than 5 times are put together. What cannot be is never drawn."""
    n = sum(seen.values())
    if any(count and law.get(text, 0) < 1e-12 for text, count in seen.items()):
        return 0.0
    likely = {text for text, mass in law.items() if mass * n >= 5}
    observed = [seen.get(text, 0) for text in likely]
    expected = [law[text] * n for text in likely]
    if (rest := n - sum(expected)) > 1e-6 * n:
        observed.append(n - sum(observed))
        expected.append(rest)
    if len(observed) == 1:
        return 1.0
    scale = sum(observed) / sum(expected)
    return float(chisquare(observed, [mass * scale for mass in expected]).pvalue)
