"""The live views of a swarm: pure plots, and the Panel app that serves them.

In a notebook, `history = source.read("runs/digits")` is what the plots take, as in
`heatmap.plot(history, metric="valid_loss")`; `heatmap.table` tells the same in numbers.
"""
