"""A page in a real Chromium, offline: opened, looked at, and watched for what no page may do."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Locator, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSIDE = ("data:", "blob:")  # addresses that never leave the page
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--no-first-run",
]
# The share of pixels that differ from the first one. The browser itself reads the picture.
INK = """async (picture) => {
    const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    const pixels = new Uint32Array(data.buffer);
    return pixels.filter((pixel) => pixel !== pixels[0]).length / pixels.length;
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium that is on PATH."""
    found = [path for name in NAMES if (path := shutil.which(name))]
    if not found:
        msg = "The tests of the report need Chromium on PATH: apt-get install chromium"
        raise LookupError(msg)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(  # noqa: PLR0913  (all but three by name)
    browser: Browser,
    path: Path,
    address: str = "",
    *,
    width: int = 1200,
    dark: bool = False,
    language: str = "en-US",
) -> Iterator[Page]:
    """Open a file. At the end, it must have logged, requested and popped up nothing."""
    troubles: list[str] = []
    asked_for: list[str] = []
    context = browser.new_context(
        offline=True,
        viewport={"width": width, "height": 800},
        color_scheme="dark" if dark else "light",
        locale=language,
    )
    context.set_default_timeout(15_000)
    page = context.new_page()

    def asked(dialog: Dialog) -> None:
        troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", asked)
    page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    context.on("page", lambda other: troubles.append(f"window: {other.url}"))
    context.on("request", lambda request: asked_for.append(request.url))
    page.goto(path.as_uri() + address)
    yield page
    context.close()
    assert troubles == []
    assert {url.partition("#")[0] for url in asked_for if not url.startswith(INSIDE)} == {
        path.as_uri()
    }


def ink(element: Locator) -> float:
    """Return the share of an element's pixels that differ from its first one."""
    picture = base64.b64encode(element.screenshot()).decode()
    share: float = element.page.evaluate(INK, picture)
    return share


def violations(page: Page) -> list[str]:
    """Return what axe finds: the rule, and the elements that break it."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {[node['target'] for node in each['nodes']]}" for each in found]
