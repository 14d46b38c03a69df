"""The proof that nothing is missing: the loaders of a run read what was fetched, without the hub.

Only they know all that they open. A model is loaded without its numbers: its tokenizer, its
configuration, the names and shapes of its weights. An SAE is loaded as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import AutoModelForCausalLM

from atp.errors import AtpError, UnavailableError
from atp.model.dictionaries.loading import load_sae
from atp.model.hub.records import go_offline
from atp.model.loading import cannot_load, load_tokenizer, quiet_libraries, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atp.model.hub.records import HubRequest


def verify_offline_load(asked: Iterable[HubRequest]) -> None:
    """Load everything as a run would; leaves the process offline.

    Raises:
        AtpError: something is missing, or is nothing that a run can use.
    """
    go_offline()
    quiet_libraries()
    for each in asked:
        try:
            if each.published is None:
                _read_model(each.name, each.revision)
            else:
                load_sae(each.name)
        except UnavailableError as error:
            msg = f"all that is known to be needed has come, and yet {error.message}"
            hint = "If its repository is whole, this is a fault of atp: please report this line."
            raise UnavailableError(msg, hint) from error


def _read_model(name: str, revision: str) -> None:
    source, options = source_of(name, revision)
    try:
        load_tokenizer(name, revision)
        AutoModelForCausalLM.from_pretrained(source, **options, device_map="meta")
    except AtpError:
        raise
    except Exception as error:  # the libraries raise what they like
        raise cannot_load(name, error) from error
