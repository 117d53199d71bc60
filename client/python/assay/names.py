"""Names of the server's resources, as callers give them and as requests carry them."""

import uuid
from pathlib import Path
from typing import Protocol

from assay.data.files import PairFile

PAGE_SIZE = 500


class Named(Protocol):
    """A result that is a resource: a dataset, an audit, a hypothesis, a concept, a plan."""

    @property
    def name(self) -> str:
        """Its resource name."""
        ...


def name_of(thing: Named | str) -> str:
    """The name of a resource given as an object or by name."""
    return thing if isinstance(thing, str) else thing.name


def resource(thing: Named | str, collection: str) -> str:
    """A resource's full name: "abc" of the collection "audits" is "audits/abc"."""
    name = name_of(thing)
    return name if name.startswith(f"{collection}/") else f"{collection}/{name}"


def optional_resource(thing: Named | str, collection: str) -> str:
    """The same; "" stays "", which a request reads as none or any."""
    return resource(thing, collection) if name_of(thing) else ""


def hypothesis_name(audit: str, hypothesis: str) -> str:
    """A hypothesis's full name, from its own or from its audit's and its id."""
    return hypothesis if hypothesis.startswith("audits/") else f"{resource(audit, 'audits')}/hypotheses/{hypothesis}"


def fresh_id() -> str:
    """A new unique request id."""
    return uuid.uuid4().hex


def file_name(source: object) -> str:
    """The name of a file of pairs; "" for other sources."""
    path = source.path if isinstance(source, PairFile) else source
    return Path(path).name if isinstance(path, str | Path) else ""
