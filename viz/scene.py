"""What views are given and what they are made of, apart from the page that shows them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar

import holoviews as hv
import pandas as pd

from swarmjax.events import Event
from viz import metrics, theme
from viz.history import History
from viz.layout import Layouts
from viz.made import Made
from viz.others import Others

# What the whole life of a member or network comes to, beside the columns of the latest round.
LIFE = {"FLOPs spent": "spent", "gain of the network": "gain"}


T = TypeVar("T")


class Scene(NamedTuple):
    """All that a view may show.

    Attributes:
        history: the rounds so far.
        layouts: places of the members, by kind of similarity.
        members: the selected, in the order of their colours.
        look: colours.
        events: what was told of the run.
        others: runs beside this one.
        beside: names of the other runs that are compared.
        name: of this run.
        islands: what each did in the latest round; None where there are none.
        layers: of every architecture, see `swarmjax.telemetry`; None where none is told of.
        windows: gives the windows of training of some members; None where the run keeps none.
        made: what all pages of the run share; None: this one is by itself.
    """

    history: History
    layouts: Layouts
    members: tuple[int, ...]
    look: theme.Look
    events: tuple[Event, ...]
    others: Others
    beside: tuple[str, ...]
    name: str
    islands: pd.DataFrame | None = None
    layers: pd.DataFrame | None = None
    windows: Callable[[tuple[int, ...]], pd.DataFrame] | None = None
    made: Made | None = None

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives; pages of one run whose scenes are alike have it made only once.

        `key` stands for what is made, and for what it depends on beside this scene; it must not
        depend on `windows` or on what is found of `others`, which may change meanwhile.
        """
        if self.made is None:
            return make()
        told = (self.events[-1].id if self.events else 0, self.members, self.look, self.beside)
        return self.made.once(self.history, (key, told), make)


class Control(NamedTuple):
    """A choice that a view offers; `name` is the argument of its functions and its name in URLs."""

    name: str
    label: str
    options: dict[str, str]
    value: str


class View(NamedTuple):
    """What a card shows; its functions take the scene and, by name, the values of its controls.

    Attributes:
        name: its name in URLs.
        title: heading.
        controls: the choices it offers.
        table: the data, as a table: its twin in words, and what is exported.
        caption: what is shown, in HTML.
        plot: draws it; None: the table stands for itself.
        tap: members to select at the place of a tap.
        area: members within the corners of a box or lasso.
        axes: controls whose change makes another kind of figure.
        key: column that says what a row of the table selects: `member`, or `run`, an index into
            `Others.known`.
        hears: it shows events too, which come without a round.
        zooms: `plot` takes a `window`, what a person zoomed to, and draws that more finely.
        when: whether there is anything to show; else it does not stand on its tab.
        alone: it shows what each page finds by itself: other runs, or windows of training.
    """

    name: str
    title: str
    controls: Callable[[Scene], Sequence[Control]]
    table: Callable[..., pd.DataFrame]
    caption: Callable[..., str]
    plot: Callable[..., hv.Overlay] | None = None
    tap: Callable[..., Sequence[int]] | None = None
    area: Callable[..., Sequence[int]] | None = None
    axes: tuple[str, ...] = ()
    key: str = "member"
    hears: bool = False
    zooms: bool = False
    when: Callable[[Scene], bool] = lambda scene: True
    alone: bool = False


def first(scene: Scene) -> str:
    """The metric shown unless another is chosen."""
    return next(iter(metrics.selectable(scene.history).values()))


def choose_metric(scene: Scene, name: str, label: str, value: str = "") -> Control:
    """A choice among the metrics."""
    return Control(name, label, metrics.selectable(scene.history), value or first(scene))


def choose_any(scene: Scene, name: str, label: str, value: str) -> Control:
    """A choice among the metrics and what a whole life comes to."""
    return Control(name, label, metrics.selectable(scene.history) | LIFE, value)


def choose_gene(scene: Scene, name: str, label: str, place: int) -> Control:
    """A choice among the genes, that at `place` first, or the last if there are less."""
    names = [n for n, _ in scene.history.space.genes]
    options = {metrics.describe(n, scene.history.space).label: n for n in names}
    return Control(name, label, options, names[min(place, len(names) - 1)])
