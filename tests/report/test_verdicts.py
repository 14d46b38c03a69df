"""The page has each verdict of an intervention in both languages, under the report's own words."""

from __future__ import annotations

from atp.intervention.metric_changes import verdict
from atp.report.texts import all_texts


def test_every_verdict_of_an_intervention_can_be_translated() -> None:
    def random(mean_change: float, *, separated: bool | None) -> dict[str, float | bool | None]:
        return {"mean_change": mean_change, "separated": separated}

    loss, gain = {"mean_change": -1.0}, {"mean_change": 1.0}
    verdicts = {
        verdict(loss, None),
        verdict(loss, random(0.1, separated=None)),
        verdict(loss, random(0.1, separated=False)),
        verdict(loss, random(-2.0, separated=True)),
        verdict(loss, random(0.1, separated=True)),
        verdict(gain, random(0.1, separated=True)),
    }
    texts = {
        text["en"] for key, text in all_texts().items() if key.startswith("intervention.verdict_")
    }
    assert verdicts == texts
