"""What a client asks and gets: endpoints, bodies, validation, responses."""
