"""Save a judge and its reports to a folder, write its model card, and upload the folder to the Hub."""

from hf_autojudge.hub.card import write_card
from hf_autojudge.hub.folder import push_judge, save_judge

__all__ = ["push_judge", "save_judge", "write_card"]
