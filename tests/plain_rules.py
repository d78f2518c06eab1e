"""Every rule and composite in plain Python: lists, floats and the math module, one candidate at a time.

Written from the formulas of the papers (see docs/rules.md), not from the package. A comparison that float32 may decide
either way raises [`TooClose`].
"""

import math
from dataclasses import dataclass, field

from hf_autojudge import (
    CascadeRule,
    CleanRunRule,
    DivergenceRule,
    EnsembleRule,
    KLRule,
    LenienceRule,
    MarginRule,
    RatioRule,
    RegretBudgetRule,
    RelaxedTopNRule,
    RollbackRule,
    ThresholdsRule,
    TopKRule,
    TypicalRule,
)


class TooClose(Exception):
    """The two sides of a comparison differ by less than float32 can tell."""


@dataclass
class PlainWindow:
    """One round of one sequence. Row i of `target` and `draft` are the logits that predicted candidate i."""

    tokens: list
    passed: list
    target: list
    draft: list = field(default_factory=list)
    context: list = field(default_factory=list)
    num_new_tokens: int = 0

    def at_least(self, a, b, rows):
        """a >= b, for numbers that follow from these rows of logits."""
        if math.isnan(a) or math.isnan(b):
            return False
        if a == b and (a in (0, 1) or math.isinf(a)):
            return True
        finite = [abs(z) for row in rows for z in row if math.isfinite(z)]
        if math.isfinite(a) and math.isfinite(b) and abs(a - b) <= 1e-5 * (1 + max(finite, default=0) + abs(b)):
            raise TooClose
        return a >= b

    def more(self, a, b, rows):
        return not math.isnan(a) and not math.isnan(b) and not self.at_least(b, a, rows)


def known(row):
    """Whether a row of logits is a distribution."""
    return bool(row) and not any(math.isnan(z) or z == math.inf for z in row) and max(row) > -math.inf


def log_softmax(row):
    if not known(row):
        return [math.nan] * len(row)
    best = max(row)
    total = math.log(sum(math.exp(z - best) for z in row))
    return [z - best - total for z in row]


def softmax(row):
    return [math.exp(x) for x in log_softmax(row)]


def entropy(log_p):
    return -sum(math.exp(x) * x for x in log_p if x > -math.inf)


def kl(log_p, log_q):
    total = 0.0
    for a, b in zip(log_p, log_q, strict=True):
        if b == -math.inf and -106 < a < -86:
            raise TooClose  # p(v) is 0 in float32, or not
        if a > -104:
            total += math.exp(a) * (a - b)
    return total


def divergence(kind, log_p, log_q):
    means = [(math.exp(a) + math.exp(b)) / 2 for a, b in zip(log_p, log_q, strict=True)]
    middle = [math.log(m) if m > 0 else -math.inf for m in means]
    return {
        "kl": lambda: kl(log_p, log_q),
        "kl_reversed": lambda: kl(log_q, log_p),
        "js": lambda: kl(log_p, middle) / 2 + kl(log_q, middle) / 2,
        "js_reversed": lambda: kl(middle, log_p) / 2 + kl(middle, log_q) / 2,
        "tv": lambda: sum(abs(math.exp(a) - math.exp(b)) for a, b in zip(log_p, log_q, strict=True)) / 2,
    }[kind]()


def shared(w, i):
    """log p and log q over the tokens that both models have."""
    size = min(len(w.target[i]), len(w.draft[i]))
    if not known(w.target[i]) or not known(w.draft[i]):
        return [math.nan] * size, [math.nan] * size
    return log_softmax(w.target[i][:size]), log_softmax(w.draft[i][:size])


def top_k(rule, w, i):
    z, x = w.target[i], w.tokens[i]
    return z[x] > -math.inf and sum(other > z[x] for other in z) < rule.k


def ratio(rule, w, i):
    z = w.target[i]
    return w.at_least(math.exp(z[w.tokens[i]] - max(z)), rule.k, [z])


def typical(rule, w, i):
    log_p = log_softmax(w.target[i])
    bar = min(rule.epsilon, rule.delta * math.exp(-entropy(log_p)))
    return w.more(math.exp(log_p[w.tokens[i]]), bar, [w.target[i]])


def margin(rule, w, i):
    z, x = w.target[i], w.tokens[i]
    if max(z) <= 0 or sum(other > z[x] for other in z) > 1:
        return False
    return w.more(z[x] / max(z), rule.theta, [[0.0]])


def relaxed_top_n(rule, w, i):
    z, x = w.target[i], w.tokens[i]
    p = softmax(z)
    return sum(other > z[x] for other in z) < rule.n and w.at_least(rule.delta, max(p) - p[x], [z])


def clean_run(rule, w, i):
    n = len(w.tokens)
    if i + rule.w > n - 1:  # one of the last w
        return False
    if not all(w.passed[i + 1 : i + rule.w]):
        return False
    largest = sorted(log_softmax(w.target[i]), reverse=True)[: rule.num_entropy_tokens]
    return w.at_least(entropy(largest), rule.min_entropy, [w.target[i]])


def kl_rule(rule, w, i):
    log_p, log_q = shared(w, i)
    rows = [w.target[i], w.draft[i]]
    return w.at_least(rule.max_target_prob, math.exp(max(log_p)), rows) and w.more(rule.tau, kl(log_p, log_q), rows)


def divergence_rule(rule, w, i):
    log_p, log_q = shared(w, i)
    if math.isnan(log_p[0]) or math.isnan(log_q[0]):
        return False
    return w.at_least(rule.max_divergence, divergence(rule.kind, log_p, log_q), [w.target[i], w.draft[i]])


def rollback(rule, w, i):
    for row in w.draft[: i + 1]:
        if not known(row) or not w.at_least(max(softmax(row)), rule.min_confidence, [row]):
            return False
    return w.at_least(rule.max_loss, -log_softmax(w.target[i])[w.tokens[i]], [w.target[i]])


def thresholds(rule, w, i):  # greedy: there is no coin
    if rule.single == 1:
        return False
    return w.at_least(softmax(w.target[i])[w.tokens[i]], rule.single, [w.target[i]])


def lenience(rule, w, i):  # greedy
    return rule.lenience < 1 and ratio(RatioRule(rule.lenience), w, i)


def never(rule, w, i):
    return False


PLAIN = {
    TopKRule: top_k,
    RatioRule: ratio,
    TypicalRule: typical,
    MarginRule: margin,
    RelaxedTopNRule: relaxed_top_n,
    CleanRunRule: clean_run,
    KLRule: kl_rule,
    DivergenceRule: divergence_rule,
    RollbackRule: rollback,
    ThresholdsRule: thresholds,
    LenienceRule: lenience,
}


def target_weight(rule, raw_p, raw_q, p, q):
    """The target's weight in what a rule verifies against: logits before, probabilities after the processors."""
    if isinstance(rule, EnsembleRule):
        return rule.weight
    best_p, best_q = max(softmax(raw_p)), max(softmax(raw_q))
    bar = {
        "chow": lambda: 1 - rule.alpha if rule.alpha > 0 else math.inf,  # 1 would be rounding
        "diff": lambda: best_p - rule.alpha,
        "opt": lambda: best_p - rule.alpha * sum(max(b - a, 0) for a, b in zip(p, q, strict=True)),
    }[rule.deferral]()
    return 0.0 if PlainWindow([], [], []).at_least(best_q, bar, [raw_p, raw_q]) else 1.0


class Plain:
    """A rule that decides one candidate after the other, those before it having been accepted."""

    def __init__(self, rule):
        self.rule = rule

    def accepts(self, w, i):
        return known(w.target[i]) and PLAIN.get(type(self.rule), never)(self.rule, w, i)

    def emitted(self, w, i):
        """Candidate i was emitted although it did not pass the standard test."""

    def weight(self, raw_p, raw_q, p, q):
        return target_weight(self.rule, raw_p, raw_q, p, q)

    @property
    def mixes(self):
        return isinstance(self.rule, EnsembleRule | CascadeRule)


class PlainRegret(Plain):
    """The regret budget: what was spent is a number that grows."""

    def __init__(self, rule: RegretBudgetRule):
        self.rule, self.spent = rule, 0.0

    def regret(self, w, i):
        z = w.target[i]
        return max(z) - z[w.tokens[i]] if known(z) else math.nan

    def accepts(self, w, i):
        rule, r = self.rule, self.regret(w, i)
        if 0 in (rule.budget, rule.max_regret_per_token, rule.max_per_round) or math.isnan(r):
            return False
        before = sum(not passed for passed in w.passed[:i])
        return (
            before < rule.max_per_round
            and w.at_least(rule.max_regret_per_token, r / (len(w.tokens) - i), [w.target[i]])
            and w.at_least(rule.budget, self.spent + r, w.target)
        )

    def emitted(self, w, i):
        self.spent += self.regret(w, i)


class PlainHead(Plain):
    """A head, with or without a budget, from a function importance(ids, token)."""

    def __init__(self, importance, threshold, limit=None):
        self.importance, self.threshold, self.limit, self.spent = importance, threshold, limit, 0.0
        self.rule = None

    def accepts(self, w, i):
        importance = self.importance([*w.context, *w.tokens[:i]], w.tokens[i])
        fits = self.limit is None or (self.limit > 0 and self.spent + importance <= self.limit)
        return fits and (self.threshold == 1 or importance < self.threshold)

    def emitted(self, w, i):
        self.spent += self.importance([*w.context, *w.tokens[:i]], w.tokens[i])


class PlainGroup(Plain):
    """`any` or `all` of several."""

    def __init__(self, how, *judges):
        self.how, self.judges, self.rule = how, judges, None

    def accepts(self, w, i):
        return self.how(judge.accepts(w, i) for judge in self.judges)

    def emitted(self, w, i):
        for judge in self.judges:
            judge.emitted(w, i)


class PlainInside(PlainGroup):
    def __init__(self, start, end, judge):
        super().__init__(all, judge)
        self.start, self.end = list(start), list(end)

    def accepts(self, w, i):
        inside, text = False, [*w.context, *w.tokens[:i]]
        for length in range(1, len(text) + 1):
            ended = {
                len(mark): state
                for mark, state in ((self.start, True), (self.end, False))
                if text[:length][-len(mark) :] == mark
            }
            if ended:  # of two marks that end here, the longer one
                inside = ended[max(ended)]
        return inside and super().accepts(w, i)


class PlainAfter(PlainGroup):
    def __init__(self, n, judge):
        super().__init__(all, judge)
        self.n = n

    def accepts(self, w, i):
        return w.num_new_tokens + i >= self.n and super().accepts(w, i)


def plain(judge):
    """The plain judge of a rule."""
    return PlainRegret(judge) if isinstance(judge, RegretBudgetRule) else Plain(judge)
