"""The error of bad input, apart from everything heavy: a training node imports no JAX."""


class InputError(ValueError):
    """A request that cannot be met as given; the message says what was wrong and what to do."""
