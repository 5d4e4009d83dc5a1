# One image for web, worker, Flower and sandbox; what it runs is the command. It holds no secret and no configuration of
# yours: both come in through the environment (.env.example lists all of it).
FROM python:3.13-slim AS build
RUN python -m venv /opt/event-router
ENV PATH=/opt/event-router/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# The libraries first: they change less often than we do. Every file's hash is checked.
COPY requirements/runtime.txt requirements/
RUN pip install --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY tasks tasks
COPY config config
COPY cli cli
COPY sandbox sandbox
# setuptools is one of the locked versions, so nothing is fetched here.
RUN pip install --no-deps --no-build-isolation . && python -m compileall -q /opt/event-router

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin router \
 && install --directory --owner 10001 --mode 0700 /var/lib/event-router/spool /var/lib/event-router/flower
COPY --from=build /opt/event-router /opt/event-router
ENV PATH=/opt/event-router/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    SPOOL_FOLDER=/var/lib/event-router/spool
# A disk of the machine belongs there (docker-compose.yml): what is spooled must outlive the container.
USER 10001
WORKDIR /tmp
EXPOSE 8080
# Not to be exposed without a proxy that buffers request bodies: docs/adr/0004-web-server.md
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8080", "--http", "1", "--http1-buffer-size", "65536", "--no-ws", \
     "--workers", "2", "--blocking-threads", "4", "--respawn-failed-workers", "--workers-kill-timeout", "20", \
     "app.wsgi:app"]
