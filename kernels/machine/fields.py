"""Generated code finds the elements of numpy arrays. Asking numpy for an address would take 2 us."""

from __future__ import annotations

import ctypes
import functools

import numpy as np

FIELD = object.__basicsize__  # An array object has the address of its elements right behind its head.


@functools.cache
def elements_are_found() -> bool:
    """Tell whether the address of an array's elements lies `FIELD` bytes behind that of the array object."""
    array = np.zeros(1)
    return ctypes.c_void_p.from_address(id(array) + FIELD).value == array.ctypes.data
