"""The engine on OpenVINO and its cache of compiled models."""
