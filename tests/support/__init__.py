"""Helpers of several tests: small models, drawn crops, stand-ins for libraries, the command line in this process."""
