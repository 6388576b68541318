# A server of driving policies, on port 8080, with nothing but what answering takes. Docker 23 or later builds it, or podman.
#
#   docker build -t carla-mlflow .                                           follows a registry: POLICY_MODEL=mine@production
#   docker build --build-arg ARTIFACT=examples/v0.1.0 -t racetrack .         holds one policy, verified and pinned
#
# BASE_IMAGE  a Python 3.11 on Debian
# TORCH       cpu; cuda, for policies of TorchScript on a GPU; none, for policies of ONNX alone
# OPENVINO    none; cpu, for policies whose card names the backend openvino, or for POLICY_BACKEND=openvino
# PIP_EXTRA_INDEX_URL  where torch's builds for the CPU are, if pip does not know yet
# GIT_SHA     the commit, for /healthz and the labels: --build-arg GIT_SHA=$(git rev-parse --short=12 HEAD)
# VERSION     of this package, for the labels
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS wheels
ARG TORCH=cpu
ARG OPENVINO=none
ARG PIP_EXTRA_INDEX_URL
RUN python -m venv /tools
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY deploy/image/wheels constraints.txt pyproject.toml hatch_build.py LICENSE ./
COPY carla_mlflow/__init__.py carla_mlflow/
RUN touch README.md && PIP=/tools/bin/pip TORCH=${TORCH} OPENVINO=${OPENVINO} ./wheels /wheels

# All that is not of this package: a change of its code leaves this layer, of more than a gigabyte, as it is. The list is
# for podman, which would take the layer for unchanged where only what is mounted has changed.
FROM ${BASE_IMAGE} AS dependencies
COPY --from=wheels /wheels/SHA256SUMS /opt/policy/
RUN --mount=type=bind,from=wheels,source=/tools,target=/tools --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    python -m venv --without-pip /opt/policy \
 && /tools/bin/pip --python /opt/policy/bin/python install --quiet --no-cache-dir --no-index --no-deps /wheels/*.whl \
 && rm -rf /opt/policy/lib/python3*/site-packages/torch/include /opt/policy/lib/python3*/site-packages/torch/share

FROM dependencies AS build
WORKDIR /build
ARG GIT_SHA
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY carla_mlflow carla_mlflow
COPY training_export training_export
COPY registry registry
COPY serve serve
RUN --mount=type=bind,from=wheels,source=/tools,target=/tools \
    /tools/bin/pip wheel --quiet --no-deps --wheel-dir /ours . \
 && /tools/bin/pip --python /opt/policy/bin/python install --quiet --no-index --no-deps --prefix /own /ours/*.whl

ARG ARTIFACT
COPY ${ARTIFACT:-LICENSE} /artifact/
RUN mkdir /policy /cache \
 && export PYTHONPATH=$(echo /own/lib/python3*/site-packages) \
 && if [ -n "${ARTIFACT}" ]; then /opt/policy/bin/python -m serve.bake /artifact /policy; fi \
 && chmod -R a+rX /policy

FROM dependencies
ARG GIT_SHA=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.title="carla-mlflow" \
      org.opencontainers.image.description="Serves a driving policy, verified, at the version that MLflow's registry says" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${GIT_SHA}"
COPY --from=build /own /opt/policy
COPY --from=build /policy /policy
COPY --from=build --chown=10001:10001 /cache /cache
ENV PATH=/opt/policy/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MLFLOW_DISABLE_TELEMETRY=true \
    POLICY_BAKED=/policy \
    POLICY_CACHE_DIR=/cache \
    POLICY_HOST=0.0.0.0 \
    POLICY_PORT=8080
USER 10001:10001
VOLUME /cache
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s CMD ["python", "-m", "serve.probe"]
ENTRYPOINT ["carla-serve"]
