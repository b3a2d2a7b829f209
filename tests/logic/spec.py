"""The sixteen losses written out by hand, independent of the library's translation."""

# ruff: noqa: E741 - the letters of the paper
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings

quick = settings(max_examples=60, deadline=None)
Ratio = Callable[[Any, Any], tuple[Any, Any]]

CLOSED: dict[str, Ratio] = {
    "CEUNL": lambda w, l: (w * (1 - l), 1 - w * (1 - l)),
    "CE": lambda w, l: (w, 1 - w),
    "sCE": lambda w, l: (w, 1 - w * (1 - l)),
    "l3": lambda w, l: (w * (1 - l), 1 - w),
    "fUNL": lambda w, l: (1 - l, l),
    "cUNL": lambda w, l: (w * (1 - l), l),
    "l20": lambda w, l: (1 - l, 1 - w * (1 - l)),
    "CPO": lambda w, l: (w, l),
    "ORPO": lambda w, l: (w * (1 - l), l * (1 - w)),
    "cCPO": lambda w, l: (w, l * (1 - w)),
    "unCPO": lambda w, l: (w * l + 1 - l, l * (1 - w)),
    "cfUNL": lambda w, l: (1 - l, l * (1 - w)),
    "qfUNL": lambda w, l: (1 - l, 1 - w),
    "bCPO": lambda w, l: (w * l + 1 - l, 1 - w),
    "l14": lambda w, l: (w * l + 1 - l, l),
    "l5": lambda w, l: (w * l + 1 - l, 1 - w * (1 - l)),
}
"""Name -> top and bottom of exp rho."""

FORMULAS: dict[str, tuple[str, str, str]] = {
    "CEUNL": ("Mw & ~Ml", "true", "false"),
    "CE": ("Mw", "true", "false"),
    "sCE": ("Mw", "true", "Mw & Ml"),
    "l3": ("Mw", "~Ml | ~Mw", "false"),
    "fUNL": ("~Ml", "true", "false"),
    "cUNL": ("~Ml", "Mw | Ml", "false"),
    "l20": ("~Ml", "true", "~Mw & ~Ml"),
    "CPO": ("Ml -> Mw", "Mw | Ml", "Mw & Ml"),
    "ORPO": ("Ml -> Mw", "Mw ^ Ml", "false"),
    "cCPO": ("Ml -> Mw", "Mw | Ml", "false"),
    "unCPO": ("Ml -> Mw", "true", "false"),
    "cfUNL": ("Ml -> Mw", "~Ml | ~Mw", "false"),
    "qfUNL": ("Ml -> Mw", "~Ml | ~Mw", "~Mw & ~Ml"),
    "bCPO": ("Ml -> Mw", "true", "~Mw & ~Ml"),
    "l14": ("Ml -> Mw", "true", "Mw & Ml"),
    "l5": ("Ml -> Mw", "true", "Mw <-> Ml"),
}
"""Name -> P, P_C, P_A as the paper has them."""

RHO = {
    "ORPO": -0.4418327522790392,
    "cCPO": 0.06899287148695142,
    "unCPO": 0.9444616088408515,
    "cfUNL": 0.7621400520468967,
    "CPO": -0.2876820724517809,
    "CE": -0.8472978603872036,
    "sCE": -1.0055218656020977,
    "l3": -1.3581234841531942,
    "CEUNL": -1.5163474893680884,
    "cUNL": -0.7985076962177716,
    "fUNL": 0.4054651081081644,
    "l20": -0.31237468504215243,
    "qfUNL": -0.15415067982725822,
    "bCPO": 0.02817087696669644,
    "l14": 0.5877866649021191,
    "l5": -0.13005312824819779,
}
"""rho at p_w = 0.3, p_l = 0.4."""

EDGES = {
    "CEUNL": "l20 cUNL sCE l3",
    "l20": "fUNL qfUNL l5",
    "cUNL": "fUNL ORPO CPO",
    "sCE": "CPO l5 CE",
    "l3": "qfUNL ORPO CE",
    "fUNL": "cfUNL l14",
    "CE": "bCPO cCPO",
    "qfUNL": "bCPO cfUNL",
    "ORPO": "cfUNL cCPO",
    "l5": "bCPO l14",
    "CPO": "cCPO l14",
    "bCPO": "unCPO",
    "cfUNL": "unCPO",
    "cCPO": "unCPO",
    "l14": "unCPO",
}
"""Name -> the losses just looser."""
