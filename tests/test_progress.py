import io
import re

import numpy as np
import pytest
from rich.console import Console

from swarmjax import space
from swarmjax.compiling import Programs
from swarmjax.progress import Silent, Terminal, best_tables, rounds
from swarmjax.store import Status

SPACE = space.Space(
    learning_rate=space.log_uniform(1e-4, 1e-1),
    weight_decay=space.log_uniform(1e-6, 1e-2),
    activation=space.choice("relu", "leaky_relu", "silu", "gelu", "tanh"),
    optimizer=space.choice("sgd", "momentum", "adam", "adamw"),
    depth=space.structure(1, 2, 3),
    width=space.structure(16, 32, 64, 128),
)
GENOME = {
    "learning_rate": np.float32([1e-4, 0.0123456, 0.1]),
    "weight_decay": np.float32([1.2345e-6, 1e-2, 1e-6]),
    "activation": np.int32([1, 0, 4]),
    "optimizer": np.int32([1, 3, 0]),
    "depth": np.int32([2, 0, 1]),
    "width": np.int32([3, 0, 1]),
}
COLUMNS = {
    "valid_accuracy": np.float32([0.987654, 0.5, np.nan]),
    "valid_loss": np.float32([0.0123456, 0.345678, np.nan]),
    "step": np.int32([200000, 10, 0]),
}


def shown(searched, genome, columns, order, width=80):
    """The text of the tables, and how many there are."""
    console = Console(width=width, record=True, file=io.StringIO())
    tables = best_tables(searched, genome, columns, order, width)
    for table in tables:
        console.print(table)
    return console.export_text(), len(tables)


def cells(text):
    """The words of every row under the heading."""
    lines = text.splitlines()
    rule = next(i for i, line in enumerate(lines) if "─" in line)
    return [line.split() for line in lines[rule + 1 :] if line.strip()]


def test_the_table_of_a_usual_run_fits_a_terminal():
    text, tables = shown(SPACE, GENOME, COLUMNS, [0, 1, 2])
    assert tables == 1 and "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    heading = " ".join(text.split("─")[0].split())
    for name in ("member", *COLUMNS, *GENOME):
        for word in name.split("_"):
            assert word in heading
    assert cells(text) == [
        ["0", "0.988", "0.0123", "200000", "0.0001", "1.23e-06", "leaky_relu", "momentum", "3",
         "128"],
        ["1", "0.5", "0.346", "10", "0.0123", "0.01", "relu", "adamw", "1", "16"],
        ["2", "nan", "nan", "0", "0.1", "1e-06", "tanh", "sgd", "2", "32"],
    ]  # fmt: skip


@pytest.mark.parametrize(("width", "tables"), [(80, 2), (60, 3), (40, 3), (120, 1)])
def test_no_value_is_broken_where_there_are_more_genes_than_fit(width, tables):
    searched = space.Space(**dict(SPACE.genes), kernel=space.structure(1, 3, 5))
    genome = GENOME | {"kernel": np.int32([2, 0, 1])}
    text, count = shown(searched, genome, COLUMNS, [0, 2], width)
    assert count == tables and "…" not in text
    assert max(map(len, text.splitlines())) <= width
    rows = [line.split() for line in text.splitlines() if line.split()[:1] in (["0"], ["2"])]
    assert len(rows) == 2 * tables
    first = [word for row in rows if row[0] == "0" for word in row[1:]]
    assert first == ["0.988", "0.0123", "200000", "0.0001", "1.23e-06", "leaky_relu", "momentum",
                     "3", "128", "5"]  # fmt: skip
    assert text.count("best members") == 1 and text.count("their genes") == tables - 1


def test_a_column_wider_than_the_terminal_is_folded():
    searched = space.Space(kind=space.structure("x" * 50, "y"))
    text, _ = shown(searched, {"kind": np.int32([0])}, {"valid_loss": np.float32([0.5])}, [0], 30)
    assert text.count("x") == 50 and max(map(len, text.splitlines())) <= 30


def test_the_order_is_the_one_given():
    assert [row[0] for row in cells(shown(SPACE, GENOME, COLUMNS, [2, 0])[0])] == ["2", "0"]
    assert cells(shown(SPACE, GENOME, COLUMNS, [])[0]) == []


@pytest.mark.parametrize(
    "option", ["[bold]loud[/bold]", "[/]", "[link=x]y", "\\[red]", "a\\", ":bug:", "[[x]]", "1.5"]
)
def test_markup_in_names_and_options_is_shown_as_it_is(option):
    searched = space.Space(kind=space.structure(option, "other"))
    scores = {f"{option}!": np.float32([0.5])}
    text, _ = shown(searched, {"kind": np.int32([0])}, scores, [0])
    assert cells(text) == [["0", "0.5", option]]
    assert f"{option}!" in text


def test_notes_are_shown_as_they_are():
    console = Console(width=80, file=(out := io.StringIO()))
    with Terminal(console) as display:
        for line in ("2 programs for [1, 2] and [/x]", "task :bug:", "C:\\runs\\[a]\\"):
            display.note(line)
            assert line in out.getvalue()


def status(**changes):
    usual = Status("running", 3, 1500, 20_000, 0.98765, 7, 8, 0.0)
    return usual._replace(**changes)


def test_the_bar_works_where_there_is_no_terminal():
    console = Console(width=120, file=(out := io.StringIO()))
    assert not console.is_terminal
    with Terminal(console) as display:
        display.show(status(best=None, done=0, round=0))
        display.note("a decision")
        display.show(status())
    text = out.getvalue()
    assert "a decision" in text
    assert "\x1b" not in text, "no colour codes in a log file"
    last = " ".join(text.split("a decision")[1].split())
    for part in ("round 3", "1,500/20,000 member-steps", "best 0.9877", "7/8 alive"):
        assert part in last
    assert "lineages" not in last


def test_where_there_is_no_terminal_a_line_tells_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("swarmjax.progress.time.monotonic", lambda: now[0])
    console = Console(width=120, file=(out := io.StringIO()))
    with Terminal(console) as display:
        for number, seconds in enumerate((0.0, 9.0, 11.0, 12.0, 30.0)):
            now[0] = seconds
            display.show(status(round=number))
        told = [line for line in out.getvalue().splitlines() if line.startswith("round")]
    usual = "1,500 of 20,000 member-steps, best 0.9877, 7 of 8 alive"
    assert told == [f"round {number}: {usual}" for number in (0, 2, 4)]


def test_rounds_are_counted_by_lines_or_a_bar():
    console = Console(width=80, file=(out := io.StringIO()))
    with rounds(console) as tell:
        for done in (3, 4, 5):
            tell(done, 5)
    assert out.getvalue() == "round 3 of 5\nround 5 of 5\n"
    console = Console(width=80, file=(out := io.StringIO()), force_terminal=True)
    with rounds(console) as tell:
        tell(3, 5)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "round 3 of 5" in shown
    assert not out.getvalue().endswith("of 5\n"), "the bar goes away"


def test_before_a_run_there_is_no_bar():
    console = Console(width=120, file=(out := io.StringIO()), force_terminal=True)
    with Terminal(console) as display:
        display._bar.refresh()
        display.note("compiling")
        assert "round" not in out.getvalue() and "member-steps" not in out.getvalue()
        display.show(status(done=0, round=0, best=None))
        display._bar.refresh()
        assert "0/20,000 member-steps" in out.getvalue()


def test_the_bar_counts_lineages():
    console = Console(width=140, file=(out := io.StringIO()))
    with Terminal(console) as display:
        display.show(status(lineages=3))
    assert "7/8 alive of 3 lineages" in " ".join(out.getvalue().split())


def test_a_line_tells_what_is_being_compiled_as_long_as_it_is():
    console = Console(width=80, file=(out := io.StringIO()), force_terminal=True)

    def seen(display, programs):
        display.compiling(programs)
        display._bar.refresh()
        shown = out.getvalue()
        out.seek(0)
        out.truncate()
        return shown

    with Terminal(console) as display:
        assert "compiling" not in seen(display, Programs())
        assert "compiling 2 of 5 programs, 0 s" in seen(display, Programs(5, 3))
        display._bar.since -= 7.0
        assert "compiling 1 of 5 programs, 7 s" in seen(display, Programs(5, 4))
        assert "compiling" not in seen(display, Programs(5, 5))
        assert "compiling 1 of 6 programs, 0 s" in seen(display, Programs(6, 5))


def test_no_figure_is_cut_off_in_a_narrow_terminal():
    console = Console(width=80, file=(out := io.StringIO()))
    with Terminal(console) as display:
        display.show(status(done=19_000, alive=64, members=64))
    assert "19,000/20,000 member-steps best 0.9877 64/64 alive" in out.getvalue()
    assert "…" not in out.getvalue()


@pytest.mark.parametrize("changes", [{"best": None}, {"best": float("nan")}, {"budget": 0}])
def test_the_bar_shows_what_is_not_known(changes):
    console = Console(width=120, file=(out := io.StringIO()))
    with Terminal(console) as display:
        display.show(status(**changes))
    assert f"best {'-' if changes.get('best', 0) is None else ''}" in out.getvalue()


def test_the_bar_is_put_away_when_training_fails():
    console = Console(width=120, file=(out := io.StringIO()))
    with pytest.raises(RuntimeError, match="no memory"), Terminal(console) as display:
        display.show(status())
        raise RuntimeError("no memory")
    assert "round 3" in out.getvalue()
    with Terminal(console) as display:
        display.show(status(round=4))
    assert "round 4" in out.getvalue(), "the console is free for another one"


def test_silence(capsys):
    with Silent() as display:
        display.show(status())
        display.note("nothing")
        display.compiling(Programs(2, 1))
    assert capsys.readouterr() == ("", "")
    with pytest.raises(RuntimeError), Silent():
        raise RuntimeError
