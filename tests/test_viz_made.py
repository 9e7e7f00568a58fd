"""What is shown to many is made once, and never shown to whom it does not belong."""

from __future__ import annotations

import re

import holoviews as hv
import pytest
from bokeh.document import Document

from paper import viz_runs
from swarmjax.events import Event
from viz import ahead, graph, tab_swarm, theme
from viz import made as made_module
from viz.made import Made
from viz.others import Others
from viz.selection import Selection
from viz.source import Feed
from viz.views import Views

hv.extension("bokeh")


def test_everything_is_made_once_of_one_history():
    made, asked = Made(), []

    def make(text):
        return lambda: asked.append(text) or text

    one, other = object(), object()
    assert [made.once(one, key, make(key)) for key in ("a", "b", "a")] == ["a", "b", "a"]
    assert made.once(other, "a", make("c")) == "c"
    # A page may be one round behind, but not two.
    assert made.once(one, "a", make("d")) == "a"
    assert made.once(object(), "a", make("e")) == "e"
    assert made.once(one, "a", make("f")) == "f"
    assert asked == ["a", "b", "c", "e", "f"]


def test_no_more_is_held_than_pages_show():
    made, history = Made(), object()
    for number in range(1000):
        assert made.once(history, number, lambda number=number: number) == number
    assert len(made) == made_module.THINGS
    # The last ones.
    assert made.once(history, 999, lambda: "again") == 999
    assert made.once(history, 0, lambda: "again") == "again"


@pytest.mark.parametrize(
    "changes",
    [
        {"look": theme.DARK},
        {"members": (3,)},
        {"beside": ("other",)},
        {"events": (Event(7, 0.0, 1, "note", None, "x"),)},
    ],
)
def test_whatever_a_scene_shows_tells_what_was_made_apart(pages, changes):
    _, (one, _) = pages
    scene, asked = one.scene, []
    for each in (scene, scene._replace(**changes), scene):
        each.once("k", lambda each=each: asked.append(each))
    assert len(asked) == 2


@pytest.fixture
def run(tmp_path):
    run = viz_runs.Run(tmp_path / "run")
    run.advance(4)
    yield run
    run.writer.close()


@pytest.fixture
def pages(run):
    """Two pages of one server, and its feed."""
    feed = Feed(run.writer.directory, ahead.derive)
    feed.poll()
    made = []
    for _ in range(2):
        views = Views(
            feed.snapshot, Selection(), False, Others(feed.directory), "run", made=feed.made
        )
        views.draw()
        document = Document()
        document.add_root(views.body.get_root(document))
        made.append(views)
    yield feed, made
    feed.close()


def counted(monkeypatch):
    """Calls of the graph's plot, to be counted."""
    calls, plot = [], graph.plot

    def counting(*given, **options):
        calls.append(options["members"])
        return plot(*given, **options)

    monkeypatch.setattr(tab_swarm.graph, "plot", counting)
    return calls


def places(views):
    """What the drawn graph holds of the nodes."""
    (card,) = (card for card in views.cards if card.view.name == "graph")
    sources = [each.handles["source"].data for each in card.plot._drawn.subplots.values()]
    return [data["shade"].tolist() for data in sources if "shade" in data]


def test_pages_that_show_the_same_have_their_figures_made_once(run, pages, monkeypatch):
    feed, (one, other) = pages
    calls = counted(monkeypatch)
    run.advance(1)
    feed.poll()
    for views in (one, other):
        views.update(feed.snapshot)
    assert calls == [()]
    assert places(one) == places(other)


def test_a_page_that_is_not_drawn_yet_takes_what_is_new(run, pages, caplog):
    feed, _ = pages
    views = Views(feed.snapshot, Selection(), False, Others(feed.directory), "run", made=feed.made)
    views.draw()
    run.advance(1)
    feed.poll()
    views.update(feed.snapshot)
    document = Document()
    document.add_root(views.body.get_root(document))
    assert not caplog.records
    assert places(views)


def test_a_page_with_a_selection_of_its_own_has_its_own_figures(run, pages, monkeypatch):
    feed, (one, other) = pages
    calls = counted(monkeypatch)
    other.selection.replace([3])
    run.advance(1)
    feed.poll()
    for views in (one, other):
        views.update(feed.snapshot)
    assert calls == [(3,), (), (3,)]


def test_a_page_in_other_colours_has_its_own_captions(pages):
    _, (one, other) = pages
    other.repaint(True)
    one.draw()
    ramps = [views.captions["graph"].object for views in (one, other)]
    assert theme.LIGHT.ramp[0] in ramps[0] and theme.DARK.ramp[0] in ramps[1]


def test_a_choice_changes_one_page(pages):
    _, (one, other) = pages
    cards = {card.view.name: card for card in one.cards}
    cards["graph"].controls["color"].value = "steps"
    other.draw()
    assert places(one) != places(other)
    words = [views.captions["graph"].object for views in (one, other)]
    assert "steps" in words[0] and "steps" not in words[1]


def test_each_page_is_beside_the_runs_that_it_chose(pages, tmp_path):
    """On every card of the tab, whatever another page shows."""
    _, views = pages
    for name in "bc":
        run = viz_runs.Run(tmp_path / name)
        run.advance(3)
        run.writer.close()
    for each, name in zip(views, "bc", strict=True):
        each.others.names()
        each.beside = (name,)
        each.tab = "Compare"
        each._open()
        each.draw()
    for each, mine, other in zip(views, "bc", "cb", strict=True):
        each.draw()
        for card in each.cards:
            if card.plot is not None:
                table = " ".join(map(str, card.data().columns)) + card.data().to_string()
                assert re.search(rf"\b{mine}\b", table), card.view.name
                assert not re.search(rf"\b{other}\b", table), card.view.name
                texts = drawn_texts(card)
                assert mine in texts and other not in texts, card.view.name


def drawn_texts(card):
    """Names of runs that stand in a drawn figure."""
    found = set()
    for each in card.plot._drawn.subplots.values():
        found |= {str(text).strip() for text in each.handles["source"].data.get("text", ())}
    return found
