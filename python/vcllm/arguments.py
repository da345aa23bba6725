"""arguments.py - what callers pass, checked before C sees it.

ctypes alone would wrap integers, cut text at a NUL and take a number for an address.  A wrong type is a TypeError, a
wrong value an ArgumentError, which is a ValueError; both name the argument.  What fits its type in C but is out of its
range there is left to the library, which says so.
"""
import numbers
import operator

from .errors import E_ARGUMENT, ArgumentError


def wrong_type(name, wanted, value):
    return TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def wrong_value(message):
    return ArgumentError(E_ARGUMENT, message)


def is_bool(value):
    """Python's or numpy's, which calls it bool_ or bool."""
    return type(value).__name__ in ("bool", "bool_")


def index(name, value, wanted):
    try:
        return operator.index(value)
    except TypeError:
        raise wrong_type(name, wanted, value) from None


def integer(name, value, c_type):
    """An int that c_type, one of ctypes' integers, holds."""
    if is_bool(value):
        raise wrong_type(name, "an integer", value)
    number = index(name, value, "an integer")
    if c_type(number).value != number:
        raise wrong_value(f"{name} is out of its range: {number}")
    return number


def flag(name, value):
    """0 or 1: these or a bool."""
    number = int(value) if is_bool(value) else index(name, value, "True or False")
    if number not in (0, 1):
        raise wrong_value(f"{name} must be True or False, not {number}")
    return number


def real(name, value):
    """A float."""
    if is_bool(value) or not isinstance(value, numbers.Real):
        raise wrong_type(name, "a number", value)
    try:
        return float(value)
    except OverflowError:
        raise wrong_value(f"{name} is too large") from None


def text(name, value, types=str, encode=str.encode):
    """Bytes without a NUL, for a char pointer."""
    if not isinstance(value, types):
        raise wrong_type(name, "a path" if types is not str else "text", value)
    try:
        data = encode(value)
    except UnicodeEncodeError:
        raise wrong_value(f"{name} is no valid text: {value!r}") from None
    if b"\0" in data:
        raise wrong_value(f"{name} has a NUL inside: {value!r}")
    return data


def as_view(name, value, wanted):
    """A memoryview of what has a buffer."""
    try:
        return memoryview(value)
    except TypeError:
        raise wrong_type(name, wanted, value) from None
