"""The error of bad input, apart from everything heavy: a training node imports no JAX."""


class InputError(ValueError):
    """A request that cannot be met as given; the message says what was wrong and what to do."""


def one_line(text: object, most: int = 200) -> str:
    """`text` from outside as part of a message: printable, on one line, cut where it is long."""
    # Twice as much as is shown is enough to see that something was cut off.
    start = " ".join(str(text)[: 2 * most].split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in start)
    return shown if len(shown) <= most else shown[: most - 3] + "..."
