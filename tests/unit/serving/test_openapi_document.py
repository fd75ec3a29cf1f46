"""The OpenAPI document is complete: every operation has its examples and problems, and the examples are true."""

import json

import jsonschema
import pytest

from lookalike.serving.schemas import SearchRequest
from lookalike.serving.sent_changes import read_changes

OPERATIONS = {
    ("post", "/v1/search"),
    ("get", "/v1/items/{item_id}/similar"),
    ("get", "/v1/items/{item_id}/picture"),
    ("get", "/v1/items/{item_id}"),
    ("get", "/v1/facets"),
    ("post", "/v1/catalogue/changes"),
    ("post", "/v1/feedback"),
    ("get", "/v1/release"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
}
SUCCESS = {"200", "202"}
LATER_MS = 1_800_000_000_000


@pytest.fixture
def document(client):
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def operations(document):
    return {(method, path): spec for path, item in document["paths"].items() for method, spec in item.items()}


def resolved(document, schema):
    return {"components": document["components"]} | schema


def test_it_lists_exactly_the_operations(document):
    assert set(operations(document)) == OPERATIONS


def test_every_operation_is_described(document):
    found = operations(document).values()
    assert len({spec["operationId"] for spec in found}) == len(OPERATIONS)
    for spec in found:
        assert spec["summary"] and spec["description"] and spec["tags"]
        for parameter in spec.get("parameters", ()):
            assert parameter["schema"]


def test_every_error_is_a_problem_document_with_a_true_example(document):
    problem = resolved(document, {"$ref": "#/components/schemas/Problem"})
    for (method, path), spec in operations(document).items():
        errors = {status: body for status, body in spec["responses"].items() if status not in SUCCESS}
        assert "500" in errors
        if path.startswith("/v1/"):
            assert "503" in errors
        for status, body in errors.items():
            assert set(body["content"]) == {"application/problem+json"}, (method, path, status)
            content = body["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            jsonschema.validate(content["example"], problem)
            assert content["example"]["status"] == int(status)


def test_every_answer_has_an_example_that_fits_its_schema(document):
    for (method, path), spec in operations(document).items():
        (answer,) = (body for status, body in spec["responses"].items() if status in SUCCESS)
        ((_, content),) = answer["content"].items()
        schema = resolved(document, content["schema"])
        example = content.get("example") or document["components"]["schemas"][schema["$ref"].split("/")[-1]]["example"]
        jsonschema.validate(example, schema)
        assert example, (method, path)


def test_the_examples_of_requests_are_valid_requests(document):
    body = operations(document)["post", "/v1/search"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    for example in body["application/json"]["examples"].values():
        SearchRequest.model_validate(example["value"])
        jsonschema.validate(example["value"], resolved(document, body["application/json"]["schema"]))
    SearchRequest.model_validate_json(body["multipart/form-data"]["example"]["query"])


def test_the_examples_of_changes_are_changes_that_are_taken(document, shared_kit):
    spec = operations(document)["post", "/v1/catalogue/changes"]
    assert spec["security"] == [{"adminKey": []}] and "adminKey" in document["components"]["securitySchemes"]
    body = spec["requestBody"]["content"]
    for example in body["application/json"]["examples"].values():
        jsonschema.validate(example["value"], resolved(document, body["application/json"]["schema"]))
        sent = read_changes(json.dumps(example["value"]).encode(), "application/json", LATER_MS, shared_kit.settings)
        assert sent.taken and not sent.refused
    lines = body["application/x-ndjson"]["example"].encode()
    assert len(read_changes(lines, "application/x-ndjson", LATER_MS, shared_kit.settings).taken) == 2


def test_every_reference_leads_somewhere(document):
    def references(value):
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    for reference in references(document):
        prefix, name = reference.rsplit("/", 1)
        assert prefix == "#/components/schemas" and name in document["components"]["schemas"], reference


def test_real_answers_have_the_keys_of_the_examples(document, client):
    for path in ("/healthz", "/v1/release", "/v1/facets", "/readyz"):
        example = operations(document)["get", path]["responses"]["200"]["content"]["application/json"]["example"]
        real = {key for key, value in client.get(path).json().items() if value is not None or key in example}
        assert real <= set(example), path
        assert set(example) - real <= {"refused"}, path
    item = operations(document)["get", "/v1/items/{item_id}"]["responses"]["200"]["content"]["application/json"]
    assert set(item["example"]) <= set(client.get("/v1/items/first:dog").json())
    answer = client.post("/v1/search", json={"parts": [{"text": "dog"}]}).json()
    example = document["components"]["schemas"]["SearchResponse"]["example"]
    assert set(answer) == set(example) and set(example["hits"][0]) == set(answer["hits"][0])
    assert set(example["hits"][0]["product"]) <= set(answer["hits"][0]["product"])
