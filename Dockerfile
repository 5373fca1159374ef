# Parallax with CUDA: make docker-build, make docker-start-interactive (docs/long-runs.md).
# PyTorch's wheels bring their own CUDA libraries; the machine needs the driver and nvidia-container-toolkit.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04

# g++ and Python's headers compile the kernels of the photometric error; git names the revision of a run.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        g++ git python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# Files that a run writes into mounted folders belong to the user who built the image.
ARG UID=1000
ARG GID=1000
RUN (userdel --remove ubuntu || true) \
    && groupadd --non-unique --gid "$GID" parallax \
    && useradd --non-unique --uid "$UID" --gid "$GID" --create-home parallax \
    && mkdir -p /data /parallax/runs && chown parallax:parallax /data /parallax /parallax/runs

USER parallax
WORKDIR /parallax

# The requirements first: a change of the code does not install them again.
ENV VIRTUAL_ENV=/home/parallax/.venv
ENV PATH=/home/parallax/.venv/bin:$PATH
COPY --chown=parallax:parallax requirements.txt constraints.txt setup.py pyproject.toml ./
RUN python3 -m venv "$VIRTUAL_ENV" \
    && pip install --no-cache-dir --upgrade pip \
    && pip install --no-cache-dir -e ".[s3,wandb]" -c constraints.txt

COPY --chown=parallax:parallax . .

# Data sets are looked for here (--data_path wins); runs go to /parallax/runs. Both are mounted.
ENV PARALLAX_DATA=/data
VOLUME ["/data", "/parallax/runs"]
CMD ["python", "run.py", "--list"]
