"""`atp report` writes one page, whatever the results are; its errors are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from disk import files_limited_to
from made_up_scores import made, source
from page_blocks import overview_and_blocks, table
from runs import events, of

from atp.cli.main import main
from atp.errors import ExitCode
from atp.report.index import write_index

QUICK = ("--min-log-ratio=none", "--resamples=100")


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result."""
    return made(tmp_path / "results", source(tmp_path), exact="flagged")


def page_of(capfd: pytest.CaptureFixture[str], *arguments: object) -> Path:
    """Run the command, and return the page, its last line."""
    assert main(["report", *map(str, arguments), *QUICK]) == ExitCode.OK
    return Path(capfd.readouterr().out.splitlines()[-1])


def test_the_page_is_beside_its_result_and_written_again_it_is_replaced(
    result: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = page_of(capfd, result)

    assert page == result.parent / result.name.replace("results", "report").replace("json", "html")
    overview, blocks = overview_and_blocks(page)
    pairs, _ = table(blocks["r0-pairs"])
    assert overview["results"][0]["counts"]["pairs"] == len(pairs["metric"])
    assert page_of(capfd, result.parent) == page
    assert len([*result.parent.glob("atp_report*")]) == 1


def test_thresholds_are_those_of_atp_features(
    result: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = page_of(capfd, result, "--min-score=0.02", "--top-features=2")

    selection = overview_and_blocks(page)[0]["results"][0]["selection"]
    assert len(selection["selected"]) == 2
    assert selection["settings"]["min_score"] == 0.02


def test_out_is_a_folder_or_the_page_itself(
    result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert page_of(capfd, result, f"--out={tmp_path / 'new'}").parent == tmp_path / "new"
    assert main(["report", str(result), f"--out={result}"]) == ExitCode.USAGE
    assert "ends in .html" in events(capfd.readouterr().err)[-1]["hint"]
    mine = tmp_path / "further" / "mine.html"
    assert page_of(capfd, result, f"--out={mine}") == mine
    assert mine.is_file()


def test_labels_reach_the_page(
    result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"3": "flattery </script>", "60": "never listed"}))

    page = page_of(capfd, result, f"--labels={labels}")

    (shown,) = overview_and_blocks(page)[0]["results"]
    assert shown["labels"]["3"] == "flattery </script>"
    named = [each for each in shown["strongest"] if each["feature"] == "3"]
    assert all(each["label"] == "flattery </script>" for each in named)


def test_figures_come_with_the_tables_behind_them(
    result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page_of(capfd, result, f"--figures={tmp_path / 'figures'}")

    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    (label,) = {name.partition("_")[0] for name in names}
    pictures = ("agreement", "strongest")
    kinds = ("csv", "png", "svg")
    assert names == sorted(f"{label}_{name}.{kind}" for name in pictures for kind in kinds)


def test_a_folder_that_cannot_be_written_is_one_line(
    result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")

    assert main(["report", str(result), f"--out={tmp_path / 'file' / 'page'}"]) == 74

    line = events(capfd.readouterr().err)[-1]
    assert (line["event"], line["exit_code"]) == ("atp.failed", 74)
    assert str(tmp_path / "file") in line["message"]


def test_a_full_disk_leaves_the_page_that_was_there(
    result: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = page_of(capfd, result)
    before = page.read_bytes()

    with files_limited_to(len(before) // 2):
        assert main(["report", str(result), *QUICK]) == ExitCode.SAVE_FAILED

    assert page.read_bytes() == before
    assert "bytes" in events(capfd.readouterr().err)[-1]["message"]


def test_what_is_no_result_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path, said in ((tmp_path, "holds a result"), (tmp_path / "gone.json", "does not exist")):
        assert main(["report", str(path)]) == ExitCode.USAGE
        assert said in events(capfd.readouterr().err)[-1]["message"]


def test_the_log_says_what_was_found_and_written(
    result: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(result), *QUICK]) == ExitCode.OK

    out, err = capfd.readouterr()
    (found,) = of("report.found", events(err))
    assert (found["results"], found["interventions"]) == ([str(result)], [])
    (done,) = of("report.done", events(err))
    assert done["page"] == out.strip()
    assert done["bytes"] == Path(out.strip()).stat().st_size


def test_the_index_lists_the_runs_of_a_folder_the_newest_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    path = source(tmp_path)
    runs = [
        made(folder, path, changed={"started": f"2026-01-{day}T12:00:00+00:00"}) for day in (30, 31)
    ]
    (folder / "atp_results_broken.json").write_text("{")
    page = page_of(capfd, runs[1])

    html = write_index(folder).read_text(encoding="utf-8")

    assert html.index("2026-01-31") < html.index("2026-01-30")
    assert html.count("<tr>") == 3
    assert f'href="{page.name}"' in html
    assert html.count("atp_report") == 1
