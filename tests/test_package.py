import ast
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import swarmjax

PACKAGE = Path(swarmjax.__file__).parent
# What a training node in another framework imports.
LIGHT = "errors clock ipc records directives parcels windows channels bus rabbit kafka".split()
LIGHT += "spool outbox inbox listener recorder profiles usage nodes".split()


def python(code):
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_a_node_imports_neither_jax_nor_pandas():
    code = "import sys\n" + "".join(f"import swarmjax.{name}\n" for name in LIGHT)
    loaded = set(python(f"{code}print(*sys.modules)"))
    assert "swarmjax.outbox" in loaded
    assert loaded.isdisjoint({"jax", "jaxlib", "flax", "pandas", "sklearn", "panel", "tyro"})


def test_public_names_are_those_of_the_stub_alone():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    listed = next(ast.literal_eval(n.value) for n in stub.body if isinstance(n, ast.Assign))
    assert sorted(listed) == sorted(swarmjax.__all__) == sorted(set(listed))
    imported = [a.name for n in stub.body if isinstance(n, ast.ImportFrom) for a in n.names]
    assert sorted(imported) == sorted(listed)


@pytest.mark.parametrize("name", swarmjax.__all__)
def test_every_public_name_is_there(name):
    assert getattr(swarmjax, name) is not None
    assert name in dir(swarmjax)


def test_modules_hide_no_function_of_their_name():
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    both = [n for n in swarmjax.__all__ if n in modules]
    hidden = [n for n in both if not isinstance(getattr(swarmjax, n), types.ModuleType)]
    assert hidden == ["islands", "pareto", "run"]
    code = "import swarmjax.run, swarmjax.pareto, swarmjax.islands, swarmjax as sj"
    code += "; print(*map(callable, [sj.run, sj.pareto, sj.islands]))"
    assert python(code) == ["True"] * 3


def test_what_is_not_public_is_no_attribute():
    with pytest.raises(AttributeError):
        _ = swarmjax.nonsense


def test_no_file_names_a_place_on_the_machine_where_it_was_made():
    root = PACKAGE.parent
    kinds = {".json", ".md", ".txt", ".toml", ".typ"}
    parts = ("paper", "experiments", "tests", "swarmjax", "viz")
    files = [*root.iterdir(), *(path for part in parts for path in (root / part).rglob("*"))]
    if (root / ".git").exists():
        # What is not part of the project may say what it likes.
        listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
        files = [root / name for name in listed.stdout.splitlines()]
    texts = [path for path in files if path.suffix in kinds]
    assert any(path.parent.name == "results" for path in texts)
    places = re.compile(r"(?<![\w.:/])/(tmp|home|root|work|Users)/")
    assert [str(path) for path in texts if places.search(path.read_text())] == []
    # Put together here, since this file names no such place either.
    for place in ("tmp", "home", "root", "work", "Users"):
        assert places.search(f'"cannot write to /{place}/x"')
        assert not places.search(f"https://a.b/{place}/c")
