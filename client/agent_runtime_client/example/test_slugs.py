"""What slugs promise; run with `python3 -m unittest`."""

import unittest

from slugs import page_address, slugify


class SlugifyTest(unittest.TestCase):
    """Titles as people write them."""

    def test_words_are_joined_by_hyphens(self) -> None:
        """Spaces become hyphens, letters small."""
        self.assertEqual(slugify("Release notes"), "release-notes")

    def test_a_run_of_other_signs_becomes_one_hyphen(self) -> None:
        """A comma and a space are one gap between words."""
        self.assertEqual(slugify("Hello, World!"), "hello-world")

    def test_nothing_hangs_at_the_ends(self) -> None:
        """Signs around a title leave no hyphen."""
        self.assertEqual(slugify("...What now?"), "what-now")


class PageAddressTest(unittest.TestCase):
    """Addresses of pages."""

    def test_the_site_and_the_slug_are_joined_by_one_slash(self) -> None:
        """A slash at the end of the site is not doubled."""
        self.assertEqual(page_address("https://example.org/", "About us"), "https://example.org/about-us")


if __name__ == "__main__":
    unittest.main()
