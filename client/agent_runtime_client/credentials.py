"""What every RPC carries to say who calls."""

import inspect
from collections.abc import Awaitable, Callable, Sequence

Token = str | Callable[[], str | Awaitable[str]]
"""An API key or a signed token, or a function that returns one that is still good."""


class Metadata:
    """The metadata of RPCs; a token that is a function is asked for anew for each of them."""

    def __init__(self, fixed: Sequence[tuple[str, str]] = (), token: Token | None = None) -> None:
        self._fixed = tuple(fixed)
        self._token = token

    @property
    def renews(self) -> bool:
        """Whether trying again may help when the credentials are refused."""
        return callable(self._token)

    async def __call__(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of an RPC that begins now."""
        if self._token is None:
            return self._fixed
        token = self._token() if callable(self._token) else self._token
        if inspect.isawaitable(token):
            token = await token
        return (*self._fixed, ("authorization", f"Bearer {token}"))
