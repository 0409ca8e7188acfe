#!/bin/sh
# Makes an empty Google Cloud project with billing ready for cloudbuild.yaml and `kmeans-job submit`:
#   sh deploy/vertex/setup.sh PROJECT REGION BUCKET
# Wherever gcloud is logged in, e.g. in Cloud Shell; again after an error: what exists stays.
set -eu
PROJECT=$1 REGION=$2 BUCKET=$3
BUILDER=kmeans-build@$PROJECT.iam.gserviceaccount.com
WORKER=kmeans-worker@$PROJECT.iam.gserviceaccount.com
export CLOUDSDK_CORE_PROJECT="$PROJECT"

gcloud services enable aiplatform.googleapis.com artifactregistry.googleapis.com \
  cloudbuild.googleapis.com compute.googleapis.com dataflow.googleapis.com

# `describe NAME || create NAME …`: a second run goes on where the first has ended.
gcloud artifacts repositories describe kmeans-job --location "$REGION" >/dev/null 2>&1 ||
  gcloud artifacts repositories create kmeans-job --repository-format docker --location "$REGION"
gcloud storage buckets describe "gs://$BUCKET" >/dev/null 2>&1 ||
  gcloud storage buckets create "gs://$BUCKET" --location "$REGION" \
    --uniform-bucket-level-access --soft-delete-duration 0
for account in "$BUILDER" "$WORKER"; do
  gcloud iam service-accounts describe "$account" >/dev/null 2>&1 ||
    gcloud iam service-accounts create "${account%%@*}"
done

# What submits: starts jobs that run as the worker, and writes to this bucket and repository only.
for role in dataflow.developer aiplatform.user logging.logWriter; do
  gcloud projects add-iam-policy-binding "$PROJECT" --member "serviceAccount:$BUILDER" \
    --role "roles/$role" --condition None
done
gcloud iam service-accounts add-iam-policy-binding "$WORKER" \
  --member "serviceAccount:$BUILDER" --role roles/iam.serviceAccountUser
gcloud artifacts repositories add-iam-policy-binding kmeans-job --location "$REGION" \
  --member "serviceAccount:$BUILDER" --role roles/artifactregistry.writer

# What runs: Dataflow's and Vertex AI's machines.
gcloud projects add-iam-policy-binding "$PROJECT" --member "serviceAccount:$WORKER" \
  --role roles/dataflow.worker --condition None
gcloud artifacts repositories add-iam-policy-binding kmeans-job --location "$REGION" \
  --member "serviceAccount:$WORKER" --role roles/artifactregistry.reader

# Both read and write objects; Beam also asks for the bucket itself.
for account in "$BUILDER" "$WORKER"; do
  for role in storage.objectUser storage.legacyBucketReader; do
    gcloud storage buckets add-iam-policy-binding "gs://$BUCKET" \
      --member "serviceAccount:$account" --role "roles/$role"
  done
done
