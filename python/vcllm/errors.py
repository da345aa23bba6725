"""errors.py - what a failed call raises."""

OK, E_ARGUMENT, E_IO, E_LIMIT, E_CODEC = 0, -1, -11, -24, -30     # enum vcl_status


class Error(Exception):
    """A call of the library failed: status is its enum vcl_status, message says why."""

    def __init__(self, status, message):
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self):
        return self.message


class ArgumentError(Error, ValueError):
    """An argument is out of its range (VCL_E_ARGUMENT), as this package or the library found."""


def failure(status, message):
    """The exception for a status."""
    return (ArgumentError if status == E_ARGUMENT else Error)(status, message)
