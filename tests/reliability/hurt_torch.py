"""A conforming torch program, injured on its last rank."""

import torch.distributed as dist

from suites.collectives.torch_manual.native import Native
from tests.reliability import injuries


class OnOneRank:
    def is_hurt(self) -> bool:
        return dist.get_rank() == dist.get_world_size() - 1


class Deadlocks(OnOneRank, injuries.Deadlocks, Native): ...


class Aborts(OnOneRank, injuries.Aborts, Native): ...


class Raises(OnOneRank, injuries.Raises, Native): ...


class Sleeps(OnOneRank, injuries.Sleeps, Native): ...


class EatsMemory(OnOneRank, injuries.EatsMemory, Native): ...


class Slow(OnOneRank, injuries.Slow, Native): ...
