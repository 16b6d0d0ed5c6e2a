"""The pages behind a link: how someone without an account here authorises a cloud connector."""
