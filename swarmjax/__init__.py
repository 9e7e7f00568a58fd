"""Train, watch and steer a swarm of neural networks on one host, as vectorised JAX programs."""

# The public names are those of `__init__.pyi`; each is imported when it is first used, so that a
# training node in another framework never waits for JAX.

import sys
from types import ModuleType

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _Package(ModuleType):
    """Importing a module binds its name here, which must not hide a function of that name."""

    def __setattr__(self, name, value):
        if name not in ("run", "pareto", "islands") or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
