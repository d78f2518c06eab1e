"""Names become objects."""

import pytest

from hf_autojudge import KLRule, TopKRule
from hf_autojudge.cli.loading import parse_rule


def test_rules_are_parsed():
    assert parse_rule("topk:3") == TopKRule(3) and parse_rule("kl:0.25") == KLRule(0.25)
    for wrong in ("topk", "topk:x", "kl:-1", "mlp:3"):
        with pytest.raises(ValueError, match="--rule"):
            parse_rule(wrong)
