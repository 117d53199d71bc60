"""Text descriptors: a vocabulary beside the SAE's that is read from a response's text alone, without a model.

Pure functions of text, linear in its length, the same for the same text on every machine. Imports nothing of the server.
"""

from assay_server.descriptors.reading import amounts, read
from assay_server.descriptors.vocabulary import DESCRIPTORS, INDEX, NOUNS, VERSION, Descriptor, by_id, present

__all__ = ["DESCRIPTORS", "INDEX", "NOUNS", "VERSION", "Descriptor", "amounts", "by_id", "present", "read"]
