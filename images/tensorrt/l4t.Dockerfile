# The image of the tool tensorrt on a Jetson: images/Dockerfile with a Python beside the base's own. NVIDIA's L4T images of
# JetPack 4 are Ubuntu 18.04 with Python 3.6, which these tools do not run on; 3.8 is in its `universe`. Of the
# base's Python TensorRT's module is used, where it is for the version installed here (tools/tensorrt/bindings.py).
#
# TOOL     tensorrt
# LOCK     its lock file in images/tensorrt/
# PYTHON   version to install: 3.8 on Ubuntu 18.04 and 20.04, 3.10 on 22.04
# VERSION  the project's version
#
# Build secrets as in images/Dockerfile. NVIDIA's own package sources are left out: their key is of before 2022 in the
# older images, and nothing is needed of them.
ARG BASE=nvcr.io/nvidia/l4t-tensorrt:r8.2.1-runtime

FROM ${BASE} AS python
ARG PYTHON
RUN rm -f /etc/apt/sources.list.d/cuda*.list /etc/apt/sources.list.d/nvidia*.list \
    && apt-get update \
    && apt-get install --yes --no-install-recommends \
        python${PYTHON} python${PYTHON}-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/*

FROM python AS code
ARG TOOL
ARG PYTHON
COPY images /images
COPY tools /src/tools
RUN cd /src/tools \
    && for other in $(ls /images); do \
        if [ "${other}" != "${TOOL}" ]; then rm -rf "${other}" "${other}.py"; fi; \
    done \
    && find /src -exec touch --date=@0 {} + \
    && chmod -R a=rX,u+w /src \
    && python${PYTHON} -m compileall -q --invalidation-mode unchecked-hash /src

FROM python
ARG TOOL
ARG PYTHON
ARG LOCK
COPY images/${TOOL}/pip.txt images/${TOOL}/${LOCK} /opt/
# pip first: the one that Ubuntu 18.04's Python brings knows no packages for a glibc above 2.14.
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    if [ -s /run/secrets/pip ]; then export PIP_CONFIG_FILE=/run/secrets/pip; fi; \
    python${PYTHON} -m venv /opt/tool \
    && for lock in pip.txt ${LOCK}; do \
        /opt/tool/bin/pip install --disable-pip-version-check --no-input --only-binary :all: \
            --require-hashes --requirement /opt/${lock} || exit 1; \
    done \
    && /opt/tool/bin/pip uninstall --yes pip
COPY --from=code /src /opt/src
ENV TOOL=${TOOL} PYTHONPATH=/opt/src
ARG VERSION
LABEL org.opencontainers.image.title="mobile-accelerator/${TOOL}-l4t" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.licenses="Apache-2.0" \
    mobile-accelerator.tool="${TOOL}"
WORKDIR /work
USER 1000:1000
ENTRYPOINT ["/bin/sh", "-c", "exec /opt/tool/bin/python -m tools.${TOOL} \"$@\"", "sh"]
