"""What a person sees in the terminal while a swarm trains, and the table at the end."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
from rich import box
from rich.cells import cell_len
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


# Seconds between two lines where no bar can move.
_PAUSE = 10.0


class _Lines:
    """Prints how far something is, now and then, where there is no terminal to draw a bar on."""

    def __init__(self, console: Console):
        self._console, self._since = console, -math.inf

    def tell(self, text: str, last: bool = False) -> None:
        """Prints it, unless something was printed just before and this is not the last."""
        now = time.monotonic()
        if not self._console.is_terminal and (last or now - self._since >= _PAUSE):
            self._since = now
            self._console.print(Text(text), highlight=False)


@contextlib.contextmanager
def rounds(console: Console | None = None) -> Iterator[Callable[[int, int], None]]:
    """A bar, or lines, of rounds that are done: to be told how many, and of how many."""
    console = console or Console(stderr=True)
    lines = _Lines(console)
    columns = SpinnerColumn(), TextColumn("round {task.completed} of {task.total}"), BarColumn()
    bar = Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("rounds", visible=False)

        def tell(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of, visible=True)
            lines.tell(f"round {done} of {of}", done == of)

        yield tell


# The heading of a column, and its cells.
Cells = tuple[str, list[str]]

# Columns from which on there is room for how many lineages are left.
_WIDE = 100


class Terminal:
    """A live bar: round, member-steps of the budget, best score, members alive, time left."""

    def __init__(self, console: Console | None = None):
        """Draws on `console`, by default the standard error stream."""
        self._console = console or Console(stderr=True)
        self._lines = _Lines(self._console)
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
        # Nothing is known of the run before its first status.
        self._task = self._bar.add_task("run", visible=False)

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
            self._task, visible=True, completed=status.done, total=status.budget,
            round=status.round, best=best,
            alive=f"{status.alive}/{status.members}",
            lineages=self._lineages(status),
        )  # fmt: skip
        self._lines.tell(
            f"round {status.round}: {status.done:,} of {status.budget:,} member-steps, "
            f"best {best}, {status.alive} of {status.members} alive"
        )

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


def best_tables(
    space: Space, genome: Genome, columns: Mapping[str, Array], order: list[int], width: int
) -> list[Table]:
    """The members `order`, best first: their scores in `columns` (`[N]` each) and their genes.

    One table where `width` characters are enough for it, else one for scores and one or more for
    genes, since a number that is broken into lines is hard to read.
    """
    values = [space.values(genome, member) for member in order]
    genes = [(name, [_text(each[name]) for each in values]) for name, _ in space.genes]
    scores = [
        (name, [_text(np.asarray(column)[member].item()) for member in order])
        for name, column in columns.items()
    ]
    member = ("member", [str(member) for member in order])
    if _width(everything := [member, *scores, *genes]) <= width:
        return [_table("best members", everything)]
    parts = [("best members", part) for part in _parts(member, scores, width)]
    parts += [("their genes", part) for part in _parts(member, genes, width)]
    return [_table(title, part) for title, part in parts]


def _parts(first: Cells, others: list[Cells], width: int) -> list[list[Cells]]:
    """Columns side by side, `first` before each part, as many in each as fit."""
    parts = [[first]]
    for column in others:
        if len(parts[-1]) > 1 and _width([*parts[-1], column]) > width:
            parts.append([first])
        parts[-1].append(column)
    return parts


def _width(columns: list[Cells]) -> int:
    """Characters of a table of these columns, each as wide as its widest word or cell."""
    widest = (max(map(cell_len, [*name.split("_"), *cells])) for name, cells in columns)
    return sum(widest) + len(columns) - 1


def _table(title: str, columns: list[Cells]) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False
    )
    for name, _ in columns:
        # One word a line: rich would narrow columns of values before it breaks a name.
        table.add_column(Text(name.replace("_", "\n")), justify="right", overflow="fold")
    for row in zip(*(cells for _, cells in columns), strict=True):
        # As Text, since in a string rich would read markup and names of emoji.
        table.add_row(*map(Text, row))
    return table


def _text(value: Option) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
