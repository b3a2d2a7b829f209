"""The one exception for a mistake the user can mend.

The command line prints it without a traceback and exits with code 2; a Python caller catches one type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something in the user's data, options, files or model is wrong.

    Args:
        what: what is wrong, in one sentence, naming the value.
        where: the file, row or option it concerns (``"pairs.jsonl:12"``, ``"--beta"``).
        fix: what to do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.fix}" if self.fix else head


def nearest(name: str, known: Iterable[str]) -> str:
    """A ``did you mean`` sentence for an unknown name, or the list of known names when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(names)
