"""One call to one model: fitting, structured, tried again, with a fallback."""
