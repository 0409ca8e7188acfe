#!/bin/sh
# Where containers of this image begin: Beam starts its workers with flags alone (--id=…,
# --provision_endpoint=… or --worker_pool); everybody else names a command.
case "${1:---help}" in
  --help | -h | --version) exec kmeans-job "${1:---help}" ;;
  -*) exec "${BEAM_BOOT:-/opt/apache/beam/boot}" "$@" ;;
  kmeans-job | kmeans-job-worker | python | python3 | bash | sh) exec "$@" ;;
  *) exec kmeans-job "$@" ;; # fit …, shard …
esac
