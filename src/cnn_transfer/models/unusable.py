"""The error of networks and weights that people bring and that cannot be used."""


class UnusableNetworkError(ValueError):
    """A network or its weights cannot be used; the message names what, why, and what to do."""
