"""The columns of a scores file, and how results become rows of it. One row for each row of the input, in its order.

| column                                                        | type                                       |
|---------------------------------------------------------------|--------------------------------------------|
| line                                                          | int64, never null                          |
| id                                                            | string                                     |
| tokens_prompt, _chosen, _rejected, _read, _shared, _truncated | int32                                      |
| by_max, by_freq                                               | list of {feature uint32, chosen, rejected} |
| chosen_features, rejected_features, prompt_features           | list of {feature uint32, max, freq}        |
| concepts                                                      | list of {name string, chosen, rejected}    |
| cache_state                                                   | string: hit, miss, shared, bypass          |
| tokenize_seconds, queue_, forward_, cache_                    | float                                      |
| error_reason, error_message                                   | string                                     |
| metadata                                                      | map of string to string                    |

Values without a type are floats. Where there is a score, the error columns are null; where there is an error, all but line,
id, metadata and the error columns are; the features columns are null where they were not requested. `line` is the row's
place in the input, from 1 (`assay.data`). A row of the input that holds no pair has its reason and message in the error
columns, and no id. Differences are ``chosen - rejected``; rankings come strongest first. In DuckDB:

    SELECT f.feature, avg(f.chosen - f.rejected) FROM (SELECT unnest(by_freq) AS f FROM 'scores.parquet') GROUP BY 1
"""

from collections.abc import Iterable, Mapping
from typing import Any

from assay.data import Row
from assay.extras import pyarrow
from assay.results import FeatureRanking, PairResult, PooledFeatures

Record = dict[str, Any]  # one row, by column

_TOKENS = ("prompt", "chosen", "rejected", "read", "shared", "truncated")
_SECONDS = ("tokenize", "queue", "forward", "cache")
# What differs between two runs over the same pairs; everything else is a function of pair, options and model.
UNSTABLE_COLUMNS = ("cache_state", *(f"{name}_seconds" for name in _SECONDS))


def schema() -> Any:
    """The pyarrow schema."""
    pa = pyarrow()
    ranking = pa.list_(_struct(pa, feature=pa.uint32(), chosen=pa.float32(), rejected=pa.float32()))
    pooled = pa.list_(_struct(pa, feature=pa.uint32(), max=pa.float32(), freq=pa.float32()))
    concepts = pa.list_(_struct(pa, name=pa.string(), chosen=pa.float32(), rejected=pa.float32()))
    return pa.schema(
        [
            pa.field("line", pa.int64(), nullable=False),
            ("id", pa.string()),
            *((f"tokens_{name}", pa.int32()) for name in _TOKENS),
            ("by_max", ranking),
            ("by_freq", ranking),
            ("chosen_features", pooled),
            ("rejected_features", pooled),
            ("prompt_features", pooled),
            ("concepts", concepts),
            ("cache_state", pa.string()),
            *((f"{name}_seconds", pa.float32()) for name in _SECONDS),
            ("error_reason", pa.string()),
            ("error_message", pa.string()),
            ("metadata", pa.map_(pa.string(), pa.string())),
        ]
    )


def record(row: Row, result: PairResult | None) -> Record:
    """The columns of one row: of its result, or of why it holds no pair. What is null is left out."""
    columns: Record = {"line": row.line}
    if row.pair is not None:
        columns["id"] = row.pair.id
        columns["metadata"] = dict(row.pair.metadata)
    if result is None:
        error = row.error
        return columns | {
            "error_reason": error.reason if error else "UNREADABLE",
            "error_message": error.message if error else "",
        }
    if result.score is None:
        failure = result.error
        return columns | {
            "error_reason": failure.reason if failure else "",
            "error_message": failure.message if failure else "",
        }
    return columns | _score_columns(result)


def table(records: Iterable[Record]) -> Any:
    """Records as a pyarrow table of the schema."""
    rows = list(records)
    wanted = schema()
    pa = pyarrow()
    arrays = [_column(pa, [row.get(field.name) for row in rows], field.type) for field in wanted]
    return pa.Table.from_arrays(arrays, schema=wanted)


def plain(row: Mapping[str, Any]) -> Record:
    """A row as JSON takes it: nulls left out, lists of columns as lists of objects, maps as objects."""
    out: Record = {}
    for name, value in row.items():
        if value is None:
            continue
        if name == "metadata":
            out[name] = dict(value)
        elif isinstance(value, Columns):
            out[name] = value.objects()
        else:
            out[name] = value
    return out


class Columns(dict[str, tuple[Any, ...]]):
    """A list of structs, kept as its columns: parallel tuples of one length."""

    def objects(self) -> list[dict[str, Any]]:
        """As a list of structs."""
        return [dict(zip(self, values, strict=True)) for values in zip(*self.values(), strict=True)]


def _score_columns(result: PairResult) -> Record:
    score = result.unwrap()
    columns: Record = {f"tokens_{name}": getattr(score.tokens, name) for name in _TOKENS}
    columns |= {f"{name}_seconds": getattr(score.timings, name) for name in _SECONDS}
    columns["cache_state"] = score.timings.cache_state.value
    columns["by_max"], columns["by_freq"] = _ranking(score.by_max), _ranking(score.by_freq)
    columns["concepts"] = Columns(
        name=tuple(one.name for one in score.concepts),
        chosen=tuple(one.chosen for one in score.concepts),
        rejected=tuple(one.rejected for one in score.concepts),
    )
    for name in ("chosen_features", "rejected_features", "prompt_features"):
        pooled: PooledFeatures | None = getattr(score, name)
        if pooled is not None:
            columns[name] = Columns(feature=pooled.indices, max=pooled.max, freq=pooled.freq)
    return columns


def _ranking(ranking: FeatureRanking) -> Columns:
    return Columns(feature=ranking.features, chosen=ranking.chosen, rejected=ranking.rejected)


def _struct(pa: Any, **types: Any) -> Any:
    return pa.struct([pa.field(name, kind, nullable=False) for name, kind in types.items()])


def _column(pa: Any, values: list[Any], kind: Any) -> Any:
    if not (pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)):
        return pa.array([list(value.items()) if isinstance(value, dict) else value for value in values], type=kind)
    # Field by field: a struct a value would cost a dictionary each.
    fields = list(kind.value_type)
    offsets: list[int | None] = []
    end = 0
    flat: list[list[Any]] = [[] for _ in fields]
    for value in values:
        offsets.append(None if value is None else end)
        if value is not None:
            for target, field in zip(flat, fields, strict=True):
                target.extend(value[field.name])
            end = len(flat[0])
    offsets.append(end)
    arrays = [pa.array(numbers, type=field.type) for numbers, field in zip(flat, fields, strict=True)]
    structs = pa.StructArray.from_arrays(arrays, fields=fields)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=kind)
