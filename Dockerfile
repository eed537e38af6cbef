# syntax=docker/dockerfile:1
# The image of Token Sidecar: Debian's Python without a shell or a package manager, and one folder of ours.
#
# What this file has been through: no container engine was at hand where it was written, so the image itself has not
# been built. Its one step of substance, deploy/image/assemble, is run by tests/end_to_end/test_image_steps.py outside a
# container, which starts the sidecar from the folder that it makes. A release pins both bases by digest.

# The builder's Python has to be of the runtime's minor version, on the same C library: wheels and bytecode are made
# for one.
FROM python:3.13-slim-trixie AS builder
RUN apt-get update \
 && apt-get install --yes --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock ./
COPY deploy/image/assemble deploy/image/assemble
COPY sidecar sidecar
RUN PYTHON=python3.13 deploy/image/assemble /assembled /app

FROM gcr.io/distroless/python3-debian13:nonroot
LABEL org.opencontainers.image.title="token-sidecar" \
      org.opencontainers.image.description="Puts fresh OAuth 2.0 tokens on a workload's outbound requests" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /assembled /app
COPY LICENSE /licenses/LICENSE
ENV PYTHONPATH=/app \
    SIDECAR_CONFIG=/etc/token-sidecar/config.yaml
# distroless' nonroot user, by number, so that Kubernetes can see that it is not root.
USER 65532:65532
# 6180 is the usual forward listener, 6181 metrics and probes. Probes are HTTP: there is no HEALTHCHECK, which would
# start another Python every few seconds.
EXPOSE 6180 6181
# -P: nothing from the working directory is imported; -B: no bytecode is written, it is all there.
ENTRYPOINT ["/usr/bin/python3.13", "-P", "-B", "-m", "sidecar"]
CMD ["run"]
