"""Each of the 13,857 dictionaries in SAELens' list is scored or refused before it is downloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from huggingface_hub.errors import EntryNotFoundError
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.loading.pretrained_saes_directory import (
    PretrainedSAELookup,
    get_pretrained_saes_directory,
)

from atp.errors import SettingsError
from atp.model.dictionaries import registry
from atp.model.dictionaries.catalogue import (
    ListedDictionary,
    counts_by_model,
    dictionaries_for,
    dictionary_named,
)
from atp.model.dictionaries.names import check_sae_spec, published_at
from atp.model.hook_names import hook_point_of
from atp.model.names import comparable

BY_NAMES = ("gemma_2", "gemma_2_transcoder", "goodfire", "qwen_scope", "deepseek_r1")
"""Loaders of SAELens that take all of a configuration from names."""


@pytest.fixture(scope="module")
def directory() -> dict[str, PretrainedSAELookup]:
    """SAELens' own reading of its list."""
    return get_pretrained_saes_directory()


@pytest.fixture(scope="module")
def everything(directory: dict[str, PretrainedSAELookup]) -> dict[tuple[str, str], Any]:
    """Each dictionary of the list, by release and id, as `atp saes` and a choice read it."""
    models = [frozenset({comparable(model)}) for model in counts_by_model()]
    listed = [each for model in models for each in dictionaries_for(model)]
    return {(each.release, each.sae_id): each for each in listed}


def test_every_dictionary_of_saelens_is_listed_once(
    directory: dict[str, PretrainedSAELookup], everything: dict[tuple[str, str], ListedDictionary]
) -> None:
    expected = {
        (release, sae_id): (known.repo_id, path, known.conversion_func or "sae_lens")
        for release, known in directory.items()
        for sae_id, path in known.saes_map.items()
    }

    assert len(expected) == 13_857
    assert expected == {
        name: (each.repository, each.path, each.loader) for name, each in everything.items()
    }


def test_a_run_refuses_by_name_what_the_list_says_is_refused_and_no_more(
    everything: dict[tuple[str, str], ListedDictionary],
) -> None:
    refused = {}
    for each in everything.values():
        try:
            check_sae_spec(each.spec)
        except SettingsError as error:
            refused[each.spec] = str(error)
    expected = {each.spec: each.refusal for each in everything.values() if each.refusal}
    assert refused.keys() == expected.keys()
    assert all(reason in refused[spec] for spec, reason in expected.items())
    assert all(len(line.splitlines()) == 1 for line in refused.values())

    assert Counter("temporal" in line for line in refused.values()) == {True: 3, False: 1}
    assert len(refused) <= 0.02 * len(everything)


def test_each_has_a_site_and_a_layer_except_the_embeddings(
    everything: dict[tuple[str, str], ListedDictionary],
) -> None:
    sites = Counter(each.site for each in everything.values())

    assert sites["transcoder"] == 3_810
    assert sites["clt"] == 26
    without = {each.sae_id.partition("/")[0] for each in everything.values() if each.layer is None}
    assert without == {"embedding"}


@pytest.mark.parametrize("loader", BY_NAMES)
def test_what_names_tell_is_what_saelens_loader_reads_in_them(
    everything: dict[tuple[str, str], ListedDictionary], loader: str
) -> None:
    get_config = loaders.NAMED_PRETRAINED_SAE_CONFIG_GETTERS[loader]
    ours = [each for each in everything.values() if each.loader == loader]

    assert ours
    for each in ours:
        config = get_config(each.repository, each.path, "cpu")
        assert each.hook_name == config["hook_name"]
        assert (each.d_in, each.d_sae) == (config["d_in"], config["d_sae"]), each.spec
        assert each.architecture == config["architecture"]
        assert comparable(each.model) == comparable(config["model_name"])
        assert "hf_hook_name" not in config or hook_point_of(config["hf_hook_name"]), each.spec


def test_gemma_scope_2_is_read_as_saelens_loader_does_without_its_files(
    everything: dict[tuple[str, str], ListedDictionary], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_file(*_: object, **__: object) -> None:
        raise EntryNotFoundError

    shapes = {"w_enc": [8, 16], "w_dec": [16, 8]}
    monkeypatch.setattr(loaders, "hf_hub_download", no_file)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", lambda *_: shapes)
    for each in everything.values():
        if each.loader == "gemma_3":
            config = loaders.get_gemma_3_config_from_hf(each.repository, each.path, "cpu")
            assert each.hook_name == config["hook_name"]
            assert each.architecture == config["architecture"]
            assert comparable(each.model) == comparable(config["model_name"])
            for place in ("hf_hook_name", "hf_hook_name_out"):
                assert config.get(place) is None or hook_point_of(config[place]), each.spec


def test_counts_are_those_of_all_entries(
    everything: dict[tuple[str, str], ListedDictionary],
) -> None:
    for model, counts in counts_by_model().items():
        of_model = [each for each in everything.values() if each.model == model]
        assert counts == Counter((each.site, each.refusal) for each in of_model)


@pytest.mark.parametrize(
    ("spec", "l0", "size"),
    [
        ("gemma-scope-2-12b-it-res:layer_12_width_16k_l0_small", 17, "small"),
        ("gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical", 76, None),
        ("gemma-scope-9b-it-res:layer_20/width_131k/average_l0_13", 13, "small"),
        ("gemma-scope-9b-it-res:layer_20/width_131k/average_l0_24", 24, None),
        ("gemma-scope-9b-it-res:layer_20/width_131k/average_l0_43", 43, "medium"),
        ("gemma-scope-9b-it-res:layer_20/width_131k/average_l0_153", 153, "big"),
        ("qwen-scope-3-30b-a3b-base-w32k-l50:layer3", 50, "small"),
        ("qwen-scope-3-30b-a3b-base-w128k-l100:layer3", 100, "big"),
        ("mwhanna-qwen3-14b-transcoders-lowl0:layer_3", None, "small"),
        ("llama_scope_lxr_8x:l3r_8x", 50, None),
    ],
)
def test_l0s_are_compared_where_names_give_numbers(
    everything: dict[tuple[str, str], ListedDictionary],
    spec: str,
    l0: float | None,
    size: str | None,
) -> None:
    release, _, sae_id = spec.partition(":")

    assert (everything[release, sae_id].l0, everything[release, sae_id].l0_size) == (l0, size)


def test_a_clt_layer_writes_to_its_own_and_all_later_layers() -> None:
    first, last = (
        dictionary_named("mntss-gemma-2-2b-2.5m-clt-as-per-layer", f"layer_{layer}")
        for layer in (0, 25)
    )

    assert first is not None
    assert last is not None
    assert (first.layers, last.layers) == (26, 26)
    assert published_at(first.spec) == ("mntss/clt-gemma-2-2b-2.5M", "0", first.loader)


MALFORMED = """
  conversion_func: null
  model: gpt2-small
  repo_id: owner/saes
  saes:
  - id: whole
    path: whole
  - id: lacks_path
  - id: holds_a_release
    path: x
    saes:
    - id: inner
      path: y
"""


@pytest.fixture
def other_list(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A list of a release with malformed entries, and of releases that are malformed."""
    text = f"odd:{MALFORMED}no-saes:\n  model: gpt2\n  repo_id: a/b\nno-model:\n  repo_id: a/b\n"
    text += "no-yaml:\n  model: gpt2\n  repo_id: a/b\n  saes: ]\n"
    monkeypatch.setattr(registry, "package_file", lambda *_: text)
    cached = (registry.find_release, registry._texts, registry._models)  # noqa: SLF001
    for each in cached:
        each.cache_clear()
    yield
    monkeypatch.undo()
    for each in cached:
        each.cache_clear()


@pytest.mark.usefixtures("other_list")
def test_a_malformed_entry_is_one_line_and_harms_no_other() -> None:
    assert check_sae_spec("odd:whole") == "gpt2-small"
    for name in ("lacks_path", "holds_a_release"):
        with pytest.raises(SettingsError, match=f"--sae=odd:{name} is malformed in SAELens' list"):
            check_sae_spec(f"odd:{name}")
    for name in ("no-saes", "no-model", "no-yaml"):
        with pytest.raises(SettingsError, match=f"the release '{name}' is malformed") as caught:
            check_sae_spec(f"{name}:x")
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("other_list")
def test_a_malformed_release_hides_no_other_of_its_model() -> None:
    dictionaries_for.cache_clear()
    listed = dictionaries_for(frozenset({"gpt2"}))
    dictionaries_for.cache_clear()

    assert [(each.sae_id, each.refusal is None) for each in listed] == [
        ("whole", True),
        ("lacks_path", False),
        ("holds_a_release", False),
    ]
    (counts,) = counts_by_model().values()
    assert sorted(counts.values()) == [1, 2]
