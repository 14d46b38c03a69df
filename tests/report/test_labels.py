"""Labels: the user's own and Neuronpedia's, each for its SAE, or one line that says why not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from atp.errors import InputError
from atp.report.labels import read_labels

LOCAL: dict[str, Any] = {
    "spec": "saes/mine",
    "hook_name": "blocks.20.hook_resid_post",
    "d_sae": 2048,
    "sha256": "a" * 64,
}
PUBLISHED: dict[str, Any] = {
    "spec": "gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical",
    "path": "layer_31/width_16k/average_l0_76",
    "hook_name": "blocks.31.hook_resid_post",
    "d_sae": 16384,
    "sha256": "b" * 64,
}
OTHER = {**LOCAL, "spec": "saes/other", "sha256": "c" * 64}
OWN = {"515": "agreement", "7": "birds"}


def explanation(index: str, text: str, source: str = "31-gemmascope-res-16k") -> dict[str, Any]:
    """Return a line of Neuronpedia's data sets: the columns that its export selects."""
    return {
        "id": f"id-{index}",
        "modelId": "gemma-2-9b-it",
        "layer": source,
        "index": index,
        "authorId": "an-author",
        "description": text,
        "embedding": "[0.1,0.2]",
        "typeName": "oai_token-act-pair",
        "explanationModelName": "gpt-4o-mini",
        "umap_x": 0.0,
        "umap_y": 0.0,
        "umap_cluster": 0,
        "umap_log_feature_sparsity": 0.0,
    }


def written(path: Path, content: object) -> Path:
    """Write JSON, JSON Lines or a text, compressed where the name says so."""
    lines = content if isinstance(content, list) and ".jsonl" in path.name else [content]
    texts = (each if isinstance(each, str) else json.dumps(each) for each in lines)
    data = "\n".join(texts).encode()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["labels.json", "labels.json.gz"])
def test_own_labels_of_one_sae_need_no_name(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, OWN)
    assert read_labels(path, [LOCAL]) == {0: OWN}
    again = {**LOCAL, "spec": "elsewhere/mine"}  # the same weights: a run before and one after
    assert read_labels(path, [LOCAL, again]) == {0: OWN, 1: OWN}


@pytest.mark.parametrize("name", ["saes/mine", "layer20-2k", "blocks.20.hook_resid_post"])
def test_own_labels_of_several_saes_name_them(tmp_path: Path, name: str) -> None:
    page = "gemma-2-9b-it/31-gemmascope-res-16k"
    both = {name: OWN, page: {"16383": "last"}}
    as_json = written(tmp_path / "labels.json", both)
    assert read_labels(as_json, [PUBLISHED, LOCAL]) == {1: OWN, 0: {"16383": "last"}}
    assert read_labels(as_json, [LOCAL]) == {0: OWN}  # one file serves several reports
    rows = f"sae,label,feature\n{name},agreement,515\n{page},last,16383\n{name},birds,7\n"
    as_table = written(tmp_path / "labels.csv", rows)
    assert read_labels(as_table, [PUBLISHED, LOCAL]) == {1: OWN, 0: {"16383": "last"}}


def test_a_table_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    text = '\ufefffeature,label\r\n515,"agreement, ""yes"""\r\n7, birds\r\n8,\r\n0007,again\r\n'
    path = written(tmp_path / "labels.csv", text)
    assert read_labels(path, [LOCAL]) == {0: {"515": 'agreement, "yes"', "7": "birds"}}


@pytest.mark.parametrize("name", ["batch-0.jsonl", "batch-0.jsonl.gz", "explanations.json"])
def test_an_export_of_neuronpedia_is_read_by_its_ids(tmp_path: Path, name: str) -> None:
    rows = [
        explanation("515", "first"),
        explanation("515", "second"),
        explanation("9", "elsewhere", "20-gemmascope-res-16k"),
        explanation("16383", " references to agreement "),
        explanation("3", ""),
    ]
    path = written(tmp_path / name, rows)
    expected = {1: {"515": "first", "16383": "references to agreement"}}
    assert read_labels(path, [LOCAL, PUBLISHED]) == expected


@pytest.mark.parametrize("folder", ["explanations", "."])
def test_a_folder_of_neuronpedia_is_read_in_all_its_batches(tmp_path: Path, folder: str) -> None:
    for number in range(12):
        name = f"batch-{number}.jsonl.gz"
        written(tmp_path / folder / name, [explanation(str(number), f"label {number}")])
    expected = {str(number): f"label {number}" for number in range(12)}
    assert read_labels(tmp_path, [PUBLISHED]) == {0: expected}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("l.json", {"2048": "x"}, "'2048' is no feature of saes/mine, which has 0 to 2,047"),
        ("l.json", {"-1": "x"}, "'-1' is no feature"),
        ("l.json", {"²": "x"}, "'²' is no feature"),
        ("l.csv", "feature,label\nfive,x\n", "'five' is no feature"),
        ("l.json", {"layer21-2k": OWN}, "labels of layer21-2k, which is no SAE of the results"),
        ("l.jsonl", [explanation("1", "x")], "labels of gemma-2-9b-it/31-gemmascope-res-16k"),
        ("l.json", {"515": 7}, "the label of '515' is no text"),
        ("l.json", "5", "neither an object nor a list"),
        ("l.json", '{"515": "x"', "cannot be read: line 1, column"),
        ("l.jsonl", [explanation("1", "x"), "{"], "cannot be read: line 2, column"),
        ("l.jsonl", [{"modelId": "m", "index": "1"}], "l.jsonl, line 1: an explanation of Neuronp"),
        ("l.csv", "id,label\n515,x\n", "has no column feature"),
        ("l.csv", "", "has no column feature and no column label"),
        ("l.csv", "feature,label\n515," + "x" * 200_000, "cannot be read: field larger"),
        ("l.csv", "feature,label\n515,one, two\n", "line 2, has more values than its first line"),
        ("l.csv", 'feature,label\n515,"one\n327,two\n', "cannot be read: unexpected end of data"),
    ],
)
def test_a_file_at_fault_is_one_line(
    tmp_path: Path, name: str, content: object, reason: str
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(InputError, match="l\\.") as failed:
        read_labels(path, [LOCAL])
    assert reason in str(failed.value)
    assert failed.value.hint


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json.gz"
    broken.write_bytes(gzip.compress(b"{}" * 1000)[:20])
    plain = tmp_path / "plain.json.gz"
    plain.write_bytes(b"{}")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("feature,label\n515,é\n".encode("latin-1"))
    for path in (tmp_path / "missing.json", broken, plain, latin):
        with pytest.raises(InputError, match=f"{path.name} cannot be read: "):
            read_labels(path, [LOCAL])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no batch-"):
        read_labels(tmp_path / "empty", [LOCAL])


def test_labels_that_fit_several_saes_are_refused(tmp_path: Path) -> None:
    unnamed = written(tmp_path / "labels.json", OWN)
    with pytest.raises(InputError, match=r"names no SAE, .* several: saes/mine, saes/other"):
        read_labels(unnamed, [LOCAL, OTHER])
    at_a_place = written(tmp_path / "labels.json", {"blocks.20.hook_resid_post": OWN})
    with pytest.raises(InputError, match="fits several"):
        read_labels(at_a_place, [LOCAL, OTHER])
    assert read_labels(written(at_a_place, {"saes/other": OWN}), [LOCAL, OTHER]) == {1: OWN}
