# One image for everything: Beam's workers start it with flags, whoever runs a command names it.
FROM python:3.11-slim

# tensorflow[and-cuda] brings what NVIDIA GPUs need.
ARG TENSORFLOW=tensorflow

# Dependencies, which change seldom, come before the code; setup.py names them, and reads README.md
# and the version.
WORKDIR /opt/kmeans-job
COPY setup.py constraints.txt ./
RUN touch README.md \
    && mkdir job && echo '__version__ = "0"' > job/__init__.py \
    && pip install --no-cache-dir --constraint constraints.txt "${TENSORFLOW}" ".[gcp]" \
    && rm -rf build ./*.egg-info

COPY job job
COPY kmeans_job kmeans_job
COPY pipeline pipeline
RUN pip install --no-cache-dir --no-deps --force-reinstall . \
    && rm -rf build ./*.egg-info \
    && useradd --create-home --uid 1000 worker

COPY --from=apache/beam_python3.11_sdk:2.77.0 /opt/apache/beam /opt/apache/beam
COPY --chmod=755 deploy/entrypoint.sh /opt/kmeans-job/entrypoint.sh

# Beam's workers use the packages above, rather than make an environment of their own.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 PYTHONUNBUFFERED=1
WORKDIR /home/worker
USER worker
ENTRYPOINT ["/opt/kmeans-job/entrypoint.sh"]
