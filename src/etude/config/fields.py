"""Field types shared by all configurations: probabilities, times and search ranges.

A technique declares the bounds, the unit, the help text and the search range of a setting in one
place, its config class, with :func:`setting`; the validator, ``etude show`` and the tuner read them
from there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
"""A number from 0 to 1."""


class Strict(BaseModel):
    """The base of every configuration: frozen, and unknown keys and infinite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse ``epochs = true``, which Python would count as 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and not _takes_bool(annotation, value):
            raise PydanticCustomError("bool_for_number", "true and false are no numbers")
        return value


def _takes_bool(annotation: Any, value: bool) -> bool:
    if get_origin(annotation) is Literal:
        return any(option is value for option in get_args(annotation))
    return annotation in (bool, Any) or any(_takes_bool(arg, value) for arg in get_args(annotation))


@dataclass(frozen=True, slots=True)
class SearchRange:
    """Where a tuner may look for a value: ``low`` to ``high``, on a ``uniform`` or ``log`` scale."""

    low: float
    high: float
    scale: Literal["uniform", "log"] = "uniform"


def setting(
    default: Any = ...,
    *,
    help: str,  # noqa: A002 - the word that every reader of a command line knows
    unit: str | None = None,
    search: SearchRange | None = None,
    **bounds: Any,
) -> Any:
    """Declare one setting: its default, help, unit, bounds (``ge``, ``le``, ``gt``, ``lt``) and range."""
    extra: dict[str, Any] = {}
    if unit is not None:
        extra["unit"] = unit
    if search is not None:
        extra["search"] = {"low": search.low, "high": search.high, "scale": search.scale}
    return Field(default, description=help, json_schema_extra=extra or None, **bounds)


_TIME = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ep|st|dur)\s*$")


@dataclass(frozen=True, slots=True)
class Time:
    """A point or a length of training: ``"3ep"`` epochs, ``"500st"`` steps, ``"0.3dur"`` of the run.

    >>> Time.parse("0.5dur").steps(epoch_steps=[10], total_steps=40)
    20
    >>> Time.parse("1.5ep").steps(epoch_steps=[10, 6], total_steps=16)
    13
    >>> str(Time.parse("3ep"))
    '3ep'
    """

    amount: float
    unit: Literal["ep", "st", "dur"]

    @classmethod
    def parse(cls, text: object) -> Time:
        """Read ``"3ep"``, ``"500st"`` or ``"0.3dur"``; raises ``ValueError`` on anything else."""
        if isinstance(text, Time):
            return text
        match = _TIME.match(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                f"{text!r} is no time: write epochs as '3ep', optimizer steps as '500st' "
                "or a share of the run as '0.3dur'"
            )
        amount, unit = float(match[1]), match[2]
        if unit == "dur" and amount > 1:
            raise ValueError(f"{text!r} is longer than the run: a share is at most '1dur'")
        if unit == "st" and amount != int(amount):
            raise ValueError(f"{text!r} is no whole number of steps")
        return cls(amount, unit)  # type: ignore[arg-type]  # the pattern admits only these three

    def steps(self, *, epoch_steps: Sequence[int], total_steps: int) -> int:
        """The number of optimizer steps that this time stands for, rounded to the nearest.

        Args:
            epoch_steps: the steps of each epoch from the first; epochs beyond the last are as long as it.
            total_steps: the steps of the run.
        """
        if self.unit == "st":
            return round(self.amount)
        if self.unit == "dur":
            return round(self.amount * total_steps)
        whole = int(self.amount)
        beyond = max(whole - len(epoch_steps), 0)
        running = epoch_steps[min(whole, len(epoch_steps) - 1)]
        done = sum(epoch_steps[:whole]) + beyond * epoch_steps[-1]
        return round(done + (self.amount - whole) * running)

    @property
    def whole_epochs(self) -> int:
        """The number of epochs, where this is a whole number of them, else 0."""
        return int(self.amount) if self.unit == "ep" and self.amount == int(self.amount) else 0

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(str),
            json_schema_input_schema=core_schema.str_schema(),
        )
