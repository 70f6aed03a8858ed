# The workflow with its pinned environment; results and data are mounted.
#   docker build -t essential-sparsity .
#   docker run --rm -v "$PWD/results:/opt/essential-sparsity/results" essential-sparsity make demo
# For Apptainer: apptainer build essential-sparsity.sif docker-daemon://essential-sparsity:latest
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/essential-sparsity
COPY . .
RUN make .venv/.installed
CMD ["make", "demo"]
