"""The results page in a real browser (Debian's chromium, headless; skipped where there is none): no error, figures,
sorting, tooltips, toggles, downloads, and the commands it shows."""
import base64
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from figures import dom  # noqa: E402

SQUISH = pathlib.Path(os.environ.get("SQUISH_BINARY", ROOT / "build/release/squish"))
RESULTS = [ROOT / "docs/results" / name for name in ("smollm2-135m.json", "smollm2-135m-calibrated.json",
                                                      "smollm2-135m-trellis-allocated.json")]
BEFORE = """<script>
const found = {errors: []};
addEventListener('error', event => found.errors.push(String(event.message)));
addEventListener('securitypolicyviolation', event => found.errors.push('policy: ' + event.blockedURI));
for (const name of ['error', 'warn']) console[name] = (...words) => found.errors.push(words.join(' '));
URL.createObjectURL = blob => { found.blob = blob; return '#'; };
</script>"""
AFTER = """<script>
(async () => {
  const all = (selector, of = document) => [...of.querySelectorAll(selector)];
  const models = () => document.querySelector('[data-stage="2"]') ?? document.querySelector('[data-stage="1"]');
  const head = key => models().querySelector(`[data-key="${key}"]`);
  const column = key => {
    const at = all('th button', models()).findIndex(button => button.dataset.key === key);
    return all('tbody tr', models()).map(row => row.children[at]?.textContent ?? null);
  };
  found.figures = all('figure h3').map(one => one.textContent);
  found.drawings = all('figure svg').map(one => one.outerHTML).join('').includes('NaN') ? 'NaN' : '';
  found.marks = all('figure svg .mark').length;
  found.cells = all('figure svg .cell').length;
  found.rows = all('tbody tr').length;
  found.labels = column('label');
  found.commands = all('tbody tr td:last-child button').map(one => one.title);
  found.sources = document.getElementById('sources').textContent;
  found.injected = all('img, iframe').length;
  const key = head('bpw_linear') ? 'bpw_linear' : 'bpw';
  head(key).click();
  found.ascending = column(key);
  head(key).click();
  found.descending = column(key);
  found.sort = head(key).closest('th').getAttribute('aria-sort');
  const mark = document.querySelector('figure svg .mark');
  const tip = document.getElementById('tip');
  mark.dispatchEvent(new PointerEvent('pointerenter'));
  found.tip = tip.hidden ? '' : tip.textContent;
  mark.dispatchEvent(new PointerEvent('pointerleave'));
  found.left = tip.hidden;
  const first = document.querySelector('#legend button');
  found.toggled = first.textContent;
  first.click();
  found.rows_without = all('tbody tr').length;
  document.querySelector('#legend button').click();
  found.rows_again = all('tbody tr').length;
  for (const [i, name] of ['csv', 'json'].entries()) {
    all('.tools button', models())[i].click();
    found[name] = await found.blob.text();
  }
  delete found.blob;
  found.wide = document.documentElement.scrollWidth > innerWidth;
  document.body.replaceChildren();
  document.body.append(Object.assign(document.createElement('pre'), {id: 'found', textContent: btoa(
    String.fromCharCode(...new TextEncoder().encode(JSON.stringify(found))))}));
})();
</script>"""


@unittest.skipUnless(shutil.which("chromium"), "no chromium: the page is not tried in a browser")
class Page(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def browse(self, sources, width=1200):
        """What the script AFTER found on the page of `sources`."""
        page = self.folder / "report.html"
        subprocess.run([SQUISH, "report", *sources, "-o", page], check=True, capture_output=True)
        text = page.read_text(encoding="utf-8")
        self.assertEqual(text.count("http"), text.count("http-equiv") + text.count("http://www.w3.org/2000/svg"))
        page.write_text(text.replace("<head>", "<head>" + BEFORE, 1).replace("</body>", AFTER + "</body>"),
                        encoding="utf-8")
        # On a busy machine its time, which is not ours, is up before downloads have been read back.
        drawn = next((drawn for drawn in (dom(page, width) for _ in range(5)) if '<pre id="found">' in drawn), "")
        self.assertTrue(drawn, "the script did not end in any of 5 attempts")
        start = drawn.index('<pre id="found">') + len('<pre id="found">')
        encoded = drawn[start:drawn.index("</pre>", start)]
        found = json.loads(base64.b64decode(encoded))
        self.assertEqual(found["errors"], [])
        return found

    def test_stored_results(self):
        found = self.browse(RESULTS)
        rows = sum(len(json.loads(file.read_text()).get(key, [])) for file in RESULTS for key in ("stage1", "stage2", "rows"))
        self.assertEqual(found["rows"], rows)
        self.assertEqual(found["rows_again"], rows)
        self.assertLess(found["rows_without"], rows)
        self.assertEqual(len(found["figures"]), 8)
        self.assertNotIn("NaN", found["drawings"])
        self.assertGreater(found["marks"], rows)
        numbers = [float(text) for text in found["ascending"]]
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual([float(text) for text in found["descending"]], sorted(numbers, reverse=True))
        self.assertEqual(found["sort"], "descending")
        self.assertIn("squish bench", found["tip"])
        self.assertTrue(found["left"])
        self.assertIn("aqlm:m=2,b=8,g=8 calibrated", " ".join(found["labels"]))
        self.assertEqual(json.loads(found["json"])["files"][0]["stage1"], json.loads(RESULTS[0].read_text())["stage1"])
        self.assertIn("kld_mean", found["csv"].splitlines()[0])
        self.assertIn("The source is itself quantised", found["sources"])

    def test_a_phone_is_wide_enough(self):
        self.assertFalse(self.browse(RESULTS, width=500)["wide"])

    def test_hostile_texts_are_texts(self):
        results = json.loads(RESULTS[0].read_text())
        hostile = "</script><img src=x onerror=alert(1)>'\"\u2028<!--"
        for row in results["stage1"] + results["stage2"]:
            row["spec"] = hostile
        results["stage2"][3]["status"] = hostile
        results["host"]["cpu"] = results["created"] = hostile
        results["stage2"][4].update(ppl=None, bpw_linear="x", tps=[], kld_mean=-1, file_bytes={})
        file = self.folder / "<b>.json"
        file.write_text(json.dumps(results))
        found = self.browse([file])
        self.assertEqual(found["injected"], 0)
        self.assertEqual(found["labels"][0], hostile)
        self.assertEqual(found["rows"], len(results["stage1"]) + len(results["stage2"]))

    def test_rows_that_hardly_differ_or_are_far_off_are_drawn(self):
        results = json.loads(RESULTS[0].read_text())
        for name, field, values in (("alike", "snr_db", (4.25, 4.250000000000001)), ("far", "bpw", (20, 30))):
            results["stage1"] = [{**results["stage1"][0], field: value} for value in values]
            results["stage2"] = []
            file = self.folder / f"{name}.json"
            file.write_text(json.dumps(results))
            found = self.browse([file])
            self.assertEqual(len(found["figures"]), 2)
            self.assertEqual(found["drawings"], "")

    def test_the_command_of_a_row_makes_it_again(self):
        first = self.folder / "first.json"
        subprocess.run([SQUISH, "bench", "--rows", "48", "--cols", "96", "--sigma", "0.5", "--seed", "3", "--methods",
                        "quip:bits=2;int4:g=32", "--output", first, "--html", self.folder / "first.html"],
                       check=True, capture_output=True)
        found = self.browse([first])
        self.assertEqual(found["labels"], ["quip:bits=2", "int4:g=32"])
        for row, command in zip(json.loads(first.read_text())["stage1"], found["commands"]):
            again = self.folder / "again.json"
            words = shlex.split(command)
            self.assertEqual(words[-2:], ["--output", "row.json"])
            subprocess.run([SQUISH, *words[1:-1], again], check=True, capture_output=True)
            self.assertEqual(json.loads(again.read_text())["stage1"][0]["snr_db"], row["snr_db"])


if __name__ == "__main__":
    unittest.main()
