# fake-credits as an image, from a clone: docker build -t fake-credits .
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir dist .

FROM python:3.13-slim
WORKDIR /fake-credits
COPY --from=build /src/dist dist
RUN python -m pip install --no-cache-dir dist/*.whl
USER 10001
EXPOSE 8402
HEALTHCHECK --interval=2s --timeout=5s --retries=15 \
    CMD fake-credits wait "http://127.0.0.1:${FAKE_CREDITS_PORT:-8402}" --timeout 2
ENTRYPOINT ["fake-credits", "serve", "--host", "0.0.0.0", "--expose"]
