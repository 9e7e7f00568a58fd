import holoviews as hv
import numpy as np
import pandas as pd

from viz import crowd, theme

hv.extension("bokeh")

VIEW = (0.0, 0.0, 48.0, 30.0)


def nodes(*rows):
    return pd.DataFrame(rows, columns=["x", "y", "shade", "alive"])


def values(frame):
    return crowd.image(frame, VIEW, theme.LIGHT).dimension_values(2, flat=False)


def test_members_of_a_pixel_are_drawn_as_their_mean():
    seen = values(
        nodes((10.01, 5.01, 0.2, True), (10.02, 5.02, 0.6, True), (40.0, 20.0, 1.0, True))
    )
    assert seen.shape == crowd.PIXELS[::-1]
    assert np.isfinite(seen).sum() == 2
    np.testing.assert_allclose(seen[50, 100], 0.4, rtol=1e-6)
    np.testing.assert_allclose(seen[200, 400], 1.0)


def test_the_dead_are_not_drawn():
    assert not np.isfinite(values(nodes((10.0, 5.0, 0.2, False)))).any()


def test_the_picture_covers_the_view_of_the_graph():
    assert crowd.image(nodes((1.0, 1.0, 0.5, True)), VIEW, theme.LIGHT).bounds.lbrt() == VIEW
