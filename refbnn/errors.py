"""The one error that means: what came from outside is wrong."""


class InputError(ValueError):
    """The input or the call is wrong; one line names the thing and what was expected.

    The command line prints it on standard error and exits with code 2.
    """
