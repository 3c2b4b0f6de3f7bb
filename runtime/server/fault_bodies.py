"""What OpenAPI is told of `faults.body_of`: the bodies of answers that tell of a fault."""

from pydantic import BaseModel, ConfigDict


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FaultDetail(_Body):
    """What was wrong."""

    kind: str
    message: str
    field: str | None
    request_id: str


class FaultBody(_Body):
    """A fault in our own protocol."""

    error: FaultDetail


class WebuiFaultBody(_Body):
    """A fault in the webui's protocol."""

    error: str
    detail: str
    body: str
    errors: str


class OpenAiFaultDetail(_Body):
    """What was wrong, as OpenAI's package reads it."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAiFaultBody(_Body):
    """A fault in OpenAI's protocol."""

    error: OpenAiFaultDetail
