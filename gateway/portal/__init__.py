"""The portal: what people see and do in a browser. Its pages call the functions of the APIs and hold no rules."""
