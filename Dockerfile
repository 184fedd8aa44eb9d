# One image for every role: web, the workers, beat, Flower and the one-shot migration differ in their command only.

FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/venv
COPY requirements.txt constraints.txt ./
# what only the tests and `make servers` need stays out
RUN grep -vE "^(pytest[a-z-]*|pyyaml|schemathesis|honcho)==" requirements.txt >runtime.txt \
    && /opt/venv/bin/pip install -r runtime.txt \
    && /opt/venv/bin/pip uninstall --yes pip setuptools

FROM python:3.11.13-slim-bookworm
RUN groupadd --gid 10001 cloudmart && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin cloudmart
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv/cloudmart
COPY . .
RUN /opt/venv/bin/python -m compileall -q app cli durable_sagas migrations tasks web workflows
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000
ENTRYPOINT []
CMD ["gunicorn", "web:create_app()", "--bind", "0.0.0.0:8000", "--workers", "2"]
