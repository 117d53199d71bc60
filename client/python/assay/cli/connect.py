"""The flags of a connection, and the client made from them.

The token comes from the environment (ASSAY_TOKEN) or a file, never from the command line, where every process can read it.
"""

import argparse
import os
from pathlib import Path

from assay.client import Client
from assay.transport import DEFAULT_ADDRESS, Tls


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the group of flags."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--address",
        default=os.environ.get("ASSAY_ADDRESS", DEFAULT_ADDRESS),
        metavar="TEXT",
        help=f"host:port of the server (or ASSAY_ADDRESS; default {DEFAULT_ADDRESS})",
    )
    group.add_argument("--wait", type=float, default=0.0, metavar="N", help="seconds to wait for the server (default 0)")
    group.add_argument("--token-file", type=Path, metavar="PATH", help="file with the bearer token (or ASSAY_TOKEN)")
    group.add_argument("--tls", action="store_true", help="encrypt, trusting the system's authorities")
    group.add_argument("--ca", type=Path, metavar="PATH", help="encrypt, trusting the authorities of this PEM file")
    group.add_argument("--cert", type=Path, metavar="PATH", help="PEM file of this client's certificate")
    group.add_argument("--key", type=Path, metavar="PATH", help="PEM file of its private key")
    group.add_argument("--server-name", metavar="NAME", help="name expected in the server's certificate")
    group.add_argument("--allow-insecure-token", action="store_true", help="send the token unencrypted to another machine")


def connect(args: argparse.Namespace) -> Client:
    """The client that the flags describe; waits for the server with --wait."""
    token = args.token_file.read_text().strip() if args.token_file else os.environ.get("ASSAY_TOKEN")
    wants_tls = args.tls or args.ca or args.cert or args.key or args.server_name
    tls = Tls(args.ca, args.cert, args.key, args.server_name) if wants_tls else None
    client = Client(args.address, token=token, tls=tls, allow_insecure_token=args.allow_insecure_token)
    if args.wait > 0:
        try:
            client.wait_until_ready(args.wait)
        except BaseException:
            client.close()
            raise
    return client
