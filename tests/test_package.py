import ast
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
    assert hidden == ["pareto", "run"]
    code = "import swarmjax.run, swarmjax.pareto, swarmjax as sj; print(*map(callable, "
    assert python(f"{code}[sj.run, sj.pareto]))") == ["True", "True"]


def test_what_is_not_public_is_no_attribute():
    with pytest.raises(AttributeError):
        _ = swarmjax.nonsense
