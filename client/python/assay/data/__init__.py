"""Files of preference pairs that people already have, read as `assay.Pair`, row by row.

    for row in assay.data.open_pairs("pairs.jsonl.gz").rows():     every row, with its line, pair or error
    for pair in assay.data.read_pairs("pairs.parquet"):            the pairs alone; the first bad row raises
    for pair in assay.data.read_pairs("hh.jsonl", on_error=print): the pairs alone; bad rows go to the function

| kind of file                                     | told by                                     |
|--------------------------------------------------|---------------------------------------------|
| one JSON object a line                           | .jsonl .ndjson .json, and the same with .gz |
| one JSON array of objects                        | .json, .json.gz, where it starts with [     |
| Parquet                                          | .parquet (needs `assay[cli]`)               |
| a folder written by datasets' ``save_to_disk``   | a folder (needs `assay[cli]`)               |

What a row may look like is the table of `assay.data.formats`. Files are read as streams: memory does not grow with them.
"""

from assay.data.files import PairFile, Row, open_pairs, read_pairs
from assay.data.formats import Format, RowError, parse_row

__all__ = ["Format", "PairFile", "Row", "RowError", "open_pairs", "parse_row", "read_pairs"]
