"""What a caller without good credentials is told."""

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError


def credentials_invalid(message: str) -> CallerError:
    """Return the error of credentials that are missing or not good; the message never repeats them."""
    return CallerError(v1.ERROR_REASON_CREDENTIALS_INVALID, message)


def expired() -> CallerError:
    """Return the error of credentials that were good once."""
    return credentials_invalid("the credentials have expired; come back with fresh ones")
