"""The quickstart's snippets: whole programs, kept as such so that they are run by tests, filled in for their reader."""

from collections.abc import Mapping
from pathlib import Path

SNIPPETS = Path(__file__).parent / "snippets"
LANGUAGES: Mapping[str, tuple[str, str]] = {
    "curl": ("curl", "quickstart.sh"),
    "python": ("Python", "quickstart.py"),
    "node": ("Node.js", "quickstart.mjs"),
    "c": ("C, ESP32", "quickstart.c"),
}
"""How each is called, and its file."""
YOUR_KEY = "YOUR-HARDWARE-KEY"


def snippet(language: str, url: str, hardware_key: str = "") -> str:
    """The program, with what its reader would fill in."""
    text = (SNIPPETS / LANGUAGES[language][1]).read_text()
    return text.replace("@URL@", url).replace("@HARDWARE_KEY@", hardware_key or YOUR_KEY)
