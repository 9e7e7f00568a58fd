"""Pictures of the dashboard for README: `python -m paper.pictures [--out FOLDER]`.

A swarm trains on handwritten digits, some of them mislabelled, while a Chromium looks at its
dashboard: the film shows it from the first round to the last, the pictures what is there then.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from paper.browsing import Server, Visit, chromium
from paper.measure import ROOT, need, progress
from swarmjax import ledger, steering, store, stored

TRAINED = ("digits-noisy", "--members", "48", "--budget", "40000", "--seed", "3")
SIZE = {"width": 1360, "height": 920}
# Of the film: pictures, their width, colours, and milliseconds between two and at the end.
FRAMES, WIDTH, COLOURS, PACE, REST = 24, 820, 96, 350, 2500


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.pictures", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "paper" / "pictures")
    out = parser.parse_args(arguments).out
    need("playwright")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "digits"
        command = [sys.executable, "-m", "swarmjax", "run", *TRAINED, "--directory", str(directory)]
        with (Path(folder) / "run.log").open("w") as log:
            training = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            _await(directory / store.DATABASE, training)
            server = Server(directory, Path(folder) / "server.log")
            with chromium() as browser:
                _filmed(browser, server.url, directory, training, out / "live.gif")
                taken(browser, server, out)
            server.end()
        finally:
            training.kill()
            training.wait()
    return 0


def taken(browser: Any, server: Server, out: Path) -> None:
    """Saves the pictures of a run that `server` shows."""
    for name, (dark, show) in PICTURES.items():
        context = browser.new_context(viewport=SIZE, color_scheme="dark" if dark else "light")
        page = Visit(context, server.steering_url)
        page.ready()
        if dark:
            page.page.get_by_label("Toggle theme").click()
        show(page)
        page.page.mouse.move(5, SIZE["height"] - 5)
        page.page.wait_for_timeout(1500)
        _small(page.page.screenshot(), 256).save(out / f"{name}.png", optimize=True)
        context.close()
        progress(f"{name}.png: {(out / f'{name}.png').stat().st_size // 1000} kB")


def _swarm(page: Visit) -> None:
    """The first page, with the four best members selected."""
    page.page.get_by_label("Find, as in").fill("rank <= 4")
    page.page.get_by_label("Find, as in").press("Enter")
    page.wait("four are selected", lambda: page.selected() == 4)
    page.ready()


def _search(page: Visit) -> None:
    """What was searched for, and what made networks good."""
    page.turn("Search", 6)


def _steering(page: Visit) -> None:
    """Where the best came from, and what a person asked for."""
    _swarm(page)
    page.turn("Lineage", 2)
    page.page.get_by_role("button", name="Steer", exact=True).click()
    page.ready(2)


# Whether it is dark, and what has to be done for it.
PICTURES: dict[str, tuple[bool, Callable[[Visit], None]]] = {
    "swarm": (False, _swarm),
    "search": (False, _search),
    "steering": (True, _steering),
}


def _filmed(
    browser: Any, url: str, directory: Path, training: subprocess.Popen, file: Path
) -> None:
    """Saves a film of the page of a run from its first round to its end."""
    page = Visit(browser.new_context(viewport=SIZE), url)
    page.drawn(600)
    _ask(directory)
    frames, last = [], ""
    while page.text(".chip") in ("Running", "Waiting for first round"):
        if training.poll() not in (None, 0):
            raise RuntimeError("the run ended with an error")
        if (now := page.text("dl div:first-child dd")) != last:
            last = now
            page.page.wait_for_timeout(150)
            frames.append(page.page.screenshot())
            progress(f"round {now}")
        page.page.wait_for_timeout(100)
    page.ready()
    frames.append(page.page.screenshot())
    page.page.context.close()
    film(frames, file)
    progress(f"{file.name}: {file.stat().st_size // 1000} kB of {len(frames)} pictures")


def _ask(directory: Path) -> None:
    """Asks for what a person might, for the latest networks."""
    with contextlib.closing(stored.open_run(directory)) as reader:
        births = reader.scene().birth.tolist()
    one, other = (steering.Member(slot, births[slot]) for slot in (2, 9))
    asked = [steering.Boost(one, 4.0), steering.Pin(other), steering.Note("looks promising", one)]
    ledger.queue(directory / store.DATABASE, "ada", asked)


def film(frames: Sequence[bytes], file: Path) -> None:
    """Saves some of the pictures, the first and last among them, as a film."""
    count = min(FRAMES, len(frames))
    chosen = [frames[round(i * (len(frames) - 1) / max(1, count - 1))] for i in range(count)]
    small = [_small(frame, COLOURS, WIDTH) for frame in chosen]
    times = [PACE] * (count - 1) + [REST]
    small[0].save(file, save_all=True, append_images=small[1:], duration=times, loop=0)


def _small(picture: bytes, colours: int, width: int | None = None) -> Image.Image:
    """A picture of few colours, of at most that width."""
    opened = Image.open(io.BytesIO(picture)).convert("RGB")
    if width is not None:
        height = round(opened.height * width / opened.width)
        opened = opened.resize((width, height), Image.Resampling.LANCZOS)
    return opened.quantize(colours, dither=Image.Dither.NONE)


def _await(file: Path, training: subprocess.Popen) -> None:
    while not file.exists():
        if training.poll() is not None:
            raise RuntimeError("the run did not begin")
        try:
            training.wait(0.2)
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    sys.exit(main())
