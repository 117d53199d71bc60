"""The audited model: loading and verifying it with its SAE, texts to token trees, the forward pass, pooling.

Nothing here imports grpc, redis or protobuf.
"""
