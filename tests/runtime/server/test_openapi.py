"""The OpenAPI document: schemathesis makes requests from it, and the answers have to fit it.

The requests are sound, or broken in what the document says of them.
"""

import contextlib
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from engines.bundle import Bundle
from tests.runtime.server.stub import Stub, live

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
EXAMPLES = 4


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_answers_are_what_the_document_says(stand_in_bundle: Bundle, mode: GenerationMode) -> None:
    stub = Stub(stand_in_bundle, max_steps=8, max_pixels=128 * 128, max_pictures=2, queue=10_000)
    with live(stub) as address, requests.Session() as client:
        document = schemathesis.openapi.from_dict(client.get(f"{address}/openapi.json").json())
        tried = 0
        for result in document.get_all_operations():
            assert isinstance(result, Ok)
            strategy = result.ok().as_strategy(generation_mode=mode)
            answers = _try(client, address, strategy)
            tried += bool(answers)
        assert tried > (30 if mode is GenerationMode.POSITIVE else 8)
        assert client.get(f"{address}/readyz").status_code == 200


def _try(client: requests.Session, address: str, strategy: Any) -> list[int]:
    """The statuses of a few requests, whose answers are checked."""
    seen: list[int] = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def run(case: Any) -> None:
        answer = case.call(session=client, base_url=address)
        case.validate_response(answer, checks=CHECKS)
        seen.append(answer.status_code)

    with contextlib.suppress(Unsatisfiable):  # nothing of it could be broken
        run()
    return seen
