"""How unconstrained parts go through bijectors: each through its own, or all together through one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import tensorflow as tf

Parts = tuple[Any, ...]


class PartsBijector(Protocol):
    """Unconstrained parts <-> constrained parts, with leading axes; ``log_det`` broadcasts against those axes."""

    def forward(self, parts: Parts) -> Parts: ...

    def inverse(self, parts: Parts) -> Parts: ...

    def log_det(self, parts: Parts) -> Any: ...


@dataclass(frozen=True, eq=False)
class Separate:
    """One bijector for each part; None is the identity.

    Attributes:
        bijectors: one TFP bijector or None for each part.
        ranks: rank of each unconstrained part, over which its log-det is summed.
    """

    bijectors: tuple[Any, ...]
    ranks: tuple[int, ...]

    def forward(self, parts: Parts) -> Parts:
        return tuple(p if b is None else b.forward(p) for b, p in zip(self.bijectors, parts, strict=True))

    def inverse(self, parts: Parts) -> Parts:
        return tuple(p if b is None else b.inverse(p) for b, p in zip(self.bijectors, parts, strict=True))

    def log_det(self, parts: Parts) -> Any:
        total = tf.zeros([], parts[0].dtype)
        for bijector, rank, part in zip(self.bijectors, self.ranks, parts, strict=True):
            if bijector is not None:
                total += bijector.forward_log_det_jacobian(part, event_ndims=rank)
        return total


@dataclass(frozen=True, eq=False)
class Together:
    """One multipart bijector for all parts, because a part's support may depend on other parts.

    Attributes:
        bijector: TFP bijector over a structure.
        pack: parts -> the bijector's structure.
        unpack: the bijector's structure -> parts.
        ranks: rank of each unconstrained part.
    """

    bijector: Any
    pack: Callable[[Sequence[Any]], Any]
    unpack: Callable[[Any], Sequence[Any]]
    ranks: tuple[int, ...]

    def forward(self, parts: Parts) -> Parts:
        return tuple(self.unpack(self.bijector.forward(self.pack(parts))))

    def inverse(self, parts: Parts) -> Parts:
        return tuple(self.unpack(self.bijector.inverse(self.pack(parts))))

    def log_det(self, parts: Parts) -> Any:
        return self.bijector.forward_log_det_jacobian(self.pack(parts), event_ndims=self.pack(self.ranks))
