"""
What a sandbox with an allowlist finds outside, in tests of it: servers that note what reaches them, and a resolver.
"""

import contextlib
import socket
import threading

import jail

__all__ = ["World"]


class World:
    """
    A server on 127.0.0.1 that may be reached and one on 127.0.0.2 that may not, at one port; and a resolver.
    """

    def __init__(self):
        self.good = socket.create_server(("127.0.0.1", 0))
        self.port = self.good.getsockname()[1]
        self.bad = socket.create_server(("127.0.0.2", self.port))
        self.heard = {"good": b"", "bad": b""}
        self.asked = []
        self.answers = {}
        self.threads = [threading.Thread(target=self._serve, args=(n,)) for n in self.heard]
        for thread in self.threads:
            thread.start()

    def _serve(self, name):
        while True:
            conn, _ = getattr(self, name).accept()
            with conn, contextlib.suppress(ConnectionError):
                data = conn.recv(4096)
                if data == b"end":
                    return
                self.heard[name] += data or b"(connected)"
                conn.sendall(b"answered")

    def resolve(self, name):
        """
        What it was told for a name; 127.0.0.1 for the rest.
        """
        self.asked.append(name)
        return self.answers.get(name, ["127.0.0.1"])

    def sandbox(self, *more, **fields):
        """
        One that may reach ok.test and what is below it.test on the port of both servers.
        """
        rules = [f"{name}:{self.port}" for name in ("ok.test", "*.it.test", "127.0.0.1", *more)]
        return jail.Sandbox(network=rules, resolver=self.resolve, **fields)

    def close(self):
        """
        End the servers.
        """
        for address in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((address, self.port)) as conn:
                conn.sendall(b"end")
        for thread in self.threads:
            thread.join()
        self.good.close()
        self.bad.close()
