"""Servers that keep comments as GitHub and GitLab do, on this machine."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

GITHUB = ("/repos/owner/name/issues/7/comments", "/repos/owner/name/issues/comments")
GITLAB = ("/projects/group%2Fname/merge_requests/7/notes", "/projects/group%2Fname/merge_requests/7/notes")
SECRET = "secret-token-123"
"""What must be shown nowhere."""


class FakeServer:
    """Comments, who is asking, and every request that came.

    `refuse` maps (method, end of the path) to a status; `login` None stands for the token of a job, which may not ask
    who it is; `before_create` and `before_update` are called first, for what somebody else does at that moment.
    """

    def __init__(self, paths, login):
        self.list_path, self.one_path = paths
        self.login = login
        self.user = {"login": login or "github-actions[bot]", "id": 1}
        self.comments, self.requests, self.refuse = [], [], {}
        self.before_create = self.before_update = lambda: None
        self.url = ""

    def add(self, body, login=None):
        user = self.user if login is None else {"login": login, "id": abs(hash(login))}
        number = max((one["id"] for one in self.comments), default=100) + 1
        self.comments.append({"id": number, "body": body, "user": user, "author": user})
        return self.comments[-1]

    def answer(self, method, path, query, body):
        for (refused, end), status in self.refuse.items():
            if refused == method and path.endswith(end):
                return status, {"message": f"Resource not accessible by {SECRET}"}
        if path == "/user":
            return (
                (403, {"message": "Resource not accessible by integration"}) if self.login is None else (200, self.user)
            )
        if path == self.list_path and method == "GET":
            page, size = (int(query[name][0]) for name in ("page", "per_page"))
            assert size <= 100
            return 200, self.comments[(page - 1) * size : page * size]
        if path == self.list_path and method == "POST":
            self.before_create()
            return 201, self.add(body["body"])
        self.before_update()
        number = int(path.rpartition("/")[2])
        found = next((one for one in self.comments if one["id"] == number), None)
        if found is None or path != f"{self.one_path}/{number}":
            return 404, {"message": "Not Found"}
        if method == "DELETE":
            self.comments.remove(found)
            return 204, None
        found["body"] = body["body"]
        return 200, found

    @contextmanager
    def running(self):
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self):
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                fake.requests.append((self.command, self.path, dict(self.headers)))
                status, answer = fake.answer(self.command, parts.path, parse_qs(parts.query), body)
                text = b"" if answer is None else answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"{fake.url}/stolen")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_one)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
