"""The gRPC face of the server: servicers that only translate. Protobuf types stop here."""
