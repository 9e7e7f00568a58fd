"""The paper as PDF: its text, filled with what was measured, set by Typst."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from paper import drawings, facts
from paper.measure import ROOT, need, progress, write_json

TEXT = ROOT / "paper" / "text"


def make(measured: Iterable[facts.Measured], folder: Path) -> Path:
    """Writes figures, `facts.json` and `paper.pdf` into `folder`; the path of the PDF.

    Raises:
        MissingPeer: Typst or matplotlib is not installed.
    """
    need("typst", "matplotlib")
    import typst

    rows = list(measured)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    drawn = drawings.draw(rows, folder / "figures")
    told = facts.gather(rows, facts.promised()) | {"figures": drawn}
    write_json(folder / "facts.json", told)
    for path in TEXT.iterdir():
        shutil.copy(path, folder)
    pdf = folder / "paper.pdf"
    typst.compile(str(folder / "paper.typ"), output=str(pdf), root=str(folder))
    progress(f"the paper is {pdf}")
    return pdf
