"""Names become rules."""

import pytest

from hf_autojudge import CascadeRule, KLRule, TopKRule, TypicalRule, parse_rule


def test_rules_are_parsed():
    assert parse_rule("topk:3") == TopKRule(3) and parse_rule("kl:0.25") == KLRule(0.25)
    assert parse_rule("typical") == TypicalRule()
    assert parse_rule("typical:0.1,delta=0.5") == TypicalRule(0.1, 0.5)
    assert parse_rule("cascade:deferral=opt") == CascadeRule(deferral="opt")


@pytest.mark.parametrize(
    "text", ["topk", "topk:x", "topk:1.5", "kl:-1", "kl:1,tau=2", "kl:1,2,3", "kl:size=3", "mlp:3"]
)
def test_wrong_rules_are_refused(text):
    with pytest.raises(ValueError, match=f"^{text!r}") as caught:
        parse_rule(text)
    assert "\n" not in str(caught.value)
