"""Colours and figure style, dark and light.

In both themes the better member has more contrast with the background. The ramps grow evenly in
luminance, so they read the same with any colour vision; the picks are Okabe and Ito's, shifted
to stand out from each background.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from bokeh.core.properties import value
from bokeh.models import BasicTickFormatter, CustomJSTickFormatter, LogAxis

from viz.marks import Mark, Marks

FONT = "Inter, Roboto, Helvetica, Arial, sans-serif"
# Axes without fractions.
COUNTS = ("round", "training steps")
# Of figures that are read by height alone.
LINES = {"show_grid": True, "gridstyle": {"xgrid_line_color": None}}
TOOLS = ["pan", "wheel_zoom", "box_zoom", "reset", "save"]

# Decimals as such, numbers far from one by their power of ten.
POWERS = """
  const power = Math.floor(Math.log10(tick) + 1e-9)
  if (power > -5 && power < 5) {
    return String(Number(tick.toPrecision(3)))
  }
  const digits = Number((tick / 10 ** power).toPrecision(3))
  const raised = [...String(power)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)] ?? "⁻").join("")
  return (digits === 1 ? "10" : digits + "×10") + raised
"""

Element = TypeVar("Element")


class Look(NamedTuple):
    """The colours of one theme.

    Attributes:
        page: behind the cards.
        paper: of cards and figures.
        ink: main text.
        muted: secondary text; contrast at least 4.5 on `paper`.
        line: borders, edges and grid.
        band: the swarm's quantile band.
        accent: controls.
        good: a finished run.
        dead: members that ceased to be finite.
        alarm: members that show an anomaly.
        ramp: 256 shades from worst to best.
        picks: colours of selected members, in order.
    """

    page: str
    paper: str
    ink: str
    muted: str
    line: str
    band: str
    accent: str
    good: str
    dead: str
    alarm: str
    ramp: tuple[str, ...]
    picks: tuple[str, ...]


def _ramp(*anchors: str) -> tuple[str, ...]:
    rgb = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in anchors])
    at = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(at, np.arange(len(anchors)), rgb[:, c]) for c in range(3)]
    return tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.stack(channels, 1).astype(int))


LIGHT = Look(
    page="#f3f5f8",
    paper="#ffffff",
    ink="#17202b",
    muted="#566273",
    line="#d5dbe3",
    band="#8fa1b8",
    accent="#1f5fa8",
    good="#186f44",
    dead="#ad2c4b",
    alarm="#b85c00",
    ramp=_ramp("#e9eebf", "#a5d6a4", "#57b3ac", "#2c82a8", "#25508f", "#211c5c"),
    picks=("#d55e00", "#0072b2", "#00875f", "#b0437f", "#8a6a00", "#5b4bb5", "#1b9aaa", "#4d4d4d"),
)
DARK = Look(
    page="#0d1117",
    paper="#161c25",
    ink="#e8edf4",
    muted="#9aa7b8",
    line="#2b3543",
    band="#6f86a3",
    accent="#7cb7ff",
    good="#4fd08b",
    dead="#ff6b8b",
    alarm="#ffb454",
    ramp=_ramp("#3b4a66", "#2f6585", "#259094", "#3fbc80", "#a8db4f", "#fff59b"),
    picks=("#ff9f4a", "#5cc8ff", "#45d6a3", "#f29ccb", "#f4e04d", "#b3a4ff", "#8ce0e6", "#e0e0e0"),
)


def look(dark: bool) -> Look:
    """The colours of a theme."""
    return DARK if dark else LIGHT


def pick_colors(members: tuple[int, ...], colors: Look) -> dict[int, str]:
    """Colour of each selected member that is drawn: as many as there are distinct colours."""
    return dict(zip(members, colors.picks, strict=False))


def mui(dark: bool) -> dict[str, Any]:
    """The same colours for the page's controls."""
    colors = look(dark)
    return {
        "palette": {
            "primary": {"main": colors.accent},
            "background": {"default": colors.page, "paper": colors.paper},
            "text": {"primary": colors.ink, "secondary": colors.muted},
        },
        "typography": {"fontFamily": FONT, "fontSize": 13},
        "shape": {"borderRadius": 8},
    }


# Parts of the page outside our own panes; the variables are the page's.
PAGE = {
    "& .header": {
        "backgroundColor": "var(--mui-palette-background-paper)",
        "backgroundImage": "none",
        "color": "var(--mui-palette-text-primary)",
        "boxShadow": "inset 0 -1px var(--mui-palette-divider)",
    },
    "& .header .MuiLinearProgress-root": {"display": "none"},
    "& .main": {"backgroundColor": "var(--mui-palette-background-default)"},
}


def variables(dark: bool) -> str:
    """The colours as style-sheet variables, which the panes inherit."""
    colors = look(dark)
    plain = {"ink": colors.ink, "muted": colors.muted, "paper": colors.paper, "line": colors.line}
    plain |= {"accent": colors.accent, "dead": colors.dead, "band": colors.band, "font": FONT}
    plain |= {"good": colors.good, "alarm": colors.alarm, "page": colors.page}
    plain |= {f"ramp-{i}": colors.ramp[60 + 45 * i] for i in range(1, 5)}
    return ":host {" + "".join(f"--viz-{name}: {value};" for name, value in plain.items()) + "}"


def figure(**options: Any) -> dict[str, Any]:
    """Plot options shared by every figure; `options` win."""
    shared = {
        "responsive": True,
        "min_height": 120,
        "title": "",
        "padding": 0,
        # As the page sets them, or an update would change them.
        "fontsize": {"labels": "1em", "ticks": "0.925em"},
        "toolbar": "right",
        "autohide_toolbar": True,
        "default_tools": [],
        "tools": TOOLS,
        "active_tools": [],
        "shared_axes": False,
        "show_legend": False,
        "backend_opts": {"plot.toolbar.logo": None, "plot.output_backend": "canvas"},
        "hooks": [finish, follow],
    }
    return shared | options


def letters(**options: Any) -> dict[str, Any]:
    """Options of text inside a figure; `options` are set on bokeh's glyph."""
    glyph = {"text_font": value(FONT)} | options
    return {
        "text_font_size": "8.5pt",
        "backend_opts": {f"glyph.{name}": setting for name, setting in glyph.items()},
    }


def styled(element: Element, **options: Any) -> Element:
    """The element, with plot options set on it."""
    if not isinstance(element, Mark | Marks):
        element.opts(**options)  # pyright: ignore[reportAttributeAccessIssue]
    element.viz_options = given(element) | options  # pyright: ignore[reportAttributeAccessIssue]
    return element


def given(element: Any) -> dict[str, Any]:
    """The options that were set by `styled`."""
    return getattr(element, "viz_options", {})


def mixed(rows: Iterable[tuple], *blank: float | str) -> list[tuple]:
    """The rows, the last item of each a colour, and two unlike ones at `blank`, which is nowhere.

    HoloViews makes a constant of a column of equals; each change of that kind has bokeh warn.
    """
    colors = enumerate(("black", "white"))
    return [
        *rows,
        *((*(b if isinstance(b, str) else b + i for b in blank), color) for i, color in colors),
    ]


def finish(plot: Any, _element: Any) -> None:
    """Takes away what bokeh draws by default and says nothing."""
    model = plot.state
    model.outline_line_color = None
    model.border_fill_alpha = model.background_fill_alpha = 0
    model.min_border = 6
    for axis in model.axis:
        axis.minor_tick_line_alpha = axis.major_tick_line_alpha = axis.axis_line_alpha = 0
        axis.major_label_standoff = 4
        if axis.axis_label in COUNTS:
            axis.ticker.min_interval = 1
        if isinstance(axis.formatter, BasicTickFormatter):
            axis.formatter.update(power_limit_high=7, power_limit_low=-5)
        if isinstance(axis, LogAxis):
            axis.ticker.desired_num_ticks = 4
            if not isinstance(axis.formatter, CustomJSTickFormatter):
                axis.update(formatter=CustomJSTickFormatter(code=POWERS))
    for tool in model.tools:
        if tool.__class__.__name__ == "HoverTool":
            tool.show_arrow = False


def follow(plot: Any, element: Any) -> None:
    """Shows the `extents` of the part that has some, unless the user moved or zoomed.

    HoloViews would either never follow a growing run, or undo the user's zoom at every update.
    """
    given = [part.extents for part in element if part.extents[0] is not None]
    if not given:
        return
    left, bottom, right, top = given[-1]
    for span, ends in ((plot.state.x_range, (left, right)), (plot.state.y_range, (bottom, top))):
        untouched = (span.start, span.end) == (span.reset_start, span.reset_end)
        span.update(reset_start=ends[0], reset_end=ends[1])
        if untouched:
            span.update(start=ends[0], end=ends[1])
