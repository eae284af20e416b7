"""Several processes that share work: who does what, and how the results are combined."""

from __future__ import annotations

import os
import pickle
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, final

import torch
from torch import distributed

from rankselect.errors import ArgumentError, RankSelectError, RankSelectWarning, first_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import nn

__all__ = ["Processes"]

_LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Processes:
    """The processes of a launcher (``torchrun``, ``accelerate launch``), seen from one of them; or one alone.

    Its methods are collective: every process calls them, in the same order. On one process they do nothing besides
    what they say.

    Attributes:
        rank: This process's number, from 0.
        count: How many there are.

    Example:
        >>> processes = Processes.current()
        >>> processes.is_first, processes.gather("mine"), processes.together(lambda: 2 + 2)
        (True, ['mine'], 4)
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Processes:
        """Those of torch's process group; or this one alone.

        Where a launcher has started several processes but nothing has connected them yet, accelerate's `PartialState`
        does: by NCCL between NVIDIA GPUs, by gloo between CPUs.
        """
        if not distributed.is_available():
            return cls()
        if not distributed.is_initialized() and _launched():
            _state()
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @classmethod
    def sharing(cls, model: nn.Module) -> Processes:
        """The processes that can share the inputs of a model, each of which needs a complete model.

        Where the weights themselves are spread over the processes (FSDP, tensor parallelism, ZeRO-3) a forward pass
        needs all of them: each then reads everything, as if it were alone.
        """
        processes = cls.current()
        return processes if processes.count > 1 and not _is_spread(model) else cls()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, prints and warns."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The device that belongs to this process under a launcher: its GPU, or the CPU."""
        device: torch.device = _state().device
        return device

    def device_map(self, wanted: str) -> str:
        """Where to load a model of which every process has a copy: under a launcher ``"auto"`` is its own device."""
        return str(self.device) if self.count > 1 and wanted == "auto" else wanted

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank; they are pickled on the way."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def from_first(self, value: T) -> T:
        """The first process's value, on every one."""
        return value if self.count == 1 else self.gather(value if self.is_first else None)[0]  # type: ignore[return-value]

    def merged(self, parts: Mapping[str, T], order: Iterable[str]) -> dict[str, T]:
        """Merge the dicts of all processes into one, in this order of keys."""
        whole = {name: value for part in self.gather(parts) for name, value in part.items()}
        return {name: whole[name] for name in order if name in whole}

    def sum_at(self, owner: int, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of the processes' tensors, on one of them. On the others, the result must not be used."""
        on_device = tensor if "gloo" in distributed.get_backend() else tensor.to(self.device)
        distributed.reduce(on_device, dst=owner)
        return on_device.to(tensor.device)

    def together(self, work: Callable[[], T]) -> T:
        """Do something on every process. If it fails on one, raise an error on all, so that no process keeps waiting.

        Raises:
            RankSelectError: The error of another process; if it is not an error of this library, one that quotes it.
        """
        if self.count == 1:
            return work()
        result, own = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  (raised below, once the others know)
            own = error
        errors = self.gather(None if own is None else self._for_others(own))
        if own is not None:
            raise own
        others = next((error for error in errors if error is not None), None)
        if others is not None:
            raise others
        return result  # type: ignore[return-value]

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Raise an error if values differ between the processes.

        Raises:
            ArgumentError: On every process, if a fact differs: its name and two of its values.
        """
        everywhere = self.gather(dict(facts))
        for name in facts:
            for rank, other in enumerate(everywhere):
                if other[name] != everywhere[0][name]:
                    raise ArgumentError(
                        f"the same {name} on every process",
                        f"{everywhere[0][name]} on process 0 and {other[name]} on process {rank}",
                        "Give every process everything: rankselect shares it out itself.",
                    )

    @contextmanager
    def warning_once(self) -> Iterator[None]:
        """Keep all processes but the first from warning of the same thing."""
        with warnings.catch_warnings():
            if not self.is_first:
                warnings.simplefilter("ignore", RankSelectWarning)
            yield

    def _for_others(self, error: Exception) -> RankSelectError:
        if isinstance(error, RankSelectError):
            try:
                pickle.dumps(error)
            except Exception:  # noqa: BLE001  (a plug-in's error may hold anything)
                return RankSelectError(error.expected, error.got, error.remedy)
            return error
        return RankSelectError(
            "every process to do its share",
            f"{type(error).__name__} on process {self.rank} ({first_sentence(error)})",
            "That process shows where it was raised.",
        )


def _launched() -> bool:
    return all(name in os.environ for name in _LAUNCHED) and int(os.environ["WORLD_SIZE"]) > 1


def _state() -> Any:
    """Accelerate's state of this process. Creating it connects the processes, on CPUs only if requested."""
    from accelerate import PartialState  # not needed on one process

    accelerators = getattr(torch, "accelerator", torch.cuda)  # torch 2.6 supports others than CUDA
    return PartialState(cpu=not accelerators.is_available())


def _is_spread(model: nn.Module) -> bool:
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    return any(isinstance(module, FullyShardedDataParallel) for module in model.modules()) or any(
        isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in model.parameters()
    )
