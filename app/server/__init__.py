"""Between the socket and the endpoints: middleware, errors, logs, metrics. Knows no model."""
