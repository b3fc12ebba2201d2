"""The hash of the package's sources."""

from __future__ import annotations

from inc_laaciq.provenance import sources_sha256


def test_the_hash_follows_names_and_contents_of_the_parts_that_count(tmp_path):
    def digest(name, parts, **files):
        package = tmp_path / name
        for path, text in {"quant/grid": "1", "scaling": "2", "report/html": "3", **files}.items():
            file = package / f"{path}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return sources_sha256(parts, package=package)

    parts = ("quant", "scaling.py")
    same = digest("same", parts)
    assert digest("report", parts, **{"report/html": "changed"}) == same
    assert digest("folder", parts, **{"quant/grid": "changed"}) != same
    assert digest("file", parts, scaling="changed") != same
    assert digest("more", parts, **{"quant/deep/more": ""}) != same
    assert digest("all", None) != digest("changed", None, **{"report/html": "changed"})
    assert len(sources_sha256()) == 64
