"""The architecture as a test: who may import whom, and what no file may contain."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module imports only from rows above its own. A new module is added to the lowest row it can be.
LAYERS = (
    {"errors", "stopping", "backlog"},
    {"types", "compiling", "ipc", "clock", "channels", "steering"} | {"naming", "tenure"},
    set("extremes space activations placement corpus data memory resources matching dials".split())
    | {"records", "rabbit", "kafka", "spool", "ntp", "ledger", "levels", "segments", "checkpoints"}
    | {"seals"},
    {"models", "optimizers", "tasks", "machine", "convolution", "padded", "rescue"}
    | {"directives", "parcels", "windows", "bus", "outbox", "usage", "listener", "profiles"}
    | {"bulletins", "events"},
    {"robustness", "mlp", "cnn", "transformer", "nnx_family", "crossover"}
    | {"inbox", "recorder", "probe", "node_windows"},
    {"families", "nodes", "peers", "steerable"},
    {"similarity", "resize", "fitness", "policy", "cohorts", "fleet"},
    {
        "members",
        "allocate",
        "constraints",
        "pareto",
        "tune",
        "bandits",
        "samplers",
        "mating",
        "obey",
        "anomaly",
        "succession",
        "chains",
    },
    {"topology", "following"},
    {"containers", "decisions"},
    {"goals", "node_trainer", "halving", "projection", "healing", "strain", "diversity", "evolve"},
    {"stacks", "training", "watch", "coming", "swarm"},
    {"anatomy", "descent"},
    {"population", "telemetry", "store", "presets", "heeding", "weights", "elsewhere"},
    {"island_protocol", "lanes", "progress", "helm", "stored", "links", "reopening", "dealing"},
    {"capacity", "frames", "trial", "excerpts", "vetted"},
    {"pace", "curves", "holding", "moving", "relay", "mirror"},
    {"planner", "journal", "keeping"},
    {"train"},
    {"rehearse", "mixed", "remote", "island"},
    {"experiment", "convoy"},
    {"result", "commands", "rounds", "archipelago"},
    {"ensemble", "spoken", "replaying", "champion", "island_process"},
    {"resuming", "outcome", "proof", "crew"},
    {"run", "islands"},
    {"cli"},
    {"__main__"},
)
ROW = {module: row for row, modules in enumerate(LAYERS) for module in modules}
SEEN_BY_VIZ = set("types space similarity anomaly store stored bus clock fitness".split())
SEEN_BY_VIZ |= {"steering", "steerable", "ledger", "events", "topology", "levels"}
UNSAFE = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
VAGUE = {"util", "utils", "helper", "helpers", "common", "misc"}


def imported(source, package):
    """`(dotted name, whether at module level)` of everything that `source` imports."""
    found = []

    def visit(node, top):
        if isinstance(node, ast.Import):
            found.extend((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = ([package] if node.level else []) + ([node.module] if node.module else [])
            base = ".".join(parts)
            inside = base in ("swarmjax", "viz", "experiments", "paper")
            names = [f"{base}.{alias.name}" for alias in node.names] if inside else [base]
            found.extend((name, top) for name in names)
        inner = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(ast.parse(source), True)
    return found


def layer_faults(module, source):
    """What is wrong with the imports of `swarmjax/<module>.py`."""
    if module not in ROW:
        return [f"{module} is not in the layer table; add it to LAYERS in {Path(__file__).name}"]
    faults = []
    for name, top in imported(source, "swarmjax"):
        package, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if package in ("viz", "experiments", "paper", "tests") and (top or module != "cli"):
            faults.append(f"{module} imports {name}; only a function of cli may")
        elif package == "swarmjax" and other not in ROW:
            faults.append(f"{module} imports {name}, which is no module of the layer table")
        elif package == "swarmjax" and ROW[other] >= ROW[module]:
            faults.append(f"{module} imports {other}, which is not in a lower layer")
    return faults


def viz_faults(module, source):
    """What is wrong with the imports of `viz/<module>.py`."""
    faults = []
    for name, _ in imported(source, "viz"):
        package, _, rest = name.partition(".")
        if package == "swarmjax" and rest.partition(".")[0] not in SEEN_BY_VIZ:
            faults.append(f"viz/{module} imports {name}; it may see {sorted(SEEN_BY_VIZ)}")
        if package in ("experiments", "paper", "tests"):
            faults.append(f"viz/{module} imports {name}")
    return faults


def unsafe_faults(source):
    """Every way in which `source` reads or writes pickles."""
    faults = [name for name, _ in imported(source, "") if name.partition(".")[0] in UNSAFE]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                faults.append("allow_pickle")
    return faults


def cycle(edges):
    """A name that reaches itself along `edges`, or None."""
    for start in edges:
        reached, queue = set(), list(edges[start])
        while queue:
            name = queue.pop()
            if name not in reached:
                reached.add(name)
                queue.extend(edges.get(name, ()))
        if start in reached:
            return start
    return None


def modules(package):
    return sorted(path for path in (ROOT / package).glob("*.py") if path.stem != "__init__")


def sources():
    packages = ("swarmjax", "viz", "experiments", "paper")
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules("swarmjax"), ids=lambda path: path.stem)
def test_a_module_imports_only_from_lower_layers(path):
    assert layer_faults(path.stem, path.read_text()) == []


def test_the_package_itself_loads_no_dashboard_or_experiment():
    names = imported((ROOT / "swarmjax" / "__init__.py").read_text(), "swarmjax")
    assert {name.partition(".")[0] for name, _ in names} <= {"lazy_loader", "sys", "types"}


@pytest.mark.parametrize("path", modules("viz"), ids=lambda path: path.stem)
def test_the_dashboard_sees_only_its_part(path):
    assert viz_faults(path.stem, path.read_text()) == []


def test_the_dashboard_has_no_cycle():
    edges = {}
    for path in modules("viz"):
        names = [name.split(".") for name, _ in imported(path.read_text(), "viz")]
        edges[path.stem] = {parts[1] for parts in names if parts[0] == "viz" and len(parts) > 1}
    assert cycle(edges) is None


def test_dashboard_files_hide_no_standard_module():
    # `panel serve` puts the folder of its application first on sys.path.
    assert {path.stem for path in modules("viz")}.isdisjoint(sys.stdlib_module_names)


@pytest.mark.parametrize("path", sources(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_pickle_and_no_vague_name(path):
    assert unsafe_faults(path.read_text()) == []
    assert path.stem not in VAGUE


@pytest.mark.parametrize("package", ["swarmjax", "viz"])
def test_packages_are_flat(package):
    assert [path for path in (ROOT / package).rglob("*.py") if path.parent.name != package] == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("space", "from swarmjax.store import create", "space imports store"),
        ("space", "from swarmjax import types, tasks", "space imports tasks"),
        ("space", "from .policy import chain", "space imports policy"),
        ("space", "from . import run", "space imports run"),
        ("space", "import swarmjax.space", "space imports space"),
        ("fitness", "def f():\n    from swarmjax import policy", "fitness imports policy"),
        ("run", "import swarmjax", "no module of the layer table"),
        ("run", "from swarmjax import Space", "no module of the layer table"),
        ("run", "def f():\n    import viz.app", "only a function of cli may"),
        ("cli", "try:\n    from viz import app\nexcept ImportError:\n    pass", "only a function"),
        ("cli", "class A:\n    import experiments.digits", "only a function of cli may"),
        ("novel", "", "novel is not in the layer table; add it to LAYERS"),
    ],
)
def test_the_layer_law_can_fail(module, source, fault):
    faults = layer_faults(module, source)
    assert len(faults) == 1
    assert fault in faults[0]


def test_the_layer_law_can_hold():
    source = "import jax\nfrom swarmjax import run, store\ndef f():\n    from viz import app"
    assert layer_faults("cli", source) == []


def test_the_other_laws_can_fail():
    assert viz_faults("app", "from swarmjax import store, train")
    assert viz_faults("app", "from swarmjax.run import run")
    assert not viz_faults("app", "from swarmjax import store\nfrom viz import theme")
    for text in (
        "import pickle",
        "from joblib import dump",
        "f(allow_pickle=True)",
        "import dill as d",
    ):
        assert unsafe_faults(text), text
    assert not unsafe_faults("import json\nf(allow_pickle=False)")
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == "a"
    assert cycle({"a": {"b"}, "b": {"c"}}) is None
