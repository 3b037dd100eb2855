# syntax=docker/dockerfile:1
# Two images of one project: `service` (listener, sweeper, command line; no PyTorch) and `worker` (all of it).
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS base
ENV PATH=/opt/litegpt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# The volume takes its owner from this folder the first time that it is mounted.
RUN groupadd --gid 10001 litegpt \
    && useradd --uid 10001 --gid litegpt --no-create-home --home-dir /tmp --shell /usr/sbin/nologin litegpt \
    && install -d -o litegpt -g litegpt -m 700 /var/lib/litegpt \
    && install -d -o litegpt -g litegpt /models

# What the project needs, without the project: a change of our code does not download anything again.
FROM base AS service-dependencies
WORKDIR /source
RUN python -m venv /opt/litegpt && touch README.md LICENSE
COPY pyproject.toml .
# The versions that the tests ran with (`make pins`).
COPY deploy/pins pins
RUN --mount=type=cache,target=/root/.cache/pip pip install --constraint pins/service.txt .

FROM service-dependencies AS worker-dependencies
# The address of another index for PyTorch, such as that of its CPU build; empty: PyTorch with CUDA.
ARG TORCH_INDEX=""
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" --constraint pins/worker.txt torch torchvision; fi \
    && pip install --constraint pins/worker.txt '.[worker]'

FROM service-dependencies AS service-build
COPY . .
RUN pip install --no-deps --force-reinstall .

FROM worker-dependencies AS worker-build
COPY . .
RUN pip install --no-deps --force-reinstall .

FROM base AS service
COPY --from=service-build /opt/litegpt /opt/litegpt
USER litegpt
WORKDIR /var/lib/litegpt
EXPOSE 11112
CMD ["litegpt-node", "--help"]

FROM base AS worker
# A hospital's worker fetches nothing by itself: models are folders under /models.
ENV HF_HUB_OFFLINE=1
COPY --from=worker-build /opt/litegpt /opt/litegpt
USER litegpt
WORKDIR /var/lib/litegpt
CMD ["celery", "-A", "worker.app", "worker", "--queues", "analysis,delivery", "--concurrency", "1"]
