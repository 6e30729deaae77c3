"""Names of pages in web addresses."""

import re


def slugify(title: str) -> str:
    """Return a title as it stands in an address: lower case, words joined by single hyphens."""
    hyphenated = re.sub(r"[^a-z0-9]", "-", title.lower())
    return hyphenated.strip("-")


def page_address(site: str, title: str) -> str:
    """Return the address of a page of a site."""
    return f"{site.rstrip('/')}/{slugify(title)}"
