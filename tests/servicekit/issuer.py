"""A token issuer: signs tokens, and serves its public keys over HTTP."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey

ISSUER: Final = "https://issuer.example"
AUDIENCE: Final = "agent-runtime"


class Issuer:
    """Signs with its newest key; `reads` counts how often the keys were asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.reads = 0
        self.up = True
        self.body: bytes | None = None
        self.keys: list[ECKey] = []
        self.rotate()

    def rotate(self) -> None:
        """Sign with a new key, and publish it alone."""
        number = len(self.keys) + 1
        self.keys.append(ECKey.generate_key("P-256", {"kid": f"key-{number}"}))

    def token(self, *, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        """Return a signed token; claims of None are left out."""
        usual = {
            "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "tenant": "acme", "sub": "ann",
            "roles": ["user", "reviewer", "something-else"],
        }  # fmt: skip
        said = {name: value for name, value in (usual | claims).items() if value is not None}
        signer = key or self.keys[-1]
        return jwt.encode({"alg": "ES256", "kid": signer.kid} | (header or {}), said, signer)

    async def _serve(self, _request: web.Request) -> web.Response:
        self.reads += 1
        if not self.up:
            raise web.HTTPServiceUnavailable
        if self.body is not None:
            return web.Response(body=self.body)
        return web.json_response({"keys": [self.keys[-1].as_dict(private=False)]})


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """Run an issuer while the block runs."""
    issuer, app = Issuer(), web.Application()
    app.router.add_get("/jwks", issuer._serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    try:
        yield issuer
    finally:
        await runner.cleanup()
