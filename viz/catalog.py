"""Every view of the page, and on which of its tabs it stands."""

from __future__ import annotations

from collections.abc import Sequence

from viz.scene import View
from viz.tab_compare import COMPARED, COMPARED_SHARES, RUNS
from viz.tab_lineage import ALARM_LIST, ALARMS, ANCESTRY, BIRTHS, FAMILIES, WINDOWS
from viz.tab_resources import BROUGHT, COSTS, FRONTIER, ISLANDS, LAYERS, SPENDING
from viz.tab_search import DISTRIBUTION, GENES, HISTORY, IMPORTANCE, PARALLEL, SLICE
from viz.tab_swarm import BEST, GRAPH, HEATMAP, LINES

TABS: dict[str, Sequence[View]] = {
    "Swarm": (GRAPH, HEATMAP, LINES, BEST),
    "Resources": (FRONTIER, SPENDING, BROUGHT, COSTS, ISLANDS, LAYERS),
    "Lineage": (FAMILIES, ANCESTRY, BIRTHS),
    "Search": (PARALLEL, IMPORTANCE, GENES, SLICE, HISTORY, DISTRIBUTION),
    "Alarms": (ALARMS, WINDOWS, ALARM_LIST),
    "Compare": (COMPARED, COMPARED_SHARES, RUNS),
}
