"""Invoke's entry: the tasks of crosswheel."""

from crosswheel.cli import ns

__all__ = ["ns"]
