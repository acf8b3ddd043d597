"""Pages: nothing out of the data becomes code, and nothing is fetched."""

import base64
import hashlib
import json
import math
import re
from pathlib import Path

import pytest

from etude.report import vega
from etude.report.page import Column, Table, embedded_json, excerpt, number, render_page
from report.made_run import EVIL


def render(**context: object) -> str:
    """A page of the report's template with everything that it does not get left empty."""
    record = {"finished": True, "missing": []}
    names = (
        "lead headline metrics meanings gain decision kept verdicts advice learning columns fitted_over "
        "row_losses never_learned per_class confusion pairs thresholds reliability calibration failures "
        "baselines environment"
    )
    empty = dict.fromkeys(names.split())
    texts = {"plan": excerpt(""), "config": excerpt("")}
    return render_page("report.html", record=record, **{"title": "A run", **empty, **texts, **context})  # type: ignore[arg-type]


def test_titles_cells_and_captions_are_escaped() -> None:
    table = Table(
        EVIL, [Column(EVIL, "label", EVIL), Column("Text", "excerpt")], [[EVIL, EVIL], [None, None]], EVIL
    )
    page = render(title=EVIL, per_class=table, lead=EVIL)
    assert "<script>document" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") >= 7


def test_a_tag_inside_json_cannot_end_the_script() -> None:
    written = str(embedded_json({"a": "</script><!-- & \u2028"}))
    assert not set("<>&\u2028") & set(written)
    assert json.loads(written) == {"a": "</script><!-- & \u2028"}


def test_json_holds_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json([math.nan])


def test_only_the_two_scripts_of_the_page_may_run() -> None:
    chart = {"mark": "point", "description": "</script><script>alert(1)</script>"}
    page = render(learning=[{"name": "one", "sentence": EVIL, "title": EVIL}], charts={"one": chart})
    allowed = set(
        re.findall(r"'sha256-([^']+)'", page.split('content="', 1)[1].split('"')[0].replace("&#39;", "'"))
    )
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts} == allowed
    assert len(scripts) == 2
    assert "default-src &#39;none&#39;" in page


def test_a_page_without_charts_is_small() -> None:
    assert len(render()) < 40_000


def test_an_excerpt_keeps_emoji_and_accents_whole() -> None:
    family = "👩\u200d👩\u200d👧"
    assert excerpt(family * 3, 7).text == family
    assert excerpt("cafe\u0301 noir", 4).text == "caf"
    assert excerpt("x" * 100_000, 10).length == 100_000
    assert excerpt("\u0301" * 9, 4).text == "\u0301" * 4


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (math.nan, "–"), (0, "0"), (12345.678, "12,346"), (1e-7, "1e−7"), (-0.5, "−0.5")],
)
def test_numbers_as_people_write_them(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_the_bundle_is_kept_and_a_broken_cache_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = "x;window.vegaEmbed=1"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vega, "_make", lambda: whole)
    for before in (None, "window.veg", "\udcff"):
        if before is not None:
            kept.write_text(before, encoding="utf-8", errors="surrogateescape")  # noqa: F821
        vega.vega_bundle.cache_clear()
        assert vega.vega_bundle() == whole
        (kept,) = (tmp_path / "etude").iterdir()
        assert kept.read_text() == whole
    vega.vega_bundle.cache_clear()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert vega.vega_bundle() == whole
    vega.vega_bundle.cache_clear()
