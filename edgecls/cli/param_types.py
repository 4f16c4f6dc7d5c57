"""Kinds of values on the command line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

__all__ = ["NumberRange", "ParamType"]

if TYPE_CHECKING:
    from click import ParamType
else:

    class ParamType(click.ParamType):
        """click's, in versions before 8.4 too, where ``ParamType[int]`` is an error when it is run."""

        def __class_getitem__(cls, _item: object) -> type:
            return cls


class NumberRange(click.FloatRange):
    """A range of finite numbers: click finds nan in every range, and infinity in those that have no end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse what no comparison with the limits refuses."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number
