import json
import re
import sys
import textwrap

import psutil
import pytest

from paper import document, drawings, facts, reproduce

MACHINE = {
    "cpu": "AMD", "cores": 2, "memory_gib": 24.0, "gpu": [], "python": "3.11.7",
    "versions": {"jax": "0.10.2"}, "commit": "0123456789abcdef", "date": "2026-01-02T00:00:00Z",
}  # fmt: skip


def bar(name, value, met=True):
    return {"name": name, "value": value, "target": ">=2", "met": met, "reason": ""}


def record(raw=None, bars=()):
    times = {"load_before": 0.1, "load_after": 0.2, "seconds": 3.0}
    return {**times, "raw": raw, "bars": list(bars)}


def write(folder, name, rows, quick=False, **machine):
    folder.mkdir(exist_ok=True)
    held = {"machine": MACHINE | machine, "quick": quick, "rows": rows}
    (folder / name).write_text(json.dumps(held))


def gains(value):
    each = {"value": value, "low": value - 0.001, "high": value + 0.001}
    scores = {"swarm": each, "pbt": each}
    return {
        task: {"gains": {"pbt": each}, "ensemble_gains": {"pbt": each}, "test": scores}
        for task in ("spirals", "teacher")
    }


def test_the_latest_measurement_of_each_row_counts(tmp_path):
    write(tmp_path, "engine-a.json", {"loops": record([1], [bar("x", 1.0)]), "cnn": record([2])})
    later = {"date": "2026-02-01T00:00:00Z"}
    write(tmp_path, "engine-b.json", {"loops": record([3], [bar("x", 2.0)])}, **later)
    # What failed later on does not hide what was measured.
    write(tmp_path, "engine-c.json", {"cnn": record(None)}, date="2026-03-01T00:00:00Z")
    (tmp_path / "engine-d.json").write_text("{")
    (tmp_path / "other.json").write_text('["rows"]')
    found = {m.row: m.record["raw"] for m in facts.read(tmp_path)}
    assert found == {"loops": [3], "cnn": [2]}
    gathered = facts.gather(facts.read(tmp_path))
    assert gathered["bars"]["x"]["value"] == 2.0 and gathered["met"] == ["x"]
    assert gathered["rows"]["engine/loops"]["date"] == later["date"]


def test_met_missed_and_unmeasured_bars_are_told_apart(tmp_path):
    bars = [bar("a", 3.0), bar("b", 1.0, False), bar("c", None, False)]
    write(tmp_path, "engine-a.json", {"loops": record([1], bars)}, quick=True)
    gathered = facts.gather(facts.read(tmp_path))
    assert (gathered["met"], gathered["missed"], gathered["unmeasured"]) == (["a"], ["b"], ["c"])
    assert gathered["quick"] == ["engine/loops"]
    told = facts.gather(facts.read(tmp_path), ("a", "d"))
    assert told["unmeasured"] == ["c", "d"]


def test_outcomes_of_single_seeds_are_not_in_the_facts(tmp_path):
    raw = {"spirals": {"gains": {"a": 1}, "outcomes": {"a": [1, 2]}}, "many": list(range(100))}
    write(tmp_path, "search-a.json", {"searches": record(raw)})
    assert facts.gather(facts.read(tmp_path))["raw"]["search/searches"] == {
        "spirals": {"gains": {"a": 1}}, "many": 100
    }  # fmt: skip


def test_figures_whose_rows_are_absent_are_left_out(tmp_path):
    rows = {
        "links": record(gains(0.01)),
        "layouts": record({"64x16": {}}),
    }
    write(tmp_path / "r", "ablations-a.json", rows)
    policies = {n: {"cold": 1.0, "warm": [0.1, 0.2], "found": n} for n in ("16", "256")}
    write(tmp_path / "r", "scaling-a.json", {"policies": record(policies)})
    assert drawings.draw(facts.read(tmp_path / "r"), tmp_path) == ["scaling", "links"]
    assert {path.name for path in tmp_path.glob("*.svg")} == {"scaling.svg", "links.svg"}


def test_a_paper_is_made_of_whatever_was_measured(tmp_path):
    rows = {"searches": record(gains(0.01), [bar("better-than-pbt", 2)])}
    write(tmp_path / "r", "search-a.json", rows, quick=True)
    pdf = document.make(facts.read(tmp_path / "r"), tmp_path / "out")
    assert pdf.read_bytes()[:5] == b"%PDF-" and len(pdf.read_bytes()) > 50_000
    assert json.loads((pdf.parent / "facts.json").read_text())["quick"]


def race():
    trial = {
        "cold": 9.0, "warm": 8.0, "seconds": 9.0, "cpu_seconds": 5.0, "scaled": False,
        "reached": 3.0, "reached_warm": 2.0, "member_steps": 100, "valid": 0.9, "test": 0.8,
        "curve": [[1.0, 0, None], [9.0, 100, 0.9]],
    }  # fmt: skip
    case = {"task": "digits", "space": {}, "members": 4, "steps": 25, "round_steps": 5}
    return {"case": case, "trials": {"swarmjax": [trial], "vmap": [trial]}, "absent": {}}


def test_peers_stand_in_the_paper_and_rows_that_were_quick_are_named(tmp_path):
    rows = {
        "small-ray": record(race() | {"ratios": {"wall": 3.0, "cpu": 2.0}}, [bar("small-ray", 3)]),
        "target-spirals": record(race() | {"target": 0.85}),
        "steps": record({"200": race()}),
    }
    write(tmp_path / "r", "peers-a.json", rows, quick=True)
    write(tmp_path / "r", "search-a.json", {"searches": record(gains(0.01))})
    folder = document.make(facts.read(tmp_path / "r"), tmp_path / "out").parent
    told = json.loads((folder / "facts.json").read_text())
    assert set(told["figures"]) == {"peers-crossover", "peers-races"}
    assert told["reached"]["target-spirals"]["vmap"]["seconds"] == 3.0
    assert told["quick"] == ["peers/small-ray", "peers/steps", "peers/target-spirals"]


# What may hold digits in the text: calls, keys of citations, references, and what is layout.
CALL = re.compile(
    r'#\w[\w-]*(\.\w[\w-]*)*(\((?:[^()]|\([^()]*\))*\))?|@[\w-]+|<[\w-]+>|"[^"]*"'
    r"|\bcolumns: \d\b|\bwidth: \d+%|\b[\d.]+(pt|em)\b"
)


def test_no_number_of_the_text_is_typed():
    text = (document.TEXT / "paper.typ").read_text()
    typed = [line for line in text.splitlines() if re.search(r"\d", CALL.sub("", line))]
    assert typed == []
    words = (
        "eleven twelve fifteen sixteen twenty thirty forty fifty hundred thousand million percent"
    )
    found = re.findall(rf"\b({'|'.join(words.split())})\b", text.lower())
    assert found == []


def test_every_bar_that_the_text_names_is_one_of_a_benchmark():
    text = (document.TEXT / "paper.typ").read_text()
    named = set(re.findall(r'#(?:bar|target|verdict)\("([\w-]+)"\)', text))
    assert set(reproduce.STAGES) == set(facts.BENCHES)
    known = facts.promised()
    assert named and named <= known


def test_stages_run_their_benchmarks_and_the_paper_is_made_whatever_the_bars_say(
    tmp_path, monkeypatch
):
    ran = []

    def in_time(command, limit):
        ran.append((command[2:3], command[5:], limit))
        if "bench_engine" in command[2]:
            (tmp_path / "results" / "engine-quick.json").write_text("{}")
        return True

    made = []
    monkeypatch.setattr(reproduce, "patience", lambda: 1.5)
    monkeypatch.setattr(reproduce, "in_time", in_time)
    monkeypatch.setattr(document, "make", lambda rows, folder: made.append(folder))
    stages = {"engine": reproduce.Stage(("loops",), (9, 2)), "search": reproduce.STAGES["search"]}
    code = reproduce.main(["--quick", "--out", str(tmp_path)], stages)
    # The search left no record.
    assert code == 1 and made == [tmp_path]
    assert ran[0] == (["paper.bench_engine"], ["--quick", "--only", "loops"], 180)
    assert reproduce.main(["--out", str(tmp_path), "--only", "engine", "--quick"], stages) == 0
    assert reproduce.main(["--out", str(tmp_path), "--only", "text"], stages) == 0
    assert len(ran) == 3 and len(made) == 3


def ended(process):
    """Whether it is gone, or only waits for whoever inherited it."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_stage_that_hears_nothing_is_ended_with_what_it_started(tmp_path, monkeypatch):
    program = """
    import pathlib, signal, subprocess, sys, time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pathlib.Path(sys.argv[1]).write_text(str(child.pid))
    time.sleep(60)
    """
    told = tmp_path / "child"
    monkeypatch.setattr(reproduce, "_GRACE", 2.0)
    command = [sys.executable, "-c", textwrap.dedent(program), str(told)]
    assert not reproduce.in_time(command, 10.0)
    assert ended(int(told.read_text()))


def test_a_stage_that_hangs_is_stopped_with_what_it_started(tmp_path, monkeypatch):
    program = """
    import subprocess, sys, time, pathlib
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        pathlib.Path(sys.argv[1]).write_text(str(child.pid))
        time.sleep(60)
    finally:
        child.kill()
        child.wait()
    """
    told = tmp_path / "child"
    command = [sys.executable, "-c", textwrap.dedent(program), str(told)]
    assert not reproduce.in_time(command, 10.0)
    assert ended(int(told.read_text()))
    assert reproduce.in_time([sys.executable, "-c", "raise SystemExit(1)"], 60.0)
    monkeypatch.setattr(reproduce, "in_time", lambda command, limit: False)
    assert not reproduce.run("engine", reproduce.STAGES["engine"], True, tmp_path)


@pytest.mark.parametrize("name", reproduce.STAGES)
def test_quick_stages_name_rows_of_their_benchmarks(name):
    import importlib

    bench = importlib.import_module(f"paper.bench_{name}")
    assert set(reproduce.STAGES[name].rows) <= set(bench.ROWS)
    assert reproduce.main.__doc__ and reproduce.STAGES[name].minutes[1] <= 6
