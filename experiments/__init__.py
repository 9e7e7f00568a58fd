"""Experiments: one file each, to read in a minute, to run, to copy."""
