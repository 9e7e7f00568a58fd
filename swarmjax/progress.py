"""What a person sees in the terminal while a swarm trains, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
from rich import box
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from swarmjax.compiling import Programs
from swarmjax.space import Option, Space
from swarmjax.store import Status
from swarmjax.types import Array, Genome


class Display(Protocol):
    """Told what happens; used as a context manager around the run."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *error: object) -> None: ...

    def note(self, text: str) -> None:
        """A line about a decision or an event."""
        ...

    def show(self, status: Status) -> None:
        """How the run stands after a round."""
        ...

    def compiling(self, programs: Programs) -> None:
        """A program is being compiled, or is ready; may be called from any thread."""
        ...


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Ignores the line."""

    def show(self, status: Status) -> None:
        """Ignores the status."""

    def compiling(self, programs: Programs) -> None:
        """Ignores the programs."""


class _Bar(Progress):
    """A bar with a line below it while something is compiled."""

    programs, since = Programs(), 0.0

    def get_renderables(self) -> Iterable[RenderableType]:
        """Asked for ten times a second, so that the seconds run."""
        yield from super().get_renderables()
        busy = self.programs.begun - self.programs.ready
        if busy > 0:
            seconds = time.monotonic() - self.since
            text = f"compiling {busy} of {self.programs.begun} programs, {seconds:.0f} s"
            yield Text(text, style="dim")


# Columns from which on there is room for how many lineages are left.
_WIDE = 100


class Terminal:
    """A live bar: round, member-steps of the budget, best score, members alive, time left."""

    def __init__(self, console: Console | None = None):
        """Draws on `console`, by default the standard error stream."""
        self._console = console or Console(stderr=True)
        self._bar = _Bar(
            SpinnerColumn(),
            TextColumn("round {task.fields[round]}"),
            # The bar takes what the figures leave, so that none of them is cut off.
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} member-steps"),
            TextColumn("best {task.fields[best]}"),
            TextColumn("{task.fields[alive]} alive{task.fields[lineages]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            expand=True,
        )
        self._task = self._bar.add_task("run", total=1, round=0, best="-", alive="-", lineages="")

    def __enter__(self) -> Terminal:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Prints the line above the bar."""
        self._bar.console.print(Text(text), style="dim", highlight=False)

    def show(self, status: Status) -> None:
        """Moves the bar."""
        best = "-" if status.best is None else f"{status.best:.4f}"
        self._bar.update(
            self._task, completed=status.done, total=status.budget, round=status.round, best=best,
            alive=f"{status.alive}/{status.members}",
            lineages=self._lineages(status),
        )  # fmt: skip

    def _lineages(self, status: Status) -> str:
        # In a narrow window the bar and the time left come first.
        if status.lineages is None or self._console.width < _WIDE:
            return ""
        return f" of {status.lineages} lineages"

    def compiling(self, programs: Programs) -> None:
        """Shows a line as long as programs are being compiled."""
        before = self._bar.programs
        if before.begun <= before.ready:
            self._bar.since = time.monotonic()
        self._bar.programs = programs


def best_table(
    space: Space, genome: Genome, columns: Mapping[str, Array], order: list[int]
) -> Table:
    """The members `order`, best first: their scores in `columns` (`[N]` each) and their genes."""
    table = Table(
        title="best members", title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False
    )
    for name in ("member", *columns, *dict(space.genes)):
        # One word a line: rich would narrow columns of values before it breaks a name.
        table.add_column(Text(name.replace("_", "\n")), justify="right", overflow="fold")
    for member in order:
        values = space.values(genome, member).values()
        scores = [np.asarray(column)[member].item() for column in columns.values()]
        table.add_row(str(member), *map(_text, scores), *map(_text, values))
    return table


def _text(value: Option) -> Text:
    """A cell. As Text, since in a string rich would read markup and names of emoji."""
    return Text(f"{value:.3g}" if isinstance(value, float) else str(value))
