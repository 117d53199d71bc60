"""Resource names and the short texts of requests: their shapes, checked before anything looks them up.

Invariant: a name that passes is short and safe as part of a path; only the part of a condition's name that quotes a metadata
value may hold any character, and it is compared, never opened.
"""

import re

from assay_server.audit.shards import BY_MAX
from assay_server.errors import InvalidItem
from assay_server.rpc.specs import Bounds, unknown_feature

MAX_DISPLAY_BYTES = 256

_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # resources are named after it, and "audits/-" means all of them
_SHAPES = {
    "datasets/{id}": re.compile(f"datasets/{_ID}"),
    "audits/{id}": re.compile(f"audits/{_ID}"),
    "audits/{audit}/hypotheses/{id}": re.compile(f"audits/{_ID}/hypotheses/{_ID}"),
    "concepts/{id}": re.compile(f"concepts/{_ID}"),
    "operations/{id}": re.compile(f"operations/{_ID}"),
}
_PLAN = re.compile(r"plans/[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_INTERVENTION = re.compile(rf"({_PLAN.pattern})/interventions/([0-9]{{1,4}})")
_CONDITION = re.compile(f"audits/{_ID}/conditions/.{{1,4096}}", re.DOTALL)  # a metadata value may hold anything
_FEATURE = re.compile(r"feature/([0-9]{1,10})")
_CLUSTER = re.compile(r"cluster/[0-9]{1,10}")


def dataset_name(name: str, path: str) -> str:
    """The name, of the shape "datasets/{id}". Raises InvalidItem (INVALID_NAME)."""
    return _shaped(name, "datasets/{id}", path)


def audit_name(name: str, path: str) -> str:
    """The name, of the shape "audits/{id}". Raises InvalidItem (INVALID_NAME)."""
    return _shaped(name, "audits/{id}", path)


def hypothesis_name(name: str, path: str) -> str:
    """The name, of the shape "audits/{audit}/hypotheses/{id}". Raises InvalidItem (INVALID_NAME)."""
    return _shaped(name, "audits/{audit}/hypotheses/{id}", path)


def stored_concept_name(name: str, path: str) -> str:
    """The name, of the shape "concepts/{id}". Raises InvalidItem (INVALID_NAME)."""
    return _shaped(name, "concepts/{id}", path)


def operation_name(name: str, path: str) -> str:
    """The name, of the shape "operations/{id}". Raises InvalidItem (INVALID_NAME)."""
    return _shaped(name, "operations/{id}", path)


def plan_name(name: str, path: str) -> str:
    """The name, of the shape "plans/{id}". Raises InvalidItem (INVALID_NAME)."""
    if not _PLAN.fullmatch(name):
        raise InvalidItem(f'{path} is no plan\'s name; give "plans/{{id}}".', reason="INVALID_NAME", field=path)
    return name


def intervention_name(name: str, path: str) -> tuple[str, int]:
    """The plan's name and the intervention's id. Raises InvalidItem (INVALID_NAME)."""
    found = _INTERVENTION.fullmatch(name)
    if found is None:
        raise InvalidItem(
            f'{path} is no intervention\'s name; give "plans/{{plan}}/interventions/{{id}}".', reason="INVALID_NAME", field=path
        )
    return found.group(1), int(found.group(2))


def tested_concept_name(name: str, bounds: Bounds, path: str) -> str:
    """The name of a concept that can be stated: as ``concept_name``, "feature/17@max", or "text/ID" or "word/PHRASE", which the
    jobs look up.

    Raises:
        InvalidItem: as ``concept_name``; TEXT_TOO_LONG.
    """
    if name.startswith(("text/", "word/")):
        return short_text(name, path)
    feature = name.removesuffix(BY_MAX)
    if feature != name and _FEATURE.fullmatch(feature):
        return concept_name(feature, bounds, path) + BY_MAX
    return concept_name(
        name, bounds, path, '"concepts/{id}", "feature/17", "feature/17@max", "cluster/3", "text/ID" or "word/PHRASE"'
    )


def concept_name(name: str, bounds: Bounds, path: str, shapes: str = '"concepts/{id}", "feature/17" or "cluster/3"') -> str:
    """What can be tested: "concepts/{id}", "feature/17" of the loaded SAE, or "cluster/3".

    Args:
        name: as received.
        bounds: of the loaded subject.
        path: the field.
        shapes: what an error says can be given.

    Raises:
        InvalidItem: INVALID_NAME, or UNKNOWN_FEATURE.
    """
    if feature := _FEATURE.fullmatch(name):
        number = int(feature.group(1))
        if number >= bounds.d_sae:
            raise unknown_feature(number, bounds, path)
        return f"feature/{number}"
    if _CLUSTER.fullmatch(name):
        return f"cluster/{int(name.partition('/')[2])}"
    if _SHAPES["concepts/{id}"].fullmatch(name):
        return name
    raise _misshapen(shapes, name, path)


def audit_condition_name(name: str, path: str) -> str:
    """A condition of an audit: "audits/{audit}/conditions/{Condition.name}". Raises InvalidItem (INVALID_NAME)."""
    if not _CONDITION.fullmatch(name):
        raise _misshapen('"audits/{audit}/conditions/" and a Condition.name of that audit', name, path)
    return name


def request_id(id: str, path: str, *, required: bool = False) -> str:
    """The caller's request id, "" where none is given. Raises InvalidItem (INVALID_REQUEST_ID)."""
    if (id or required) and not _REQUEST_ID.fullmatch(id):
        raise InvalidItem(
            f'request_id takes {len(id)} characters; give 1 to 64 letters, digits, "-" and "_", a letter or digit first.',
            reason="INVALID_REQUEST_ID",
            field=path,
            details={"characters": len(id), "max_characters": 64},
        )
    return id


def short_text(text: str, path: str, *, most: int = MAX_DISPLAY_BYTES) -> str:
    """The text, of at most ``most`` bytes. Raises InvalidItem (TEXT_TOO_LONG)."""
    size = len(text.encode())
    if size > most:
        what = path.rsplit(".", maxsplit=1)[-1]
        raise InvalidItem(
            f"{what} takes {size} bytes; at most {most} are allowed.",
            reason="TEXT_TOO_LONG",
            field=path,
            details={"bytes": size, "max_bytes": most},
        )
    return text


def _shaped(name: str, shape: str, path: str) -> str:
    if not _SHAPES[shape].fullmatch(name):
        raise _misshapen(f'"{shape}"', name, path)
    return name


def _misshapen(shapes: str, name: str, path: str) -> InvalidItem:
    what = "is missing" if not name else "is no such name"
    return InvalidItem(
        f'{path} {what}; give {shapes}. An id is 1 to 128 letters, digits, "-" and "_".', reason="INVALID_NAME", field=path
    )
