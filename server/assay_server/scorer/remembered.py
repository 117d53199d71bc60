"""Cache keys of texts seen before, so that a replay does not tokenise."""

from collections import OrderedDict
from hashlib import blake2b

from assay_server.scorer.types import Item, ScoreOptions
from assay_server.subject.types import Pair


class Remembered:
    """Cache keys of texts seen before, least recently used first out."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._keys: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, text: bytes) -> bytes | None:
        """The key of a text, by its digest."""
        key = self._keys.get(text)
        if key is not None:
            self._keys.move_to_end(text)
        return key

    def put(self, text: bytes, key: bytes) -> None:
        """Remember a text's key; may forget the least recently used."""
        self._keys[text] = key
        self._keys.move_to_end(text)
        if len(self._keys) > self._capacity:
            self._keys.popitem(last=False)


def text_digest(item: Item, options: ScoreOptions) -> bytes:
    """Digest of everything that an item's tree and key depend on, within one subject."""
    prompt = [item.prompt] if isinstance(item.prompt, str) else [part for m in item.prompt for part in (m.role, m.content)]
    answers = [item.chosen, item.rejected] if isinstance(item, Pair) else [item.response]
    kind = f"{type(item).__name__}/{type(item.prompt).__name__}/{options.truncation.value}"
    encoded = [part.encode("utf-8", "surrogatepass") for part in (kind, *prompt, *answers)]
    digest = blake2b(b"".join(len(part).to_bytes(8, "little") for part in encoded), digest_size=24)
    for part in encoded:
        digest.update(part)
    digest.update(options.directions.digest if options.directions is not None else b"")
    return digest.digest()
