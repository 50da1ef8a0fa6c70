"""Pages in a real browser, and what a browser would take apart."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from crawlo_otel_leaks.report import html, write

VOID = {"meta", "input", "img", "br"}
FRAME = """<!doctype html><iframe src="leaks.html" width="WIDTH" height="900" onload="
const page = contentDocument, tell = what => document.body.append(what);
const all = which => [...page.querySelectorAll(which)];
ACTION"></iframe>"""


class Dom(HTMLParser):
    """Elements and texts of a page, as a browser would take them apart."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)

    def scripts(self):
        return [data for tag, data in self.texts if tag == "script"]

    @property
    def seen(self):
        """What a reader can see, without what styles hide."""
        return "".join(data for tag, data in self.texts if tag not in ("script", "style", "noscript", "title"))


def draw(folder, there, page=html.PLAIN, action=None, width=1280):
    """Draw a page in a real browser and return the document that came of it; `action` runs beside it, in a frame."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH: the page cannot be drawn")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--allow-file-access-from-files", "--lang=en-US"]
    flags += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    write(there, str(folder / "leaks.html"), page)
    shown = folder / "leaks.html"
    if action:
        shown = folder / "frame.html"
        shown.write_text(FRAME.replace("WIDTH", str(width)).replace("ACTION", action))
    done = subprocess.run([browser, *flags, shown.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return Dom(done.stdout)
