"""This service beside other model servers: the same model, the same requests, the same work."""
