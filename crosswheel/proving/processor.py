"""The processor of a target, as far as its machine code is judged by it."""

from __future__ import annotations

from dataclasses import dataclass

MACHINES = {"x86_64": 62, "aarch64": 183}
"""The architecture of a target → ``e_machine`` of its files."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What the target's processor has. ``usual`` features are told apart, because nearly all processors have them;
    ``harmless`` instructions are none of its business."""

    machine: int
    features: frozenset[str]
    usual: frozenset[str] = frozenset()
    harmless: frozenset[str] = frozenset()
