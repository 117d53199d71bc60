# The server as a container: `docker build -t assay .`, then deploy/compose.yaml, or
#
#     docker run --read-only --tmpfs /tmp -v ./models:/models:ro -p 127.0.0.1:50151:50151 assay \
#         --host 0.0.0.0 --allow-insecure-public-bind --model /models/subject --sae /models/sae
#
# The server itself decides who may reach it: inside a container it has to bind more than loopback, which it refuses without
# TLS and a token, or the flag above, right where the port is published on loopback alone.

FROM python:3.11-slim-bookworm AS build

# The default index has PyTorch for NVIDIA GPUs; for a machine without one give PyTorch's CPU index, and save gigabytes.
ARG TORCH_INDEX_URL=""
ARG TORCH_VERSION=2.13.0

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/assay
ENV PATH=/opt/assay/bin:$PATH

# In order of how seldom they change: torch, what we depend on, our own code.
# The version is the build argument's.
# hadolint ignore=DL3013
RUN pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch==$TORCH_VERSION"
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY client/python client/python
COPY server server
# Our own tree, and the ranges that pyproject.toml states.
# hadolint ignore=DL3013
RUN pip install ".[server]" && python -m compileall -q /opt/assay/lib
COPY --chmod=0755 deploy/healthcheck.py /opt/assay/bin/assay-healthcheck


FROM python:3.11-slim-bookworm

RUN groupadd --gid 10001 assay \
    && useradd --uid 10001 --gid assay --home-dir /var/lib/assay --create-home --shell /usr/sbin/nologin assay
COPY --from=build /opt/assay /opt/assay

# Works with a read-only root: what is downloaded (only with --allow-download) goes to /var/lib/assay, nothing else is written.
ENV PATH=/opt/assay/bin:$PATH \
    HF_HOME=/var/lib/assay/huggingface \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER 10001:10001
WORKDIR /var/lib/assay
# gRPC; metrics and /healthz.
EXPOSE 50151 9151
# A large model takes minutes to load; until then the server answers NOT_SERVING.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --start-interval=2s --retries=3 \
    CMD ["python", "/opt/assay/bin/assay-healthcheck"]
# SIGTERM drains: accepted work is finished, for --drain-seconds at most.
STOPSIGNAL SIGTERM
ENTRYPOINT ["assay", "serve"]
