"""LCBench's learning curves as the surrogate of YAHPO Gym predicts them, asked for whole curves.

LCBench (Zimmer et al. 2021, arXiv:2006.13799) trained 2,000 MLPs of seven hyperparameters on each
of 35 data sets for 52 epochs; the surrogate (Pfisterer et al. 2022, arXiv:2109.03670) is a network
fitted to that, which answers for every configuration in between. Its files are the user's to fetch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paper.curves import Curves
from paper.measure import MissingData, need
from swarmjax.machine import cache_directory
from swarmjax.space import Space, choice, log_uniform, uniform
from swarmjax.types import Array, Genome, InputError

SOURCE = "https://github.com/slds-lmu/yahpo_data/tree/main/lcbench"
VARIABLE = "SWARMJAX_LCBENCH"
FILES = ("model.onnx", "encoding.json")

# Accuracies and losses of the same surrogate differ no more between machines.
TOLERANCE = 1e-4

# After so many epochs the recorded trainings end.
LAST = 52

# As in YAHPO Gym's `config_space.json`. No gene is structural: nothing is compiled for any.
SPACE = Space(
    batch_size=log_uniform(16, 512),
    learning_rate=log_uniform(1e-4, 1e-1),
    max_dropout=uniform(0.0, 1.0),
    max_units=log_uniform(64, 1024),
    momentum=uniform(0.1, 0.99),
    num_layers=choice(1, 2, 3, 4, 5),
    weight_decay=uniform(1e-5, 1e-1),
)

# Order and scale of the model's numbers, as YAHPO Gym feeds and names them: `x_cont` is the epoch
# and these genes, of which some are whole; `x_cat` the task; accuracies but one are shares.
_GENES = tuple(
    "batch_size learning_rate momentum weight_decay num_layers max_units max_dropout".split()
)
_WHOLE = ("batch_size", "max_units")
_OUTPUTS = 6
_COLUMNS = {
    "valid_accuracy": (1, 0.01),
    "valid_loss": (2, 1.0),
    "test_balanced_accuracy": (5, 1.0),
}

# Configurations at a time, which bounds memory.
_CHUNK = 1024


def find_files() -> Path:
    """The folder of the surrogate's files; raises MissingData, saying what to do, without them."""
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else cache_directory() / "lcbench"
    absent = [name for name in FILES if not (folder / name).is_file()]
    if absent:
        raise MissingData(
            f"{folder} has no {' and no '.join(absent)}; fetch {' and '.join(FILES)} from {SOURCE} "
            f"into it, or name their folder in {VARIABLE}"
        )
    return folder


def load(folder: Path) -> Callable[[str], Curves]:
    """What makes the curves of an OpenML task, named by its number, from the files of `folder`."""
    need("onnxruntime")
    codes = _codes(folder / "encoding.json")
    ask = _session(folder / "model.onnx")

    def curves_of(task: str) -> Curves:
        if task not in codes:
            raise InputError(f"the surrogate has no task {task!r}; known: {', '.join(codes)}")
        return lambda genome: predict(ask, codes[task], genome)

    return curves_of


def check_known(curves_of: Callable[[str], Curves]) -> None:
    """Raises InputError where a surrogate does not say what the published one did of some genes."""
    with np.load(Path(__file__).with_name("lcbench.npz"), allow_pickle=False) as known:
        genome = {name: known[f"gene_{name}"] for name, _ in SPACE.genes}
        for task in ("167168", "3945"):
            for name, values in curves_of(task)(genome).items():
                off = float(np.abs(values - known[f"{task}_{name}"]).max())
                if off > TOLERANCE:
                    raise InputError(
                        f"the surrogate's {name} on task {task} is off by up to {off:.2g} from "
                        f"what the published one says; fetch {' and '.join(FILES)} again from "
                        f"{SOURCE}"
                    )


def digest(folder: Path) -> str:
    """SHA-256 of the model, which says what was measured on."""
    return hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()


def predict(ask: Callable[[dict], np.ndarray], code: int, genome: Genome) -> dict[str, np.ndarray]:
    """Curves `[n, 52]` float32 by metric, accuracies in `[0, 1]`; entry `e` is after epoch `e + 1`.

    Args:
        ask: `ask({"x_cat": [m, 1], "x_cont": [m, 8]}) -> [m, 6]`.
        code: of the task.
        genome: gene of `SPACE` -> `[n]`.
    """
    rows = np.concatenate([ask(part) for part in _questions(code, genome)])
    rows = rows.reshape(-1, LAST, _OUTPUTS)
    found = {name: rows[..., i] * np.float32(scale) for name, (i, scale) in _COLUMNS.items()}
    # A fit knows no bounds.
    return {
        name: np.clip(values, 0.0, 1.0 if name.endswith("accuracy") else None)
        for name, values in found.items()
    }


def _questions(code: int, genome: Genome) -> Iterator[dict[str, np.ndarray]]:
    columns = np.stack([_as_fed(name, genome[name]) for name in _GENES], axis=1)
    for start in range(0, len(columns), _CHUNK):
        part = columns[start : start + _CHUNK]
        epochs = np.tile(np.arange(1, LAST + 1, dtype=np.float32), len(part))
        numbers = np.column_stack([epochs, np.repeat(part, LAST, axis=0)])
        yield {"x_cat": np.full((len(numbers), 1), code, np.int32), "x_cont": numbers}


def _as_fed(name: str, values: Array) -> np.ndarray:
    values = np.asarray(values)
    if name == "num_layers":
        values = np.asarray(SPACE[name].options)[values]  # pyright: ignore[reportAttributeAccessIssue]
    return (np.round(values) if name in _WHOLE else values).astype(np.float32)


def _codes(path: Path) -> dict[str, int]:
    try:
        codes = json.loads(path.read_text())["OpenML_task_id"]
        return {str(task): int(code) for task, code in codes.items() if task != "#na#"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not YAHPO's encoding of LCBench: {error}") from None


def _session(path: Path) -> Callable[[dict], np.ndarray]:
    import onnxruntime  # pyright: ignore[reportMissingImports]

    options = onnxruntime.SessionOptions()
    # The same sums on every machine.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
    check_shapes(path, session)
    return lambda question: np.asarray(session.run(None, question)[0])


def check_shapes(path: Path, session: Any) -> None:
    """Raises InputError unless the model takes and returns what LCBench's does."""
    asked = {each.name: each.shape[-1] for each in session.get_inputs()}
    told = [each.shape[-1] for each in session.get_outputs()]
    if asked != {"x_cat": 1, "x_cont": 1 + len(_GENES)} or told != [_OUTPUTS]:
        raise InputError(
            f"{path} is not YAHPO's surrogate of LCBench: it takes {asked} and returns {told}; "
            f"fetch it from {SOURCE}"
        )
