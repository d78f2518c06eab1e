"""A judge's folder, and its model card."""

from hf_autojudge.hub.card import write_card
from hf_autojudge.hub.folder import save_judge

__all__ = ["save_judge", "write_card"]
