"""The command `surgery`.

Never: what is not public, a few helpers apart; a command is what a user could have written.
"""

from surgery.cli.command import main
from surgery.cli.loading import example, load, load_model

__all__ = ["example", "load", "load_model", "main"]
