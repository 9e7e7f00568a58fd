"""Islands in this process, which die, or lose what they sent, when a test says so."""

from swarmjax.island import IslandTrainer, OutOfStepError
from swarmjax.island_protocol import Lost


class Reference:
    """An answer that is there already, or what became of it."""

    def __init__(self, value):
        self.value = value


class InlineCrew:
    """As `island_protocol.Crew`; `fate(island, method, life)` says whether one dies at a call."""

    def __init__(self, settings, fate=lambda island, method, life: False):
        self.settings, self.fate = settings, fate
        self.bodies, self.lives, self.calls, self.dismissed = {}, {}, [], []
        self.harvests, self.nowhere, self.joining = {}, set(), 0

    def hire(self, island):
        self.lives[island] = self.lives.get(island, 0) + 1
        self.bodies[island] = IslandTrainer(self.settings)
        self.harvests.pop(island, None)

    def dismiss(self, island):
        self.dismissed.append(island)
        self.bodies.pop(island, None)

    def call(self, island, method, *arguments):
        return Reference(self._done(island, method, arguments))

    def _done(self, island, method, arguments):
        self.calls.append((island, method))
        if island in self.bodies and self.fate(island, method, self.lives[island]):
            del self.bodies[island]
        if island not in self.bodies:
            return Lost(True, "killed", nowhere=island in self.nowhere)
        given = [a.value if isinstance(a, Reference) else a for a in arguments]
        if any(isinstance(value, Lost) for value in given):
            return Lost(False, "what it needs is lost")
        if method == "follow":
            given = [given[0], [crate for crates in given[1:] for crate in crates]]
        try:
            return getattr(self.bodies[island], method)(*given)
        except OutOfStepError as error:
            return Lost(False, str(error))

    def send(self, island, round, parts):
        if island in self.bodies and round != self.bodies[island].done:
            return [Reference(Lost(False, "out of step")) for _ in parts]
        return [self.call(island, "pack", slots) for slots in parts]

    def wait(self, pending):
        reference = next(iter(pending))
        return reference, reference.value

    def answered(self, reference, island):
        return reference.value

    def newcomers(self):
        joining, self.joining = self.joining, 0
        return joining

    def close(self):
        self.bodies.clear()
