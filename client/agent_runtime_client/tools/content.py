"""Text as the content of a result, cut to its limit."""

from agent_runtime import v1


def clean(text: str) -> str:
    """Return `text` with what UTF-8 cannot carry replaced; file names may hold such things."""
    return text.encode("utf-8", "replace").decode("utf-8")


def cut(text: str, limit: int) -> tuple[str, int]:
    """Return as much of `text` as fits `limit` bytes of UTF-8, and the size of all of it."""
    data = text.encode("utf-8", "replace")
    return data[:limit].decode("utf-8", "ignore"), len(data)


def text_result(text: str, limit: int, *, name: str = "") -> v1.ToolResult:
    """Return a result with `text` as its content."""
    shown, size = cut(text, limit)
    result = v1.ToolResult(
        status=v1.ToolResult.STATUS_SUCCEEDED, content=[v1.Part(text=shown, name=clean(name)[:1024])]
    )
    if size > limit:
        result.truncated, result.original_size_bytes = True, size
    return result
