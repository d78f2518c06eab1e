"""Guesses change the number of passes and never the answer; what passes cost is measured."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_autojudge.labeling import find_important_tokens
from hf_autojudge.labeling.completion import Limits, complete
from hf_autojudge.labeling.predictions import Prediction
from hf_autojudge.labeling.prices import PassPrice
from hf_autojudge.labeling.speculation import Speculation
from tests.utils import make_pair, same_outcome, some_prompts


class Scripted:
    """A model that continues any prompt by fixed tokens, whatever was proposed."""

    def __init__(self, final):
        self.final = final
        self.passes = 0

    def predict(self, request):
        self.passes += 1
        first = len(request.tokens) - request.count + 1
        positions = range(first, first + request.count)
        return Prediction([self.final[i] if i < len(self.final) else 0 for i in positions], [])


@given(
    final=st.lists(st.integers(3, 6), min_size=2, max_size=80),
    earlier=st.lists(st.integers(3, 6), max_size=80),
    start=st.integers(1, 10),
)
def test_proposals_never_change_the_answer(final, earlier, start):
    model = Scripted(final)
    limits = Limits(1, len(final), frozenset({6}))
    completion = complete(final[:start], earlier, limits, Speculation())
    prediction = None
    try:
        while True:
            request = completion.send(prediction)
            assert len(request.tokens) <= len(final)
            prediction = model.predict(request)
    except StopIteration as stop:
        tokens = stop.value
    written = (
        final[:start]
        if limits.reached(final[:start])
        else next((final[: i + 1] for i in range(start, len(final)) if final[i] == 6), final)
    )
    assert tokens == written


def test_a_known_continuation_takes_few_passes():
    random.seed(0)
    final = [random.randrange(3, 1000) for _ in range(300)]
    changed = final[:150] + [7, 8] + final[151:]  # one token became two
    model = Scripted(final)
    completion = complete(final[:20], changed, Limits(1, 300, frozenset()), Speculation())
    prediction = None
    with pytest.raises(StopIteration):
        while True:
            prediction = model.predict(completion.send(prediction))
    assert model.passes < 20


def test_a_good_draft_saves_passes_of_the_target_and_changes_nothing():
    """The draft is the target itself; that its passes are cheap makes the search use it."""
    target, _ = make_pair("llama")
    answers, counts = [], []
    for guessing in (True, False):

        class Watched(Speculation):
            def __init__(self, prices, guessing=guessing):
                super().__init__(prices)
                self.has_draft = guessing
                for price, fixed, per_token in ((prices["target"], 30.0, 1.0), (prices["draft"], 3.0, 0.1)):
                    price.record = lambda *_: None
                    price.fixed, price.per_token = fixed, per_token
                counts.append(self.counts)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hf_autojudge.labeling.pair.Speculation", Watched)
            answers.append(find_important_tokens(target, target, some_prompts(6), same_outcome, 30, [2], 4))
    assert answers[0] == answers[1]
    assert counts[0]["draft"][0] == counts[0]["draft"][1] > 50 and "draft" not in counts[1]


def test_a_price_is_fitted_to_the_passes():
    price = PassPrice(per_token=1.0, overhead=500.0)
    random.seed(0)
    for _ in range(300):
        tokens = random.randrange(1, 300)
        price.record(tokens, 4, (0.14 + 0.004 * tokens) * random.uniform(0.9, 1.1))
    assert price.per_token == pytest.approx(0.004, rel=0.1) and price.fixed == pytest.approx(0.14, rel=0.1)
    for _ in range(300):
        price.record(64, 4, 0.8)  # the machine is busy, and all passes are alike
    assert price.fixed + 64 * price.per_token == pytest.approx(0.8, rel=0.05)
    assert price.fixed >= 0 and price.per_token > 0
