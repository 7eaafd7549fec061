#!/usr/bin/python3
"""A stand-in where the real Grafana cannot be had: what role grafana asks of it, and no more.

`grafana server` answers /api/health and /api/user; `grafana cli … reset-admin-password` sets the
password that /api/user wants. Everything else about Grafana is untested by it.
"""

import base64
import configparser
import http.server
import json
import pathlib
import re
import ssl
import sys

arguments = dict(a.removeprefix("--").split("=", 1) for a in sys.argv if "=" in a)
settings = configparser.ConfigParser(interpolation=None)
settings.read(arguments["config"])
password_file = pathlib.Path(settings["paths"]["data"], "password")


def secret(name):
    path = re.fullmatch(r"\$__file\{(.+)\}", settings["security"][name])[1]
    return pathlib.Path(path).read_text().strip()


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/api/health":
            self.answer(200, {"database": "ok"})
        elif self.path == "/api/user":
            login = base64.b64encode(f"admin:{password_file.read_text()}".encode()).decode()
            known = self.headers.get("Authorization") == f"Basic {login}"
            self.answer(200 if known else 401, {})
        else:
            self.answer(404, {})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if "reset-admin-password" in sys.argv:
    password_file.write_text(sys.stdin.readline().rstrip("\n"))
elif not password_file.exists():
    password_file.write_text(secret("admin_password"))
if "server" in sys.argv:
    assert secret("secret_key")
    assert list(pathlib.Path(settings["paths"]["provisioning"]).glob("datasources/*.yml"))
    address = (settings["server"]["http_addr"], int(settings["server"]["http_port"]))
    server = http.server.ThreadingHTTPServer(address, Answers)
    if settings["server"]["protocol"] == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(settings["server"]["cert_file"], settings["server"]["cert_key"])
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
