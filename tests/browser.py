# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Pages in a real browser: what its console says, and whether a reader sees everything."""

import base64
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.print_page_options import PrintOptions

PACKAGES = ("chromium", "chromium-driver", "fonts-dejavu-core")
PROGRAMS = ("chromium", "chromedriver")
SCREEN = (1280, 900)
A4_PIXELS = 718
"""Width of the text on A4 paper with margins of 1 cm, at 96 pixels per inch."""
MIN_FONT_PIXELS = 10
_FAULTS = """
const [width, minimum] = arguments, found = [];
const visible = element => element.getClientRects().length > 0;
const scrolls = element => {
  for (let at = element; at && at !== document.body; at = at.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(at).overflowX)) return true;
  return false;
};
for (const image of document.images)
  if (!image.complete || image.naturalWidth < 2) found.push(`image ${image.alt || image.src.slice(0, 60)} is missing`);
for (const link of document.querySelectorAll('a[href^="#"]'))
  if (link.hash.length > 1 && !document.getElementById(decodeURIComponent(link.hash.slice(1))))
    found.push(`link ${link.hash} leads nowhere`);
for (const element of document.body.querySelectorAll("*")) {
  if (!visible(element)) continue;
  const right = element.getBoundingClientRect().right;
  const tag = element.tagName.toLowerCase(), words = element.textContent.slice(0, 40);
  if (right > width + 1 && !scrolls(element)) found.push(`<${tag}> ${words} ends at ${right} of ${width} pixels`);
  const text = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  if (text && parseFloat(getComputedStyle(element).fontSize) < minimum)
    found.push(`text ${words} has ${getComputedStyle(element).fontSize}`);
}
return found;
"""


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def browser() -> Iterator["Browser"]:
    """Start a Chromium without a window."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """A browser with one page."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def open(self, page: Path) -> None:
        """Open a file on a screen of 1,280 pixels."""
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        self._resize(*SCREEN)
        self._driver.get(page.resolve().as_uri())

    def console(self) -> list[str]:
        """Return warnings and errors of the console since the last call."""
        entries: list[dict[str, Any]] = self._driver.get_log("browser")
        return [str(entry["message"]) for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def faults_on_screen(self) -> list[str]:
        """Return missing images, links that lead nowhere, content beyond the right edge, and tiny text."""
        return list(self._driver.execute_script(_FAULTS, SCREEN[0], MIN_FONT_PIXELS))

    def faults_on_paper(self) -> list[str]:
        """Return the same for A4 paper."""
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        self._resize(A4_PIXELS, SCREEN[1])
        return list(self._driver.execute_script(_FAULTS, A4_PIXELS, 8))

    def printed_pages(self) -> int:
        """Return the number of pages of the page as PDF."""
        data = base64.b64decode(self._driver.print_page(PrintOptions()))
        return len(re.findall(rb"/Type\s*/Page\b", data))

    def _resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
