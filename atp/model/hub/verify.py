"""Makes sure that no file is missing: a run's loaders read the downloaded files without the hub.

A model is loaded without its numbers: tokenizer, configuration, names and shapes of its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import AutoModelForCausalLM

from atp.errors import UnavailableError
from atp.model.dictionaries.loading import load_sae
from atp.model.hub.records import go_offline
from atp.model.loading import load_tokenizer, loading_errors, quiet_libraries
from atp.model.names import transformers_source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atp.model.hub.records import HubRequest


def verify_offline_load(requests: Iterable[HubRequest]) -> None:
    """Load everything as a run would; leaves the process offline."""
    go_offline()
    quiet_libraries()
    for request in requests:
        try:
            if request.published is None:
                source, options = transformers_source(request.name, request.revision)
                with loading_errors(request.name):
                    load_tokenizer(request.name, request.revision)
                    AutoModelForCausalLM.from_pretrained(source, **options, device_map="meta")
            else:
                load_sae(request.name)
        except UnavailableError as error:
            msg = f"every file known to be needed was downloaded, and yet {error.message}"
            hint = "If its repository is whole, this is a fault of atp: please report this line."
            raise UnavailableError(msg, hint) from error
