FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /app
COPY requirements.lock ./
RUN /app/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY server server
COPY client client
RUN /app/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/agent-runtime runtime
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AGENT_RUNTIME_STATE_DIR=/var/lib/agent-runtime/state
USER 10001
WORKDIR /var/lib/agent-runtime
VOLUME /var/lib/agent-runtime
# gRPC, and health and metrics over HTTP
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["agent-runtime", "health"]
ENTRYPOINT ["agent-runtime"]
CMD ["serve", "--host", "0.0.0.0"]
