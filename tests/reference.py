"""Slow, obvious references: no cache, no batch, one forward pass of the whole text for every question asked."""

from dataclasses import dataclass, field

import torch
from transformers import LogitsProcessorList

from tests.plain_rules import PlainWindow


@torch.no_grad()
def run(model, ids):
    """Logits `(length, V)` and last hidden states after the final norm `(length, H)` of a text, without a cache."""
    base = getattr(model, model.base_model_prefix)
    inputs = torch.tensor([ids])
    hidden = base(input_ids=inputs, use_cache=False).last_hidden_state[0]
    return model(input_ids=inputs, use_cache=False).logits[0].float(), hidden


def processed(processors, ids, logits):
    """The scores after `ids`, from the logits of its last position."""
    return processors(torch.tensor([ids]), logits[None].clone())[0]


@dataclass
class Head:
    """A linear judge in plain arithmetic."""

    weight: torch.Tensor
    bias: float
    mean: torch.Tensor
    scale: torch.Tensor
    features: tuple = ("draft_token.draft", "draft_token.target")

    def accepts(self, threshold, target, draft, ids, token):
        """Whether the draft's `token` may follow `ids`."""
        states = {"draft": run(draft, [*ids, token])[1], "target": run(target, [*ids, token])[1]}
        rows = {"draft_token": -1, "previous": -2}
        x = torch.cat([states[f.split(".")[1]][rows[f.split(".")[0]]] for f in self.features])
        importance = torch.sigmoid(((x - self.mean) / self.scale) @ self.weight + self.bias)
        return True if threshold == 1 else bool(importance < threshold)


@dataclass
class Result:
    ids: list = field(default_factory=list)
    rounds: int = 0
    drafted: int = 0
    matched: int = 0
    judged: int = 0


def judged_greedy(
    target,
    draft,
    prompt,
    accepts,
    k,
    max_new_tokens,
    eos=frozenset(),
    processors=None,
    stops=lambda ids: False,
    bonus_token=True,
):
    """DESIGN's round, word by word. `accepts(ids, token)` is the judge; `stops(ids)` a stopping criterion."""
    processors = processors or LogitsProcessorList()
    out = Result(list(prompt))
    limit = len(prompt) + max_new_tokens

    def choose(model, ids):
        return int(processed(processors, ids, run(model, ids)[0][-1]).argmax())

    while True:
        context = out.ids
        window = []
        while len(window) < min(k, limit - len(context) - 1):
            window.append(choose(draft, context + window))
            if window[-1] in eos:
                break
        out.rounds += 1
        out.drafted += len(window)
        emitted, kinds = [], []
        for token in window:
            match = token == choose(target, context + emitted)
            if not match and not accepts(context + emitted, token):
                break
            emitted.append(token)
            kinds.append(match)
        if bonus_token or len(emitted) < len(window) or not window:
            emitted.append(choose(target, context + emitted))
        for i, token in enumerate(emitted):
            out.ids = [*out.ids, token]
            if i < len(kinds):
                out.matched += kinds[i]
                out.judged += not kinds[i]
            if token in eos or len(out.ids) >= limit or stops(out.ids):
                return out


def importance_of(head, target, draft):
    """A function importance(ids, token) of a [`Head`]."""

    def importance(ids, token):
        states = {"draft": run(draft, [*ids, token])[1], "target": run(target, [*ids, token])[1]}
        rows = {"draft_token": -1, "previous": -2}
        x = torch.cat([states[f.split(".")[1]][rows[f.split(".")[0]]] for f in head.features])
        return float(torch.sigmoid(((x - head.mean) / head.scale) @ head.weight + head.bias))

    return importance


def judged_by_window(target, draft, prompt, judge, k, max_new_tokens, eos=frozenset()):
    """As [`judged_greedy`], for a judge that sees the whole window and keeps its own books: one of
    `tests.plain_rules`. Whole texts, no cache, no processors."""
    out = Result(list(prompt))
    limit = len(prompt) + max_new_tokens
    while True:
        context = list(out.ids)
        window, draft_rows = [], []
        while len(window) < min(k, limit - len(context) - 1):
            text = [min(token, draft.config.vocab_size - 1) for token in context + window]  # it may lack some tokens
            draft_rows.append(run(draft, text)[0][-1][: target.config.vocab_size])
            window.append(int(draft_rows[-1].argmax()))
            if window[-1] in eos:
                break
        target_rows = run(target, context + window)[0][len(context) - 1 :]
        chosen = []  # the target's, or the mixture's, at each candidate; then the bonus token
        for p, q in zip(target_rows, draft_rows, strict=False):
            if judge.mixes:
                missing = len(p) - len(q)  # tokens that the draft does not have
                both = p.softmax(-1), torch.nn.functional.pad(q.softmax(-1), (0, missing))
                w = judge.weight(p.tolist(), q.tolist(), *(x.tolist() for x in both))
                p = p if w == 1 else w * both[0] + (1 - w) * both[1]
            chosen.append(int(p.argmax()))
        chosen.append(int(target_rows[-1].argmax()))
        matches = [token == own for token, own in zip(window, chosen, strict=False)]
        rows = [[row.tolist() for row in rows] for rows in (target_rows[:-1], draft_rows)]
        w = PlainWindow(window, matches, *rows, context, len(context) - len(prompt))
        out.rounds += 1
        out.drafted += len(window)
        n = 0
        while n < len(window) and (matches[n] or judge.accepts(w, n)):
            out.ids.append(window[n])
            out.matched += matches[n]
            out.judged += not matches[n]
            if not matches[n]:
                judge.emitted(w, n)
            if window[n] in eos:
                return out
            n += 1
        out.ids.append(chosen[n])
        if chosen[n] in eos or len(out.ids) >= limit:
            return out
