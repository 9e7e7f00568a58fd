"""`python -m swarmjax` is the command `swarmjax`."""

from swarmjax.cli import command_line

if __name__ == "__main__":
    command_line()
