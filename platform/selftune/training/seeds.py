"""Seeds: every random number of a study follows from (study seed, team, member, stream, step).

Nothing depends on how many numbers were drawn before, so a trainer has no generator state to save, and a step
draws the same numbers whatever order it belongs to: after a resume, in a replay, on another worker.
"""

from __future__ import annotations

from functools import lru_cache
from numbers import Integral

import torch

from selftune.errors import SettingError
from selftune.fields import shown

_STREAMS = (
    "network",
    "epoch",
    "elementary",
    "response",
    "perturbation",
    "validation",
    "validation_noise",
    "conversion",
    "elementary_modules",
    "response_modules",
    "hypergradient",
    "hypergradient_modules",
)
_MASK = (1 << 64) - 1


def check_seed(seed: object) -> None:
    """Refuses what is no seed, or would be another one: seeds have 63 bits.

    Raises:
        SettingError: with the key ``seed``.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise SettingError("seed", f"must be a whole number, got {shown(seed)}")
    if not 0 <= int(seed) < 2**63:
        raise SettingError("seed", f"must be at least 0 and below 2 ** 63, got {seed}")


def seed_of(seed: int, member: int, stream: str, step: int, team: int = 0) -> int:
    """A 63-bit seed, well mixed (splitmix64) so that neighbouring steps are unrelated.

    The first team, the only one of most studies, adds nothing to the mix.

    >>> seed_of(0, 0, "epoch", 1) != seed_of(0, 1, "epoch", 0)
    True
    >>> seed_of(0, 0, "epoch", 1) != seed_of(0, 0, "epoch", 1, team=1)
    True
    """
    state = _mixed(_stream_of(seed, member, stream), step)
    return (_mixed(state, team) if team else state) >> 1


@lru_cache(maxsize=1024)  # asked for again and again, every step with another number
def _stream_of(seed: int, member: int, stream: str) -> int:
    return _mixed(_mixed(_mixed(0, seed), member), _STREAMS.index(stream))


def _mixed(state: int, part: int) -> int:
    state = (state + part + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


class Streams:
    """One generator per stream on one device, reseeded at every use.

    Args:
        seed: the study's seed.
        member, team: whose numbers they are.
        device: where they are drawn.
    """

    def __init__(self, seed: int, member: int, device: torch.device, team: int = 0) -> None:
        self.seed = seed
        self.member = member
        self.team = team
        self._global = torch.default_generator
        if device.type == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]  # before, there are no default generators
            index = torch.cuda.current_device() if device.index is None else device.index
            self._global = torch.cuda.default_generators[index]
        self._generators = {stream: torch.Generator(device) for stream in _STREAMS}

    def __call__(self, stream: str, step: int = 0) -> torch.Generator:
        """The stream's generator, at the start of the given step."""
        return self._generators[stream].manual_seed(self.seed_of(stream, step))

    def seed_of(self, stream: str, step: int = 0) -> int:
        """The seed of a stream at a step."""
        return seed_of(self.seed, self.member, stream, step, self.team)

    @property
    def global_generators(self) -> tuple[torch.Generator, ...]:
        """The generators that modules on the device may draw from: the CPU's, and the device's own."""
        return tuple(dict.fromkeys((torch.default_generator, self._global)))

    def seed_global(self, stream: str, step: int, rank: int = 0) -> None:
        """Seeds the device's global generator, from which modules such as ``nn.Dropout`` draw.

        Args:
            rank: of the process among those that train one network; each draws for examples of its own.
        """
        self._global.manual_seed(self.seed_of(stream, step) + rank)
