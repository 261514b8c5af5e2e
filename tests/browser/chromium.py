"""A browser without a window: pictures of pages, and what it measures in them.

Pages forbid scripts, so a page is measured as a frame, without its policy, of a page that has one.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
DEADLINE_S = 120.0
SIZES = {"desktop": 1200, "phone": 390}

_MEASURE = """
const round = box => ({left: box.left, right: box.right, top: box.top, bottom: box.bottom});
function overlaps(a, b) {
  return a.left < b.right - 1 && b.left < a.right - 1
    && a.top < b.bottom - 2 && b.top < a.bottom - 2;
}
function chart(svg) {
  const box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text:not(.mark)")].map(
    text => ({said: text.textContent, box: round(text.getBoundingClientRect())}));
  const clashes = [];
  texts.forEach((a, i) => texts.slice(i + 1).forEach(b => {
    if (overlaps(a.box, b.box)) clashes.push(a.said + " / " + b.said);
  }));
  return {
    title: svg.querySelector("title").textContent,
    alt: svg.querySelector("desc").textContent,
    width: box.width, height: box.height,
    outside: texts.filter(({box: b}) => b.left < box.left - 1 || b.right > box.right + 1
      || b.top < box.top - 1 || b.bottom > box.bottom + 1).map(text => text.said),
    clashes,
    letter_px: Math.min(...texts.map(({box: b}) => b.bottom - b.top)),
    lines: [...svg.querySelectorAll("path.line")].map(path => path.getTotalLength()),
    bars: [...svg.querySelectorAll("rect")].filter(rect => {
      const b = rect.getBoundingClientRect(); return b.width > 0 && b.height > 0;
    }).length,
    marks: svg.querySelectorAll("circle").length,
  };
}
onload = () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const root = frame.contentDocument.documentElement;
    found[frame.name] = {
      width: frame.clientWidth, scroll_width: root.scrollWidth, height: root.scrollHeight,
      charts: [...root.querySelectorAll("svg.chart")].map(chart),
      scripts: root.querySelectorAll("script").length,
      text: root.innerText.slice(0, 20000),
    };
  }
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify(found);
};
"""


def missing() -> str:
    """Return why pages cannot be looked at here; "" if they can."""
    return "" if shutil.which("chromium") else "chromium is not installed"


def _run(folder: Path, *arguments: str) -> bytes:
    command = ["chromium", *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    return done.stdout


def measure(page: str, folder: Path) -> dict[str, Any]:
    """Return, for each of `SIZES`, what a browser made of a page."""
    bare, policies = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*/>', "", page)
    assert policies == 1
    frames = "".join(
        f'<iframe name="{name}" style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{html.escape(bare)}"></iframe>'
        for name, width in SIZES.items()
    )
    outer = folder / "measure.html"
    outer.write_text(
        f"<!doctype html><meta charset=utf-8><body><script>{_MEASURE}</script>{frames}",
        encoding="utf-8",
    )
    dom = _run(folder, "--virtual-time-budget=20000", "--dump-dom", outer.as_uri()).decode()
    told = dom.partition("<pre>")[2].partition("</pre>")[0]
    return json.loads(html.unescape(told))


def photograph(page: str, folder: Path, size: str, height: int) -> Path:
    """Return a picture of a page as it is, at one of `SIZES`."""
    inner, outer, picture = folder / "page.html", folder / "frame.html", folder / f"{size}.png"
    inner.write_text(page, encoding="utf-8")
    # A frame, because a window cannot be as narrow as a phone.
    outer.write_text(
        '<!doctype html><body style="margin:0"><iframe src="page.html" '
        f'style="width:{SIZES[size]}px;height:{height}px;border:0">'
    )
    _run(folder, f"--screenshot={picture}", f"--window-size={SIZES[size]},{height}", outer.as_uri())
    return picture


def print_out(page: str, folder: Path) -> Path:
    """Return a page as it is printed, a PDF."""
    inner, paper = folder / "paper.html", folder / "paper.pdf"
    inner.write_text(page, encoding="utf-8")
    _run(folder, f"--print-to-pdf={paper}", "--no-pdf-header-footer", inner.as_uri())
    return paper


def check(measured: dict[str, Any]) -> None:
    """Check that every chart is drawn, readable and in its place, at every size."""
    for size, page in measured.items():
        assert page["scripts"] == 0
        assert page["scroll_width"] <= page["width"], f"{size}: wider than the window"
        for chart in page["charts"]:
            where = f"{size}: {chart['title']}"
            assert chart["width"] > 200, where
            assert chart["height"] > 15, where
            assert len(chart["alt"]) > 10, where
            assert chart["outside"] == [], where
            assert chart["clashes"] == [], where
            assert chart["letter_px"] >= 9, where
            assert chart["lines"] or chart["bars"] or chart["marks"], where
            assert all(length >= 0 for length in chart["lines"]), where
            assert not chart["lines"] or max(chart["lines"]) > 20, where
