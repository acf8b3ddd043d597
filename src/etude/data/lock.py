"""The lock on the test part: nothing that is fitted, chosen or tuned may read it.

A score on rows that chose something is too good. So the test part is read from its file once, to refuse
faulty rows before hours of training, and is then shut in a :class:`Locked` until the weights, the
calibration and the thresholds are final. Until then only its number of rows is known, and opening it is
an error, so that a leak is a crash and not a flattering number.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Generic, TypeVar

from etude.errors import RunError

T = TypeVar("T", bound=Sized)


class Locked(Generic[T]):
    """Holds a part, and gives it out once it is unlocked.

    >>> test = Locked(["where is my parcel"])
    >>> len(test)
    1
    >>> test.open()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    etude.errors.RunError: the test part is locked until the final scoring, ...
    >>> test.unlock()
    >>> test.open()
    ['where is my parcel']
    """

    def __init__(self, part: T) -> None:
        self.__part = part
        self.__locked = True

    def __len__(self) -> int:
        """The number of rows, which tells nothing of what is in them."""
        return len(self.__part)

    def __repr__(self) -> str:
        state = "locked" if self.__locked else "open"
        return f"Locked({len(self)} rows, {state})"

    def unlock(self) -> None:
        """Open the lock for good; only the final scoring does so, when nothing is left to be decided."""
        self.__locked = False

    def open(self) -> T:
        """Return the part.

        Raises:
            RunError: it is still locked.
        """
        if self.__locked:
            raise RunError(
                "the test part is locked until the final scoring, so that nothing can be fitted to it; use "
                "the validation part"
            )
        return self.__part
