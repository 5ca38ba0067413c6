# JupyterLab with the panel, for compose.yaml beside it. Every package is at a version of lock.txt, and has a hash that stands there.
ARG PYTHON_VERSION=3.13
ARG OLLAMA_VERSION=0.24.0

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all:
# WordLlama, of the extra `vectors`, has no wheel for Linux on ARM.
ARG EXTRAS="embedded panel documents multilingual train sheets postgres"
WORKDIR /source
RUN python -m venv /opt/cerebro && /opt/cerebro/bin/python -m pip install 'pip>=26.1,<27'
COPY settings.ini lock.txt ./
COPY scripts/requirements.py scripts/
RUN python scripts/requirements.py ${EXTRAS} > wanted.txt && /opt/cerebro/bin/python -m pip install -c lock.txt -r wanted.txt
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE NOTICE ./
COPY cerebro_nb cerebro_nb
RUN /opt/cerebro/bin/python -m pip install --no-deps --build-constraint lock.txt .

FROM python:${PYTHON_VERSION}-slim AS lab
# The folders are made here, so that the volumes that are laid over them belong to the user.
RUN useradd --uid 1000 --create-home cerebro && install --directory --owner cerebro --group cerebro /work /data
COPY --from=build /opt/cerebro /opt/cerebro
COPY --chown=cerebro nbs/tutorials /work/tutorials
ENV PATH=/opt/cerebro/bin:$PATH CEREBRO_DATA_DIR=/data PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /work
EXPOSE 8888
HEALTHCHECK --interval=10s --start-period=30s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8888/api', timeout=5)"]
# Inside the container it listens everywhere; compose.yaml lets in this machine alone, and who has the token.
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "--ServerApp.root_dir=/work"]

FROM ollama/ollama:${OLLAMA_VERSION} AS ollama
RUN install --directory --owner 1000 --group 1000 /models
ENV HOME=/models OLLAMA_MODELS=/models
USER 1000:1000
HEALTHCHECK --interval=10s --start-period=30s CMD ["ollama", "list"]
