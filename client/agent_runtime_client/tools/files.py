"""read_file, write_file, list_files and create_directory."""

import codecs
import stat

from agent_runtime import v1
from agent_runtime_client.errors import ToolFailed
from agent_runtime_client.tools.arguments import Arguments
from agent_runtime_client.tools.content import clean, text_result
from agent_runtime_client.tools.finding import matches, walk
from agent_runtime_client.tools.limits import Limits
from agent_runtime_client.tools.sandbox import Sandbox


def read_file(sandbox: Sandbox, limits: Limits, arguments: Arguments) -> v1.ToolResult:
    """Return a text file, or the lines from `start_line` to `end_line`."""
    path = arguments.text("path")
    encoding = _encoding(arguments)
    start, end = arguments.line("start_line"), arguments.line("end_line")
    data, size = sandbox.read(sandbox.parts(path), limits.read_bytes)
    try:
        # A cut may fall inside a character; what is left of that one does not count as an error.
        text = codecs.getincrementaldecoder(encoding)().decode(data, final=size == len(data))
    except UnicodeDecodeError as error:
        raise ToolFailed(f"path: {path!r} is no {encoding} text (at byte {error.start})") from error
    result = text_result(_lines(text, start, end), limits.content_bytes, name=path)
    if size > len(data):
        result.truncated, result.original_size_bytes = True, size
    return result


def write_file(sandbox: Sandbox, limits: Limits, arguments: Arguments) -> v1.ToolResult:
    """Write a text file whole or not at all.

    `backup` has no effect: the old text is never half overwritten, and a stray copy would be a surprise.
    """
    path, content = arguments.text("path"), arguments.text("content")
    encoding = _encoding(arguments)
    try:
        data = content.encode(encoding)
    except UnicodeEncodeError as error:
        raise ToolFailed(f"content: cannot be written as {encoding} (character {error.start})") from error
    if len(data) > limits.write_bytes:
        raise ToolFailed(f"content: {len(data)} bytes; at most {limits.write_bytes} can be written")
    parts = sandbox.parts(path)
    is_new = sandbox.write(parts, data, create_dirs=arguments.flag("create_dirs", default=False))
    verb = "created" if is_new else "replaced"
    return text_result(f"{verb} {'/'.join(parts)} ({len(data)} bytes)", limits.content_bytes)


def list_files(sandbox: Sandbox, limits: Limits, arguments: Arguments) -> v1.ToolResult:
    """List a directory, one path a line relative to it; `/` marks directories and `@` links."""
    recursive = arguments.flag("recursive", default=False)
    hidden = arguments.flag("include_hidden", default=False)
    pattern = arguments.text("pattern", "*") or "*"
    lines: list[str] = []
    with sandbox.directory(sandbox.parts(arguments.text("path", "."))) as directory:
        for found in walk(directory, enter=lambda name: recursive and (hidden or name[0] != ".")):
            if (not hidden and found.name[0] == ".") or not matches(pattern, found.path, found.name):
                continue
            if len(lines) == limits.list_entries:
                lines.append(f"[stopped at {limits.list_entries} entries; there are more]")
                break
            lines.append(found.path + _mark(found.mode))
    result = text_result(clean("\n".join(lines)) or "no entries", limits.content_bytes)
    result.truncated = result.truncated or len(lines) > limits.list_entries
    return result


def create_directory(sandbox: Sandbox, limits: Limits, arguments: Arguments) -> v1.ToolResult:
    """Make a directory, with its parents unless `recursive` is false."""
    parts = sandbox.parts(arguments.text("path"))
    made = sandbox.make_directory(parts, parents=arguments.flag("recursive", default=True))
    text = f"created {'/'.join(parts)}" if made else f"{'/'.join(parts) or '.'} is there already"
    return text_result(text, limits.content_bytes)


def _encoding(arguments: Arguments) -> str:
    name = arguments.text("encoding", "utf-8") or "utf-8"
    try:
        info = codecs.lookup(name)
        # Python's own codecs that are no character sets (such as zip) fail here.
        "".encode(info.name)
    except (LookupError, UnicodeError, ValueError) as error:
        raise ToolFailed(f"encoding: {name!r} is not known") from error
    return info.name


def _lines(text: str, start: int | None, end: int | None) -> str:
    if start is None and end is None:
        return text
    lines = text.split("\n")
    count = len(lines) - (lines[-1] == "")
    first = start or 1
    if end is not None and end < first:
        raise ToolFailed(f"end_line: {end} is before start_line {first}")
    if first > max(count, 1):
        raise ToolFailed(f"start_line: {first} is past the end; the file has {count} lines")
    return "\n".join(lines[first - 1 : end])


def _mark(mode: int) -> str:
    return "/" if stat.S_ISDIR(mode) else "@" if stat.S_ISLNK(mode) else ""
