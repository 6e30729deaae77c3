"""How much a local tool may read, write, print and take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The ceilings of the local tools; sizes in bytes, times in seconds."""

    read_bytes: int = 10 * 1024 * 1024
    write_bytes: int = 5 * 1024 * 1024
    content_bytes: int = 1024 * 1024 - 64 * 1024
    """Most text in one result; below the contract's 1 MiB so that the frame around it fits too."""
    output_bytes: int = 256 * 1024
    """Most of a command's output that is kept, from its beginning and its end."""
    list_entries: int = 5000
    search_results: int = 1000
    search_line: int = 2000
    """Longest line a search looks at; the rest of it is not searched."""
    search_file_bytes: int = 2 * 1024 * 1024
    search_seconds: float = 20.0
    command_seconds: float = 60.0
    command_seconds_most: float = 300.0
    kill_seconds: float = 2.0
    """Time between asking a command's processes to end and killing them."""
    progress_seconds: float = 0.05
    """Shortest time between two progress messages of one call."""
