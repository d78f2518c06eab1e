"""Block verification: the target's distribution, exactly, and at least as many accepted tokens.

The plain code below is algorithm 2 of arXiv 2403.10444, in lists.
"""

import itertools
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList

from hf_autojudge import BlockVerification, ExactMatchRule, Window
from hf_autojudge.decoding.block_verification import block_probabilities, block_run
from hf_autojudge.decoding.candidates import Candidates
from hf_autojudge.decoding.sequences import Sequences
from hf_autojudge.decoding.verification import accepted_run, next_token, verify
from tests.decoding.laws import PROCESSORS, Distributions, draw, normalized, p_value, target_law, tiny_pair

SLOW = pytest.mark.slow  # other cases of what runs quickly once

V = 3


def block(tokens, p, q):
    """b_0..b_K and h_1..h_K; p[i] and q[i] are the distributions of what follows i candidates."""
    b = [1.0]
    for x, p_now, q_now in zip(tokens, p, q, strict=False):
        b.append(min(1.0, b[-1] * p_now[x] / q_now[x]))
    h = []
    for i in range(1, len(tokens)):
        left = sum(max(b[i] * m - n, 0.0) for m, n in zip(p[i], q[i], strict=True))
        h.append(1.0 if b[i] == 1 else left / (left + 1 - b[i]))
    return b, [*h, b[-1]]


def run_law(h):
    """The probability of each number of accepted candidates: the last i with u_i < h_i."""
    return [(h[i - 1] if i else 1.0) * math.prod(1 - x for x in h[i:]) for i in range(len(h) + 1)]


def following(n, b, tokens, p, q):
    """The distribution of the token after n accepted candidates."""
    if n == len(tokens):
        return p[n]
    return normalized([max(b[n] * m - k, 0.0) for m, k in zip(p[n], q[n], strict=True)]) or p[n]


def random_table(rng, k):
    """A next-token distribution for each text of at most k tokens, some of them with zeros."""
    table = {}
    for length in range(k + 1):
        for text in itertools.product(range(V), repeat=length):
            masses = [rng.random() ** 2 if rng.random() < 0.85 else 0.0 for _ in range(V)]
            table[text] = normalized(masses) or [1.0] + [0.0] * (V - 1)
    return table


def rows_of(table, tokens):
    return [table[tuple(tokens[:i])] for i in range(len(tokens) + 1)]


def windows(table, k):
    """Every draft of k tokens and its probability."""
    for tokens in itertools.product(range(V), repeat=k):
        mass = math.prod(table[tokens[:i]][x] for i, x in enumerate(tokens))
        if mass > 0:
            yield tokens, mass


@pytest.mark.parametrize("seed", range(20))
def test_the_algorithm_is_lossless_and_accepts_more(seed):
    """Of the plain code, by enumeration: then equality with it says the same of the package."""
    rng, k = random.Random(seed), 3
    p, q = random_table(rng, k), random_table(rng, k)
    law, ours, token_by_token = {}, 0.0, 0.0
    for tokens, mass in windows(q, k):
        b, h = block(tokens, rows_of(p, tokens), rows_of(q, tokens))
        for n, share in enumerate(run_law(h)):
            ours += mass * share * n
            for y, chance in enumerate(following(n, b, tokens, rows_of(p, tokens), rows_of(q, tokens))):
                text = (*tokens[:n], y)
                law[text] = law.get(text, 0.0) + mass * share * chance
        run = 1.0
        for i, x in enumerate(tokens):
            run *= min(1.0, p[tokens[:i]][x] / q[tokens[:i]][x])
            token_by_token += mass * run
    # A text that starts with what is emitted goes on as the target does
    for text in itertools.product(range(V), repeat=k + 1):
        mass = sum(
            law.get(text[:n], 0.0) * math.prod(p[text[:i]][text[i]] for i in range(n, k + 1)) for n in range(1, k + 2)
        )
        assert mass == pytest.approx(math.prod(p[text[:i]][x] for i, x in enumerate(text)), abs=1e-12)
    assert ours >= token_by_token - 1e-12


def test_by_hand():
    """p = (.5, .5), q = (.8, .2) everywhere; drafted 0, 0. b_1 = .625, b_2 = .390625.

    Left after one: max(.625 * .5 - .8, 0) + max(.625 * .5 - .2, 0) = .1125; h_1 = .1125 / (.1125 + .375) = .230769.
    """
    p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.8, 0.2]).log()
    window = Window(torch.tensor([[0, 0]]), torch.tensor([[0, 0]]))
    b = block_probabilities(window, p.expand(1, 3, 2), q.expand(1, 2, 2))
    assert b.tolist() == [pytest.approx([1, 0.625, 0.390625])]
    assert block([0, 0], [[0.5, 0.5]] * 3, [[0.8, 0.2]] * 2)[1] == pytest.approx([0.230769, 0.390625], abs=1e-6)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), size=st.integers(2, 5), k=st.integers(1, 5), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_equals_the_plain_code(seed, size, k, scale):
    """Batches whose sequences have different numbers of candidates, with masked tokens; given coins."""
    rng = random.Random(seed)
    batch = rng.randint(1, 3)

    def scores(n):
        rows = [[rng.gauss(0, scale) if rng.random() < 0.8 else -math.inf for _ in range(size)] for _ in range(n)]
        return [row if max(row) > -math.inf else [0.0] * size for row in rows]

    p, q = [scores(k + 1) for _ in range(batch)], [scores(k) for _ in range(batch)]
    tokens = [[rng.choice([x for x in range(size) if row[x] > -math.inf]) for row in rows] for rows in q]
    counts = [rng.randint(0, k) for _ in range(batch)]
    u = torch.rand(batch, k, dtype=torch.double, generator=torch.Generator().manual_seed(seed % 2**31))
    window = Window(
        torch.tensor(tokens),
        torch.tensor(tokens),
        num_candidates=None if counts == [k] * batch else torch.tensor(counts)[:, None],
    )
    target_scores, draft_scores = torch.tensor(p), torch.tensor(q)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand_like", lambda like: u)
        found = block_run(window, target_scores, draft_scores)[:, 0].tolist()
    products = block_probabilities(window, target_scores, draft_scores)
    for i, n in enumerate(counts):
        rows = [x[i].double().softmax(-1).tolist() for x in (target_scores, draft_scores)]
        b, h = block(tokens[i][:n], *rows) if n else ([1.0], [])
        assert products[i, : n + 1].tolist() == pytest.approx(b, abs=1e-12)
        if all(abs(x - y) > 1e-9 for x, y in zip(h, u[i].tolist(), strict=False)):
            assert found[i] == max([0, *(j for j in range(1, n + 1) if u[i, j - 1] < h[j - 1])])


def test_what_cannot_be_is_not_accepted_by_a_coin_of_zero(monkeypatch):
    window = Window(torch.tensor([[0, 1]]), torch.tensor([[0, 1]]))
    p = torch.tensor([[[-math.inf, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
    assert block_run(window, p, torch.zeros(1, 2, 2)).tolist() == [[0]]
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.ones_like(x).nextafter(torch.zeros_like(x)))
    assert block_run(window, torch.zeros(1, 3, 2), torch.zeros(1, 2, 2)).tolist() == [[2]]  # p equals q


def test_long_blocks_do_not_underflow():
    k = 400
    p, q = torch.tensor([0.01, 0.99]).log(), torch.tensor([0.99, 0.01]).log()
    window = Window(torch.zeros(1, k, dtype=torch.long), torch.zeros(1, k, dtype=torch.long))
    b = block_probabilities(window, p.expand(1, k + 1, 2), q.expand(1, k, 2))[0]
    assert b.isfinite().all() and b[60] == pytest.approx((0.01 / 0.99) ** 60, rel=1e-4)
    window = Window(torch.ones(1, k, dtype=torch.long), torch.ones(1, k, dtype=torch.long))
    assert (block_probabilities(window, p.expand(1, k + 1, 2), q.expand(1, k, 2)) == 1).all()


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_texts_and_run_lengths_of_a_round(seed):
    """Many rounds at once, from tables: texts as the target's, run lengths as the plain code's law."""
    rng, k, copies = random.Random(seed), 3, 20_000
    p, q = random_table(rng, k), random_table(rng, k)
    torch.manual_seed(seed)
    drafts = list(windows(q, k))
    chosen = torch.tensor([mass for _, mass in drafts]).multinomial(copies, replacement=True).tolist()
    tokens = [drafts[i][0] for i in chosen]
    target = torch.tensor([rows_of(p, x) for x in tokens]).log()
    draft = torch.tensor([rows_of(q, x)[:k] for x in tokens]).log()
    means = {}
    for judge in (BlockVerification(), ExactMatchRule()):
        candidates = Candidates(torch.tensor(tokens), [k] * copies, scores=draft, sampled=True)
        sequences = Sequences(torch.zeros(copies, 1, dtype=torch.long))
        v = verify(candidates, sequences, target, None, LogitsProcessorList(), True, judge, judge.reads)
        n, passed = accepted_run(v, judge, None)
        after = next_token(v, n, True, judge)
        means[type(judge)] = n.double().mean().item()
        seen = {}
        for row, length, y in zip(tokens, n[:, 0].tolist(), after[:, 0].tolist(), strict=True):
            # The first two tokens; where there is one only, the target goes on
            text = (*row[:length], y)
            if len(text) < 2:
                text = (*text, torch.tensor(p[text]).multinomial(1).item())
            seen[text[:2]] = seen.get(text[:2], 0) + 1
        law = {(x, y): p[()][x] * p[(x,)][y] for x in range(V) for y in range(V)}
        assert p_value(seen, law) > 0.001
        if isinstance(judge, BlockVerification):
            expected, runs = [0.0] * (k + 1), torch.bincount(n[:, 0], minlength=k + 1).tolist()
            for row, mass in windows(q, k):
                for length, share in enumerate(run_law(block(row, rows_of(p, row), rows_of(q, row))[1])):
                    expected[length] += mass * share
            assert p_value(dict(enumerate(runs)), dict(enumerate(expected))) > 0.001
            assert passed.all()
    assert means[BlockVerification] > means[ExactMatchRule] - 0.02


@pytest.mark.parametrize("processors", [n if n == "plain" else pytest.param(n, marks=SLOW) for n in PROCESSORS])
def test_generate_draws_as_the_target_does_in_fewer_rounds(processors):
    """Texts of four tokens."""
    pair = tiny_pair()
    arguments, processors = PROCESSORS[processors]
    law = target_law(Distributions(pair[0], processors), 4)
    rounds = []
    for judge in (BlockVerification(), ExactMatchRule()):
        seen, stats = draw(*pair, judge, 10_000, 4, 3, **arguments)
        assert p_value(seen, law) > 0.001
        assert stats.accepted_by_judge == 0
        rounds.append(stats.rounds)
    assert rounds[0] < rounds[1]
