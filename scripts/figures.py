#!/usr/bin/env python3
"""The figures of the documents (docs/figures/), cut out of the page that `squish report` makes of stored results, by
a headless Chromium: scripts/figures.py"""
import html
import os
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
SQUISH = os.environ.get("SQUISH", ROOT / "build/release/squish")
RESULTS = ROOT / "docs/results"
# File, title on the page, results, legend's buttons that are off.
FIGURES = [
    ("smollm2-135m-kld.svg", "KL divergence against bits",
     ["smollm2-135m-calibrated.json", "smollm2-135m-trellis.json", "smollm2-135m-trellis-allocated.json"],
     ["not calibrated", "none"]),
]
SCRIPT = """<script>
for (const name of %s) [...document.querySelectorAll('#legend button')].find(one => one.textContent === name).click();
const svg = document.querySelector('svg[aria-label="%s"]').cloneNode(true);
for (const one of svg.querySelectorAll('[tabindex]')) one.removeAttribute('tabindex');
const style = document.createElementNS(SVG, 'style');
style.textContent = document.querySelector('style').textContent;
const [, , width, height] = svg.getAttribute('viewBox').split(' ');
svg.prepend(style, element('rect', {width, height, fill: 'var(--panel)'}));
svg.setAttribute('xmlns', SVG);
document.body.replaceChildren(Object.assign(document.createElement('pre'), {id: 'figure', textContent: svg.outerHTML}));
</script>"""


def dom(page, width=1200):
    """The document that a headless Chromium makes of the file `page`, once its scripts are done."""
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                               f"--user-data-dir={profile}", f"--window-size={width},900", "--virtual-time-budget=5000",
                               "--dump-dom", page.as_uri()], check=True, capture_output=True, text=True,
                              timeout=120).stdout


def figure(title, results, off):
    with tempfile.TemporaryDirectory() as folder:
        page = pathlib.Path(folder) / "page.html"
        subprocess.run([SQUISH, "report", *(RESULTS / name for name in results), "-o", page], check=True,
                       capture_output=True)
        page.write_text(page.read_text(encoding="utf-8").replace("</body>", SCRIPT % (off, title) + "</body>"),
                        encoding="utf-8")
        drawn = dom(page)
    start = drawn.index('<pre id="figure">') + len('<pre id="figure">')
    return html.unescape(drawn[start:drawn.index("</pre>", start)]) + "\n"


def main():
    for name, title, results, off in FIGURES:
        path = ROOT / "docs/figures" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(figure(title, results, off), encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
