"""Settings that hold for every test, made before any library is imported."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that waits for a hub is a slow test; the pretrained parts come by pip
os.environ["OMP_NUM_THREADS"] = "1"
