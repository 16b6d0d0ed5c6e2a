"""The frame of every API: endpoints, callers, permissions, refusals, paging, validation, OpenAPI. Imports no API."""
