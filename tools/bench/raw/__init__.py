"""The raw limits: the least that Python must do over a plain socket, without safety of any kind."""
