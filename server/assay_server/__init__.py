"""The Assay server: a language model and its sparse autoencoder behind gRPC.

Imports point one way: rpc -> scorer -> (batching, cache) -> subject -> errors and types. ``subject`` never imports grpc,
redis or protobuf; protobuf types stop at ``rpc``.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("assay")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
