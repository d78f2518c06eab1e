"""Save a judge and its reports to a folder, and write its model card, ready for the Hub."""

from hf_autojudge.hub.card import write_card
from hf_autojudge.hub.folder import save_judge

__all__ = ["save_judge", "write_card"]
