"""The live views of a swarm: pure plots, and the Panel app that serves them."""
