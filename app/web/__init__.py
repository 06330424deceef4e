"""What a person sees: the web page and the API's documentation."""
